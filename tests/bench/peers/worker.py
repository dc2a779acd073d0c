#!/usr/bin/env python3
"""The training process of scripts/bench_peers: runs one system through one task and writes what happened, a JSON line an event.

  worker.py TASK PEER --folder DIR --out FILE --megabytes N [--rounds K] [--step S]

Tasks: measure (saves and restores, timed), hold (saves step 1, then step 2, in which the driver kills it), flips (saves step 1),
load (loads step S and compares), full (fills a small tmpfs, makes room, saves again).
"""
import argparse
import importlib
import json
import pathlib
import shutil
import sys
import time
import traceback
import warnings

import torch

import catalogue
import probes
import state as states
import words

PATIENCE = 25  # seconds after which a save that should have failed is called a hang


class Training:
    """A loop whose steps are matrix products on one thread: enough to see what a save in flight takes from it."""

    def __init__(self):
        torch.set_num_threads(1)
        self._a, self._b, self._out = torch.rand(512, 512), torch.rand(512, 512), torch.empty(512, 512)
        self.step()
        self.plain = sorted(self.step() for _ in range(40))[20]

    def step(self):
        begin = time.perf_counter()
        torch.mm(self._a, self._b, out=self._out)
        return time.perf_counter() - begin


class Worker:
    def __init__(self, arguments):
        self.arguments = arguments
        self.out = open(arguments.out, "a", buffering=1)
        self.entry = catalogue.entry(arguments.peer)
        kind = getattr(importlib.import_module(self.entry.module), self.entry.kind)
        self.folder = pathlib.Path(arguments.folder)
        self.peer = kind(self.folder)
        self.base = states.make(arguments.megabytes)
        self.state = {name: tensor.clone() for name, tensor in self.base.items()}

    def tell(self, event, **more):
        self.out.write(json.dumps({"event": event, **more}) + "\n")

    def save(self, step, training=None, deadline=None):
        """One whole save beside training: seconds of stall, until done, and what training lost."""
        states.at_step(self.base, step, self.state)
        begin = time.perf_counter()
        self.peer.save(self.state, step)
        stall = returned = time.perf_counter() - begin
        lost = 0.0
        changed = False
        while True:
            asked = time.perf_counter()
            done = self.peer.done()
            stall += time.perf_counter() - asked
            if done:
                break
            if deadline and time.perf_counter() - begin > deadline:
                raise TimeoutError(f"nothing within {deadline} s")
            if training:
                lost += training.step() - training.plain
            else:
                time.sleep(0.001)
            if not changed:  # the next optimizer step, which must not reach the checkpoint
                self.change()
                changed = True
        return {"stall": stall, "returned": returned, "done": time.perf_counter() - begin, "added": max(0.0, stall + lost)}

    def change(self):
        for tensor in self.state.values():
            tensor.add_(0.5)

    def measure(self):
        size = states.size(self.arguments.megabytes)
        memcpy, fio_file = probes.Memcpy(size), self.folder.parent / "fio.bin"
        training = Training()
        self.peer.start()
        for round_ in range(self.arguments.rounds + 1):
            step = round_ + 1
            memcpy.seconds()  # brings the buffers back to where the last round left the caches
            figures = {"round": round_, "memcpy": memcpy.seconds(), "fio_write": probes.fio("write", fio_file, size)}
            figures.update(self.save(step, training))
            figures["sync"] = probes.sync_tree(self.peer.files(step))
            figures["durable"] = figures["done"] + figures["sync"]
            figures["bytes"] = probes.bytes_of(self.peer.files(step))
            figures["fio_read"] = probes.fio("read", fio_file, size)
            for kind in ("cold", "warm"):
                if kind == "cold":
                    figures["dropped"] = probes.drop_caches()
                figures[f"restore_{kind}"] = self.timed_load(step)
                figures[f"wrong_{kind}"] = states.differing(self.state, self.base, step)
            self.tell("round", **figures)
            if round_:
                old = self.peer.files(step - 1)
                shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        self.peer.close()

    def timed_load(self, step):
        for tensor in self.state.values():
            tensor.zero_()
        begin = time.perf_counter()
        self.peer.load(self.state, step)
        return time.perf_counter() - begin

    def hold(self):
        self.peer.start()
        for step in (1, 2):
            self.tell("begin", step=step, existing=[str(p) for p in self.folder.rglob("*") if p.is_file()])
            self.save(step)
            self.tell("saved", step=step)

    def flips(self):
        self.peer.start()
        self.save(1)
        probes.sync_tree(self.peer.files(1))
        self.tell("saved", step=1, files=str(self.peer.files(1)))
        self.peer.close()

    def load(self):
        self.peer.start()  # what fails here is no answer about the data
        try:
            self.timed_load(self.arguments.step)
        except BaseException as error:  # whatever a system throws at damaged data is its answer
            self.tell("refused", message=words.of(error))
        else:
            self.tell("loaded", wrong=states.differing(self.state, self.base, self.arguments.step))
        self.peer.close()

    def full(self):
        """Step 1 fits, step 2 does not, step 3 comes after the driver has made room."""
        self.peer.start()
        for step in (1, 2, 3):
            if step == 3:
                self.tell("full", wrong_before=self.wrong_after_load(1))
                sys.stdin.readline()
            try:
                self.save(step, deadline=PATIENCE)
            except TimeoutError as error:
                self.tell("hung", step=step, message=str(error))
            except BaseException as error:
                self.tell("failed", step=step, message=words.of(error), space=words.names_space(error))
            else:
                self.tell("saved", step=step, wrong=self.wrong_after_load(step) if step != 2 else None)
        self.peer.close()

    def wrong_after_load(self, step):
        """How many tensors come back wrong; all, if the step cannot be loaded."""
        try:
            self.timed_load(step)
        except Exception:
            traceback.print_exc()
            return len(self.base)
        return states.differing(self.state, self.base, step)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("task", choices=["measure", "hold", "flips", "load", "full"])
    options.add_argument("peer", choices=list(catalogue.PEERS))
    options.add_argument("--folder", required=True)
    options.add_argument("--out", required=True)
    options.add_argument("--megabytes", type=int, required=True)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--step", type=int, default=1)
    arguments = options.parse_args()
    warnings.filterwarnings("ignore")
    worker = Worker(arguments)
    try:
        getattr(worker, arguments.task)()
    except BaseException as error:
        traceback.print_exc()
        worker.tell("error", message=words.of(error))
        sys.exit(1)
    worker.tell("end")


if __name__ == "__main__":
    main()
