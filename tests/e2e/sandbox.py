"""A place of its own for one end-to-end test: data folder, sockets, temporary files and processes.

Everything that a test starts inherits the variable BELAY_TEST_SANDBOX, so that whatever is left afterwards is found in
/proc/*/environ, however it was started and whoever its parent is.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

TREE = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("BELAY_TEST_BIN", TREE / "build/dev/bin"))
MARK = "BELAY_TEST_SANDBOX"


def eventually(condition, seconds, what):
    """Waits until condition() is true; fails with the words `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.03)


class Process:
    """A process of the sandbox, as /proc shows it."""

    def __init__(self, pid):
        self.pid = pid
        self.command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        raw = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        self.environment = dict(word.split("=", 1) for word in raw.split("\0") if "=" in word)

    @property
    def name(self):
        return os.path.basename(self.command[0]) if self.command else ""

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def alive(self):
        try:
            return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            return False

    def __repr__(self):
        return f"{self.pid}:{' '.join(self.command)[:120]}"


class Sandbox:
    def __init__(self):
        # Short, because the path of a Unix socket has room for 107 bytes.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="bt-", dir="/tmp"))
        self.data = self.root / "data"
        self.temporary = self.root / "tmp"
        self.sockets = self.root / "run"
        for folder in (self.data, self.temporary, self.sockets):
            folder.mkdir(mode=0o700)
        self.mark = uuid.uuid4().hex
        self.shared_memory_before = set(os.listdir("/dev/shm"))
        self.mounts = []
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BELAY_", "OMPI_", "PMIX_", "PYTEST_")) and name != "OMP_NUM_THREADS"
        }
        self.environment.update(
            {MARK: self.mark, "BELAY_DATA_DIR": str(self.data), "XDG_RUNTIME_DIR": str(self.sockets),
             "TMPDIR": str(self.temporary), "HOME": str(self.root), "CUDA_VISIBLE_DEVICES": ""}
        )

    # -- starting things

    def start(self, *command, **options):
        """Starts a command; its stdout and stderr go to files that `output` reads."""
        index = len(list(self.root.glob("out-*")))
        out = open(self.root / f"out-{index}", "w+b")
        err = open(self.root / f"err-{index}", "w+b")
        environment = dict(self.environment, **options.pop("env", {}))
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                   env=environment, cwd=options.pop("cwd", self.root), start_new_session=True, **options)
        return Started(process, out, err)

    def belay(self, *words, **options):
        return self.start(BIN / "belay", *words, **options)

    def run(self, *words, seconds=120, **options):
        """`belay <words>` to its end."""
        return self.belay(*words, **options).wait(seconds)

    # -- looking

    def processes(self, name=None):
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                process = Process(int(entry))
            except OSError:
                continue
            if process.environment.get(MARK) == self.mark and process.alive() and name in (None, process.name):
                found.append(process)
        return found

    def trainers(self, name):
        """The training processes by rank (belay-rank and mpirun have no RANK of their own)."""
        return {int(p.environment["RANK"]): p for p in self.processes(name) if "RANK" in p.environment}

    def checkpoints(self, job="j", project="default"):
        """Committed checkpoint folders of the job, oldest first."""
        return sorted(path.parent for path in (self.data / project / job).glob("step-*/manifest.json"))

    def shards(self, checkpoint):
        return sorted(checkpoint.glob("*.safetensors"), key=lambda path: -path.stat().st_size)

    def socket_path(self):
        digest = hashlib.sha256(str(self.data).encode()).hexdigest()[:16]
        return self.sockets / "belay" / f"{digest}.sock"

    # -- ending

    def assert_nothing_left(self, seconds=15):
        """No process, no half-written file, no socket, no shared memory. A private belayd may linger for 2 s."""
        eventually(lambda: not self.processes(), seconds, lambda: f"processes are left: {self.processes()}")
        half = [p for p in self.data.rglob("*") if p.name.endswith(".tmp") or p.name == "manifest.deleted"]
        assert not half, f"half-written files are left: {half}"
        bare = [p for p in self.data.glob("*/*/step-*") if p.is_dir() and not (p / "manifest.json").exists()]
        assert not bare, f"uncommitted checkpoints are left: {bare}"
        sockets = [p for p in self.root.rglob("*") if p.is_socket()]
        assert not sockets, f"sockets are left: {sockets}"
        # Other runs beside this one: what a living process has mapped or was told of is theirs.
        fresh = set(os.listdir("/dev/shm")) - self.shared_memory_before
        eventually(lambda: not self._orphans(fresh), 20, lambda: f"shared memory is left: {self._orphans(fresh)}")

    @staticmethod
    def _orphans(names):
        orphans = set(names) & set(os.listdir("/dev/shm"))
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            for file in ("maps", "environ"):
                with contextlib.suppress(OSError):
                    text = (entry / file).read_text(errors="replace")
                    orphans -= {name for name in orphans if f"/dev/shm/{name}" in text}
        return orphans

    def close(self):
        for process in self.processes():
            with contextlib.suppress(OSError):
                process.kill()
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.processes(), 10, "")
        for mount in reversed(self.mounts):
            subprocess.run(["umount", "-l", str(mount)], check=False)
        shutil.rmtree(self.root, ignore_errors=True)


class Started:
    def __init__(self, process, out, err):
        self.process, self._out, self._err = process, out, err
        self.pid = process.pid

    def wait(self, seconds=120):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s: {self.process.args}\n{self.text()}") from None
        return self

    @property
    def status(self):
        return self.process.returncode if self.process.returncode >= 0 else 128 - self.process.returncode

    @staticmethod
    def _read(file):
        file.flush()
        return pathlib.Path(file.name).read_text(errors="replace")

    @property
    def out(self):
        return self._read(self._out)

    @property
    def err(self):
        return self._read(self._err)

    def text(self):
        return f"--- status {self.process.returncode}\n--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"

    def json(self):
        return json.loads(self.out)

    def signal(self, number):
        self.process.send_signal(number)

    def expect(self, *statuses):
        assert self.status in statuses, f"wanted status {statuses}\n{self.text()}"
        return self


def make_text(path, length=40000, seed=1):
    """A text with something to learn in it, the same every time."""
    generator = random.Random(seed)
    words = ["".join(generator.choice("etaoinshrdlu") for _ in range(generator.randint(2, 8))) for _ in range(200)]
    text = ""
    while len(text) < length:
        text += generator.choice(words) + generator.choice("    ,.\n")
    path.write_text(text[:length])
    return path


PYTHON = sys.executable
