"""The limits of this machine, taken right beside each save and restore."""
import json
import os
import pathlib
import subprocess
import time

DROP = pathlib.Path("/proc/sys/vm/drop_caches")


def fio(direction, target, size):
    """Seconds of one pass of O_DIRECT, 4 MiB requests, 16 in flight; a write makes a new file, as a checkpoint does, and syncs."""
    target = pathlib.Path(target)
    if direction == "write":
        target.unlink(missing_ok=True)
    command = ["fio", "--name=limit", f"--filename={target}", f"--rw={direction}", f"--size={size}", "--bs=4M", "--direct=1",
               "--ioengine=io_uring", "--iodepth=16", "--output-format=json"]
    if direction == "write":
        command.append("--end_fsync=1")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"fio exited {done.returncode}: {(done.stderr or done.stdout).strip()[:200]}")
    return json.loads(done.stdout)["jobs"][0][direction]["runtime"] / 1000


def drop_caches():
    """Whether the page cache could be dropped (root's right; not in every container)."""
    os.sync()
    try:
        DROP.write_text("3")
    except OSError:
        return False
    return True


def sync_tree(path):
    """Syncs a file or every file of a folder, then the folders, up to the one that holds it; returns the seconds it took."""
    path = pathlib.Path(path)
    begin = time.perf_counter()
    inside = sorted(path.rglob("*"), reverse=True) if path.is_dir() else []
    for each in [*inside, path, path.parent]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return time.perf_counter() - begin


def bytes_of(path):
    path = pathlib.Path(path)
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files)


class Memcpy:
    """One thread's copy between two buffers whose pages are in place."""

    def __init__(self, size):
        import torch

        self._from = torch.ones(size // 4)
        self._to = torch.zeros(size // 4)

    def seconds(self):
        begin = time.perf_counter()
        self._to.copy_(self._from)
        return time.perf_counter() - begin
