"""belayd and a saving program, and what must be true of them, known outside of both.

The expectation is made of what the saver was told, line by line, before either was killed: it never asks the daemon.
"""

import os
import pathlib
import signal
import subprocess
import time

from sandbox import BIN, TREE, eventually

SAVER = pathlib.Path(os.environ.get("BELAY_TEST_BUILD", TREE / "build/dev")) / "tests/crash_saver"
KEEP_LAST = 3


class Saver:
    """A `crash_saver save` whose words are read as they come."""

    def __init__(self, house, first, **options):
        command = [SAVER, "save", "--socket", house.socket, "--first", first, "--keep-last", KEEP_LAST]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), value]
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=house.box.environment, start_new_session=True)
        self.lines = []

    def read(self):
        """The next line; None at the end."""
        line = self.process.stdout.readline()
        if not line:
            return None
        self.lines.append(line.rstrip("\n"))
        return self.lines[-1]

    def read_until(self, beginning):
        while (line := self.read()) is not None:
            if line.startswith(beginning):
                return line
        raise AssertionError(f"the saver ended before it said {beginning!r}: {self.lines}")

    def answer(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self):
        """Its last lines, once it has ended by itself or was killed."""
        while self.read() is not None:
            pass
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the saver does not end: {self.lines}") from None

    def steps(self, word):
        return [int(line.split()[1]) for line in self.lines if line.startswith(word + " ")]


class House:
    """One data directory, the daemons that come and go on it, and the steps that must be there."""

    def __init__(self, box, drives=1):
        self.box = box
        self.also = [box.root / f"nvme{number}" for number in range(1, drives)]
        self.socket = box.root / "s"
        self.daemon = None
        self.acknowledged = []  # steps, oldest first
        self.newest_run = 0
        self.next_step = 1

    def start(self, faults=""):
        also = [word for folder in self.also for word in ("--also-data-dir", folder)]
        self.daemon = self.box.start(BIN / "belayd", "--data-dir", self.box.data, "--socket", self.socket, *also,
                                     env={"BELAY_FAULTS": faults} if faults else {})
        eventually(lambda: self.daemon.process.poll() is not None or self._answers(), 20,
                   lambda: f"belayd does not answer: {self.daemon.text()}")

    def _answers(self):
        return subprocess.run([SAVER, "check", "--socket", self.socket], env=self.box.environment, check=False,
                              capture_output=True).returncode == 0

    def kill(self):
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.process.wait(20)

    def stop(self):
        self.daemon.process.send_signal(signal.SIGTERM)
        self.daemon.wait(20).expect(0)

    def save(self, **options):
        return Saver(self, self.next_step, **options)

    def remember(self, saver):
        """What the saver was told before it ended."""
        self.acknowledged += saver.steps("committed")
        runs = saver.steps("run")
        assert all(run > self.newest_run for run in runs), f"a generation came twice: {runs} after {self.newest_run}"
        self.newest_run = max([self.newest_run, *runs])
        # The step after the last acknowledged one may have been committed unheard; it is not saved again.
        self.next_step = max([0, *self.acknowledged, *saver.steps("failed")]) + 2

    def check(self, *options):
        """Restores all that is there. Returns the committed steps, oldest first."""
        def run():
            return subprocess.run([str(word) for word in (SAVER, "check", "--socket", self.socket, *options)],
                                  env=self.box.environment, check=False, capture_output=True, text=True, timeout=60)

        done = run()
        deadline = time.monotonic() + 5
        # The generation of one that died while it began is on its way to the disk: until then the job is not free.
        while done.returncode != 0 and "is just beginning" in done.stdout and time.monotonic() < deadline:
            done = run()
        assert done.returncode == 0, done.stdout + done.stderr
        words = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        damaged = [line for line in done.stdout.splitlines() if line.startswith("damaged")]
        assert not damaged, damaged
        runs = [int(word[1]) for word in words if word[0] == "run"]
        assert all(run > self.newest_run for run in runs), f"a generation came twice: {runs} after {self.newest_run}"
        self.newest_run = max([self.newest_run, *runs])
        return sorted(int(word[1]) for word in words if word[0] == "whole")

    def assert_nothing_lost(self):
        """Every acknowledged step that retention may not have taken is there, and every step that is there is whole."""
        found = self.check("--begin", 1)
        last = self.acknowledged[-1] if self.acknowledged else 0
        unheard = [step for step in found if step > last]
        wanted = self.acknowledged[-(KEEP_LAST - len(unheard)):] if len(unheard) < KEEP_LAST else []
        lost = [step for step in wanted if step not in found]
        assert not lost, f"lost: {lost}; acknowledged were {self.acknowledged[-5:]}, found {found}"
        assert not self.acknowledged or found[-1] >= last
        if unheard:  # everybody has seen them now
            self.acknowledged += unheard
            self.next_step = max(self.next_step, unheard[-1] + 1)
        # The run that has begun meanwhile has swept; what of the killed one is still being written goes when that ends.
        eventually(lambda: not self._left(), 10, lambda: f"left over: {self._left()}")

    def _left(self):
        half = [path for path in self.box.data.rglob("*") if path.name.endswith(".tmp") or path.name == "manifest.deleted"]
        bare = [path for path in self.box.data.glob("*/*/step-*") if not (path / "manifest.json").exists()]
        # What lies on another drive belongs to the checkpoint in the data directory that links to it.
        stray = [path for folder in self.also for path in folder.glob("*/*/step-*/*")
                 if not (link := self.box.data / path.relative_to(folder)).is_symlink() or link.readlink() != path]
        return [path for path in half + bare + stray if ".belayd" not in path.parts]  # where RocksDB has names of its own
