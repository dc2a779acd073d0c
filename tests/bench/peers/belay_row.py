"""belay's own figures: bench_engine for copy, commit and restore, bench_stall for what a save takes from real training steps."""
import json
import os
import pathlib
import statistics

import probes
from room import RoomError

EVERY = 10  # steps between two saves of bench_stall
SOCKETS = "/dev/shm/run"


class Build:
    """A build folder's programs."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()

    def program(self, name):
        for place in ("bin", "bench"):
            path = self.folder / place / name
            if path.is_file():
                return path
        raise RoomError(f"{name} is not built in {self.folder.name}: run scripts/test, or give --build")


class Belay:
    """belay in a room."""

    def __init__(self, room, build, data=None):
        self.room, self.build = room, build
        self.data = pathlib.Path(data or room.work / "data")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BELAY_", "OMPI_", "PMIX_"))}
        # Away from the user's own belay. A socket's path has room for 107 bytes, and the checkout may lie deep: the room's
        # /dev/shm has a short name.
        self.environment = dict(kept, BELAY_DATA_DIR=str(self.data), XDG_RUNTIME_DIR=SOCKETS, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
        self.room.run(["mkdir", "-m", "700", "-p", SOCKETS], 20)

    def command(self, *words):
        return [self.build.program("belay"), *words]

    def run(self, *words, seconds=120):
        return self.room.run(self.command(*words), seconds, env=self.environment, cwd=self.room.work)

    def must(self, *words, seconds=120):
        done = self.run(*words, seconds=seconds)
        if done.returncode:
            raise RoomError(f"belay {words[0]} exited {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        return done.stdout

    def training(self, *flags):
        """The words that run a training loop."""
        return ["run", "-n", "1", "--job", "j", "--", self.build.program("bench_stall"), *flags]


def rounds(room, build, megabytes, count):
    """As measure.rounds: each round's figures, fio beside each, and the first round apart."""
    belay = Belay(room, build)
    size = megabytes << 20
    engine = engine_rounds(belay, size, count + 1)
    for figures, stall in zip(engine[1:], stalls(belay, megabytes, count), strict=True):
        figures.update(stall)
    return {"first": engine[0], "rounds": engine[1:], "state_bytes": size}


def engine_rounds(belay, size, count):
    """bench_engine anew for each round, so that fio can run right beside; its own first save warms the daemon's memory."""
    belay.must("daemon", "start")
    status = json.loads(belay.must("daemon", "status", "--json"))
    socket = status.get("socket") or status["daemon"]["socket"]
    target = belay.room.work / "fio.bin"
    found = []
    try:
        for round_ in range(count):
            limits = {"fio_write": probes.fio("write", target, size)}
            dropped = probes.drop_caches()
            done = belay.room.run([belay.build.program("bench_engine"), "--socket", socket, "--bytes", size, "--rounds", 2, "--tensors", 256],
                                  300, env=belay.environment)
            if done.returncode:
                raise RoomError(f"bench_engine exited {done.returncode}: {done.stderr.strip()[-300:]}")
            limits["fio_read"] = probes.fio("read", target, size)
            first, warm = map(json.loads, done.stdout.splitlines())
            engine = first if round_ == 0 else warm
            on_disk = sum(probes.bytes_of(p) for p in (belay.data / "default/bench").glob("step-*"))
            found.append({"round": round_, **limits, "dropped": dropped, "memcpy": engine["memcpy"], "copy": engine["copy"],
                          "done": engine["committed"], "durable": engine["committed"], "restore_cold": engine["restore_disk"],
                          "restore_warm": engine["restore_memory"], "bytes": on_disk})
    finally:
        belay.run("daemon", "stop")
    return found


def stalls(belay, megabytes, count):
    """Stall of each save inside a training loop. The first save warms up; after the last one no update waits."""
    out = belay.room.work / "stall.json"
    belay.must(*belay.training("--megabytes", megabytes, "--steps", EVERY * (count + 2), "--every", EVERY, "--out", out), seconds=600)
    return stall_rounds(json.loads(out.read_text()), EVERY, count)


def stall_rounds(result, every, count):
    """A save's stall is all time lost up to the next save, since one that finds its predecessor on the way to the disk is put
    off; `added` is what these steps took longer than plain ones, copy included. Pure."""
    limit = statistics.median(result["memcpy"])
    plain = statistics.median(s for i, s in enumerate(result["step"]) if i % every in range(3, 9))
    saves = [i for i in range(len(result["stall"])) if (i + 1) % every == 0][1:count + 1]
    return [{"stall": sum(result["stall"][i:i + every]), "stall_memcpy": limit,
             "added": max(0.0, sum(result["step"][i:i + every]) - plain * len(result["step"][i:i + every]))} for i in saves]
