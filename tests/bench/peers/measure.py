"""Speeds: one system's saves and restores, from a worker in a room; belay's come from belay_row."""
import pathlib
import subprocess

import state
from room import RoomError, events

HERE = pathlib.Path(__file__).resolve().parent


class Worker:
    """Starts the worker's tasks for one system."""

    def __init__(self, room, python, name, environment):
        self.room, self.python, self.name, self.environment = room, python, name, environment
        self.runs = 0

    def command(self, task, folder, megabytes, **options):
        self.runs += 1
        self.out = self.room.work / f"events-{self.runs}.jsonl"
        more = [word for key, value in options.items() for word in (f"--{key}", value)]
        return [self.python, HERE / "worker.py", task, self.name, "--folder", folder, "--out", self.out, "--megabytes", megabytes, *more]

    def run(self, task, folder, megabytes, seconds, **options):
        """The task's events; a worker that failed is an error with its own words."""
        folder.mkdir(exist_ok=True)
        done = self.room.run(self.command(task, folder, megabytes, **options), seconds, env=self.environment, cwd=self.room.work)
        told = events(self.out)
        failed = [e["message"] for e in told if e["event"] == "error"]
        if failed or not told or told[-1]["event"] != "end":
            raise RoomError(failed[0] if failed else f"the worker exited {done.returncode}: {done.stderr.strip()[-300:]}")
        return told

    def start(self, task, folder, megabytes):
        """The running task; what it prints goes to `log`."""
        folder.mkdir(exist_ok=True)
        command = self.command(task, folder, megabytes)
        self.log = self.room.work / f"log-{self.runs}.txt"
        with open(self.log, "w", encoding="utf-8") as log:
            return self.room.start(command, env=self.environment, cwd=self.room.work, stdin=subprocess.PIPE, stdout=log, stderr=log)


def rounds(worker, megabytes, count):
    """The figures of each round, the first (cold helpers, fresh memory) apart."""
    seconds = 120 + (count + 1) * (30 + megabytes // 8)
    told = [e for e in worker.run("measure", worker.room.work / "saves", megabytes, seconds, rounds=count) if e["event"] == "round"]
    wrong = [e for e in told if e["wrong_cold"] or e["wrong_warm"]]
    if wrong:
        raise RoomError(f"restored {wrong[0]['wrong_cold'] or wrong[0]['wrong_warm']} of {len(state.shapes(megabytes))} tensors wrong")
    return {"first": told[0], "rounds": told[1:], "state_bytes": state.size(megabytes)}
