"""belay's side of faults.py: the same damage, done to a training loop under `belay run`, and what the next run says."""
import json
import re
import subprocess

import faults
import words
from belay_row import Belay
from room import RoomError, wait_for

SECONDS = 120
RESERVE_MIB = 64  # what belayd leaves free on every disk, beside what it keeps for itself


def reason(text):
    """Why belay did not take a checkpoint or did not save, in its own words."""
    found = re.findall(r'reason="((?:[^"\\]|\\.)*)"', text)
    return found[0].removeprefix("rank 0: ") if found else None


def committed(data):
    """Steps with a manifest, oldest first."""
    return sorted(int(p.parent.name.split(".")[0].removeprefix("step-")) for p in data.glob("default/j/step-*/manifest.json"))


def loaded(belay, megabytes, step):
    """What a run says that resumes and has no step left to do. belayd is new: nothing comes from its memory."""
    belay.room.kill()
    done = belay.run(*belay.training("--megabytes", megabytes, "--steps", step))
    if done.returncode == 0 and f"resuming from step {step}" in done.stderr and reason(done.stderr) is None:
        return {"event": "loaded", "wrong": belay.run("ckpt", "verify", "j").returncode}
    return {"event": "refused", "message": reason(done.stderr) or done.stderr.strip()[-300:]}


def flips(room, build, megabytes):
    belay = Belay(room, build)
    belay.must(*belay.training("--megabytes", megabytes, "--steps", 5, "--every", 5))
    folder = next(belay.data.glob("default/j/step-*"))

    def load():
        return loaded(belay, megabytes, 5)

    found = faults.flipped(faults.files_of(folder), load)
    faults.flip(faults.files_of(folder)[-1], 100)
    verify = belay.run("ckpt", "verify", "--dir", folder)
    return {**found, "verify": {"status": verify.returncode, "said": verify.stdout.strip()}}


def training(belay, megabytes):
    """A training that saves as fast as it can, until it is ended; its words go to the log."""
    log = belay.room.work / "training.log"
    with open(log, "w", encoding="utf-8") as out:
        command = belay.command(*belay.training("--megabytes", megabytes, "--steps", 100000, "--every", 5, "--batch", 8))
        process = belay.room.start(command, env=belay.environment, cwd=belay.room.work, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    return process, log


def half_written(data, size):
    """The folder of a step that is being written, once half of it is there and none of it counts yet."""
    for folder in data.glob("default/j/step-*"):
        try:
            written = sum(p.stat().st_size for p in folder.glob("*.safetensors*"))
        except OSError:
            continue
        if written >= size / 2 and list(folder.glob("*.tmp")) and not (folder / "manifest.json").exists():
            return folder
    return None


def killed(room, build, megabytes):
    belay = Belay(room, build)
    for _ in range(3):
        process, _ = training(belay, megabytes)
        wait_for(lambda: committed(belay.data), SECONDS, "the first checkpoint", every=0.01)
        folder = wait_for(lambda: half_written(belay.data, megabytes << 20), SECONDS, "half of a save on disk", every=0.001)
        room.kill()
        process.wait()
        if not (folder / "manifest.json").exists():
            break
    else:
        raise RoomError("each of 3 saves was over before it could be killed")
    left = [p for p in folder.iterdir() if p.is_file()]
    shared = room.shared_memory()
    leavings = faults.leavings(left, shared)
    names = [p.name for p in left]
    before = committed(belay.data)[-1]
    old = loaded(belay, megabytes, before)
    offered = json.loads(belay.must("ckpt", "list", "j", "--json"))["checkpoints"]
    new = {"event": "refused", "message": f"resuming from step {before}"}
    if len(offered) != 1:
        new = {"event": "loaded", "wrong": 1}
    if not folder.exists():
        leavings += ", removed by the next start"
    return {"cells": faults.killed_cells(old, new, leavings), "before": old, "new": new, "files_left": names, "shared": shared}


def full(room, build, megabytes):
    data = room.work / "small"
    own = 16  # its index and log
    room.mount(data, int(megabytes * 1.5) + RESERVE_MIB + own)
    belay = Belay(room, build, data)
    inside = room.inside(data)
    process, log = training(belay, megabytes)
    said = lambda: reason(log.read_text(errors="replace"))
    ended = lambda: process.poll() is not None
    wait_for(lambda: committed(inside) or ended(), SECONDS, "the first checkpoint", every=0.02)
    if not committed(inside):
        raise RoomError(f"the first save failed with room enough: {said() or log.read_text(errors='replace')[-300:]}")
    before = committed(inside)
    told = faults.answer(lambda: said() or ended(), 60)
    kept = belay.run("ckpt", "verify", "j").returncode if committed(inside) == before else 1
    room.mount(data, megabytes * 5 + RESERVE_MIB)
    later = not ended() and faults.answer(lambda: any(step > before[-1] for step in committed(inside)), 60)
    works = bool(later) and not ended()
    room.kill()
    process.wait()
    cells = ["training: a line, and it goes on" if told is not True and told else "NOBODY", "intact" if kept == 0 else "LOST",
             "work" if works else "NO", words.short(said() or "-")]
    return {"cells": cells, "second": said(), "verify_status": kept}
