"""Runs of the real belay, mpirun and belayd. BELAY_BIN names the folder of the built programs."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import pytest

BIN = pathlib.Path(os.environ["BELAY_BIN"])
PATIENCE = 60


def wait_for(what, condition, seconds=PATIENCE):
    """Waits for an event that has no descriptor to wait on."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what() if callable(what) else what} did not happen within {seconds} s")


class Belay:
    """One data directory, and the runs in it. Every process started here carries `mark` in its environment."""

    def __init__(self, tmp_path):
        self.path = tmp_path
        self.data = tmp_path / "data"
        self.mark = f"BELAY_TEST_MARK={uuid.uuid4().hex}"
        self.environment = dict(os.environ)
        for name in list(self.environment):
            if name.startswith("BELAY_") and name != "BELAY_BIN":
                del self.environment[name]
        name, value = self.mark.split("=")
        self.environment[name] = value
        self.environment["BELAY_DATA_DIR"] = str(self.data)
        self.environment["BELAY_MAX_RESTARTS"] = "0"

    def start(self, *args, nohup=False, **environment):
        words = [arg if isinstance(arg, bytes) else str(arg) for arg in args]
        ignore = (lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) if nohup else None
        return subprocess.Popen([str(BIN / "belay"), *words], env={**self.environment, **environment}, cwd=self.path,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                errors="replace", start_new_session=True, preexec_fn=ignore)

    def call(self, *args, **environment):
        process = self.start(*args, **environment)
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def finish(self, process):
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def job_folder(self, job):
        return self.data / ".runs" / "default" / job

    def verdict(self, job, generation=None):
        folders = sorted(self.job_folder(job).glob("gen-*"), key=lambda p: int(p.name[4:]))
        folder = folders[-1] if generation is None else self.job_folder(job) / f"gen-{generation}"
        return json.loads((folder / "verdict.json").read_text())

    def processes(self):
        """(pid, command) of every live process with our mark."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if self.mark.encode() not in (entry / "environ").read_bytes():
                    continue
                if (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                    continue
                found.append((int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
            except OSError:
                continue
        return found

    def pids(self, word, *, program=False):
        """Pids whose command contains `word`; with program, only as the first word."""
        return [pid for pid, command in self.processes()
                if word in (command.split(" ")[0] if program else command)]

    def assert_nothing_left(self):
        wait_for("the end of every process", lambda: not self.processes())
        fresh = set(self.leftovers()) - set(self.leftovers_before)
        wait_for(lambda: f"the end of what the run left: {self.nobodys(fresh)}", lambda: not self.nobodys(fresh), 20)

    @staticmethod
    def leftovers():
        """Scratch folders of mpirun and the ranks' shared memory, of every run. (A run killed before mpirun was there leaves its
        empty folder to the next run.)"""
        folder = pathlib.Path(f"/tmp/belay-{os.getuid()}")
        if "XDG_RUNTIME_DIR" in os.environ:
            folder = pathlib.Path(os.environ["XDG_RUNTIME_DIR"]) / "belay"
        return [str(p) for p in [*folder.glob("r-*/a*"), *pathlib.Path("/dev/shm").glob("belay-*")]]

    def nobodys(self, paths):
        """Of these what is still there, and no living process was told of: other runs may be under way beside this one."""
        left = set(paths) & set(self.leftovers())
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            left -= {path for path in left if path in environment}
        return left


@pytest.fixture
def belay(tmp_path):
    harness = Belay(tmp_path)
    harness.leftovers_before = harness.leftovers()
    yield harness
    # A failed test must not leave its ranks to the next one.
    for pid, _ in harness.processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
