"""What becomes of a system's checkpoints when bytes change, processes are killed and the disk fills up: tried, not claimed.

Each returns {"cells": what the table shows, and what it was made from}.
"""
import pathlib

import probes
import state
import words
from room import RoomError, events, wait_for

PLACES = (0.25, 0.5, 0.75)
SECONDS = 120
SPACE = {"said": "", "chained": " (full disk: in the chained exception only)", "never": " (never names the full disk)"}


def place_in(sizes, fraction):
    """Which file, and where in it, lies at this fraction of all bytes. Pure."""
    offset = int(sum(sizes) * fraction)
    for index, size in enumerate(sizes):
        if offset < size:
            return index, offset
        offset -= size
    raise ValueError("no bytes at all")


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def files_of(path):
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def loaded(worker, folder, megabytes, step):
    """What a fresh process says that loads the step."""
    return next(e for e in worker.run("load", folder, megabytes, SECONDS, step=step) if e["event"] in ("loaded", "refused"))


def flips(worker, megabytes):
    folder = worker.room.work / "flips"
    saved = next(e for e in worker.run("flips", folder, megabytes, SECONDS) if e["event"] == "saved")
    worker.room.kill()
    worker.room.clear_shared_memory()
    return flipped(files_of(pathlib.Path(saved["files"])), lambda: loaded(worker, folder, megabytes, 1))


def flipped(files, load):
    """Loads untouched, then with a byte changed at each place."""
    whole = load()
    if whole["event"] != "loaded" or whole["wrong"]:
        raise RoomError(f"does not load undamaged either: {whole}")
    answers = []
    for fraction in PLACES:
        index, offset = place_in([p.stat().st_size for p in files], fraction)
        flip(files[index], offset)
        answers.append(load())
        flip(files[index], offset)
    return {"cells": flip_cells(answers), "answers": answers}


def flip_cells(answers):
    noticed = [a for a in answers if a["event"] == "refused"]
    wrong = [a for a in answers if a["event"] == "loaded" and a["wrong"]]
    said = words.short(noticed[0]["message"]) if noticed else f"loads without a word; {wrong[0]['wrong']} tensor wrong" if wrong else "-"
    return [f"{len(noticed)} of {len(answers)}" + (", SILENT" if wrong else ""), said]


def killed(worker, megabytes):
    size = state.size(megabytes)
    for attempt in range(3):
        folder = worker.room.work / f"killed-{attempt}"
        process = worker.start("hold", folder, megabytes)
        out = worker.out
        has = lambda event, step: any(e["event"] == "error" or (e["event"] == event and e["step"] == step) for e in events(out))
        wait_for(lambda: has("begin", 2), SECONDS, "the second save", every=0.01)
        before = probes.bytes_of(folder)
        wait_for(lambda: probes.bytes_of(folder) >= before + size // 2 or has("saved", 2), SECONDS, "half of the second save on disk")
        worker.room.kill()
        process.wait()
        if any(e["event"] == "error" for e in events(out)):
            raise RoomError(events(out)[-1]["message"])
        if not has("saved", 2):
            break
    else:
        raise RoomError("each of 3 saves was over before it could be killed")
    shared = worker.room.shared_memory()
    existing = next(e["existing"] for e in events(out) if e["event"] == "begin" and e["step"] == 2)
    left = [p for p in files_of(folder) if str(p) not in existing]
    old, new = (loaded(worker, folder, megabytes, step) for step in (1, 2))
    return {"cells": killed_cells(old, new, leavings(left, shared)), "before": old, "new": new, "files_left": [p.name for p in left], "shared": shared}


def leavings(files, shared):
    found = [f"{len(files)} file{'s' * (len(files) != 1)}, {sum(p.stat().st_size for p in files) >> 20} MiB"] if files else []
    if sum(shared.values()) >> 20:
        found.append(f"/dev/shm {sum(shared.values()) >> 20} MiB")
    return "; ".join(found) or "nothing"


def verdict(answer):
    if answer["event"] == "refused":
        return "refused"
    return "SILENTLY WRONG" if answer["wrong"] else "intact"


def killed_cells(old, new, left):
    said = words.short(new["message"]) if new["event"] == "refused" else "-"
    return [verdict(old), {"intact": "complete"}.get(verdict(new), verdict(new)), left, said]


def full(worker, megabytes):
    folder, size = worker.room.work / "full", state.size(megabytes) / (1 << 20)
    worker.room.mount(folder, int(size * 1.5) + 4)
    process = worker.start("full", folder, megabytes)
    out, log = worker.out, worker.log
    told = lambda step: next((e for e in events(out) if e.get("step") == step or e["event"] == "error"), None)
    has = lambda event: any(e["event"] in (event, "error") for e in events(out))
    second = answer(lambda: told(2), 60)
    reached = answer(lambda: has("full"), 60)
    worker.room.mount(folder, int(size * 5))
    third = None
    if reached:
        process.stdin.write("\n")
        process.stdin.flush()
        third = answer(lambda: told(3), 60)
    worker.room.kill()
    process.wait()
    first = told(1)
    if first is None or first["event"] != "saved":
        raise RoomError(f"the first save failed with room enough: {first and first.get('message')}")
    before = next((e["wrong_before"] for e in events(out) if e["event"] == "full"), None)
    log_line = words.line_about_failure(log.read_text(errors="replace"))
    return {"cells": full_cells(second, before, third, log_line), "second": second, "wrong_before": before, "third": third, "log": log_line}


def answer(condition, seconds):
    try:
        return wait_for(condition, seconds, "", every=0.02)
    except RoomError:
        return None


def full_cells(second, wrong_before, third, log_line):
    if second and second["event"] == "failed":
        told, said = "training: an exception", words.short(second["message"], 80) + SPACE[second["space"]]
    elif second and second["event"] == "saved":
        told, said = "NOBODY: called saved", "-"
    else:
        told = "NOBODY: training waits" + ("; a log line" if log_line else "")
        said = log_line or "-"
    before = "not established" if wrong_before is None else "LOST" if wrong_before else "intact"
    later = "work" if third and third["event"] == "saved" and not third["wrong"] else "NO"
    if later == "NO" and third:
        later = f"NO: {third['event']}"
    return [told, before, later, words.short(said)]
