"""A place for one system: processes in it see /dev/shm and process ids of their own, and end when it does.

Mount and process namespaces, so that the kernel itself sees to it that nothing is left, whoever is killed; and so that what a
killed system leaves in shared memory can be counted although other programs run beside it.
"""
import json
import os
import pathlib
import shutil
import subprocess
import time


class RoomError(RuntimeError):
    pass


class Room:
    def __init__(self, work):
        self.work = pathlib.Path(work)
        self.work.mkdir()
        # A user namespace makes one root inside; who is root already must stay so, for the right to drop the page cache.
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        # With SIGCHLD ignored the kernel reaps what the room's first process inherits. It ends with its stdin: with the driver.
        inside = 'mount -t tmpfs tmpfs /dev/shm && trap "" CHLD && echo ready && exec cat'
        self._holder = subprocess.Popen(["unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._holder.stdout.readline() != "ready\n":
            self._holder.stdin.close()
            said = self._holder.stderr.read().strip()
            self._holder.wait()
            raise RoomError(f"no namespaces for it here (unshare: {said})")
        pid = self._holder.pid
        self._first = int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        self._enter = ["nsenter", f"--target={self._first}", "--mount", "--pid", *(["--user", "--preserve-credentials"] if user else []), "--"]
        self.root = pathlib.Path(f"/proc/{self._first}/root")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._holder.stdin.close()
        try:
            self._holder.wait(10)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        shutil.rmtree(self.work, ignore_errors=True)

    def start(self, command, **options):
        return subprocess.Popen([*self._enter, *map(str, command)], text=True, **options)

    def run(self, command, seconds, **options):
        """To its end, or until so many seconds have passed; then everything in the room is killed."""
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            process.communicate()
            raise RoomError(f"no answer within {seconds} s") from None
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def kill(self):
        """SIGKILL to everything in the room at once, as when a node's memory runs out or its job is ended."""
        subprocess.run([*self._enter, "sh", "-c", "kill -9 -1"], check=False, capture_output=True)
        wait_for(lambda: not self.processes(), 10, "processes ended by SIGKILL")

    def processes(self):
        """Names of what runs in the room, beside its first process."""
        found = []
        for entry in (self.root / "proc").glob("[0-9]*"):
            try:
                name, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            if entry.name != "1" and rest.split()[0] not in "ZX" and name not in ("nsenter", "sh"):
                found.append(name)
        return found

    def shared_memory(self):
        """Names and sizes of what lies in the room's /dev/shm."""
        return {p.name: p.stat().st_size for p in (self.root / "dev/shm").iterdir() if p.is_file()}

    def clear_shared_memory(self):
        for path in (self.root / "dev/shm").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def mount(self, target, megabytes):
        """A tmpfs of this size that only the room sees; a second time: its new size."""
        pathlib.Path(target).mkdir(exist_ok=True)
        mounted = str(target) in (self.root / "proc/1/mounts").read_text()
        options = ("remount," if mounted else "") + f"size={megabytes}m"
        done = self.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", target], 20)
        if done.returncode:
            raise RoomError(f"no small file system here: {done.stderr.strip()}")

    def inside(self, path):
        """The path as seen from outside, mounts of the room included."""
        return self.root / str(path).lstrip("/")


def wait_for(condition, seconds, what, every=0.002):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise RoomError(f"not within {seconds} s: {what}")
        time.sleep(every)


def events(path):
    """What a worker has told so far; a line that is being written does not count yet."""
    try:
        lines = pathlib.Path(path).read_text().split("\n")[:-1]
    except OSError:
        return []
    return [json.loads(line) for line in lines]
