"""The trainings that the tests interrupt: small, but slow enough to be caught in the middle."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal

from sandbox import BIN, Sandbox, eventually, make_text

STEPS = 240


@dataclasses.dataclass
class Training:
    """One of the example programs with a loss log, in a sandbox."""

    box: Sandbox
    kind: str
    ranks: int
    extra: tuple = ()
    every: int = 20
    keep: int = 3
    steps: int = STEPS

    @property
    def log(self) -> pathlib.Path:
        return self.box.root / "loss.jsonl"

    @property
    def program(self):
        return f"train_{self.kind}"

    def command(self):
        common = ["--steps", self.steps, "--seed", 7, "--loss-log", self.log, "--report-every", 50,
                  "--checkpoint-every", self.every, "--keep", self.keep]
        if self.kind == "gpt":
            text = self.box.root / "text"
            if not text.exists():
                make_text(text)
            own = ["--data", text, "--depth", 2, "--width", 48, "--heads", 4, "--context", 64, "--batch", 4,
                   "--dropout", 0.2, "--warmup", 20, "--validate-every", 70, "--validate-batches", 4, "--sample", 20]
        else:
            # The images that Debian installs, unless a machine has them elsewhere.
            elsewhere = os.environ.get("BELAY_TEST_IMAGES")
            own = [*(["--data", elsewhere] if elsewhere else []), "--limit", 1000, "--test-limit", 512, "--batch", 16, "--width", 4, "--warmup", 20]
        # Later words win over earlier ones, so that a test can change anything.
        return [BIN / self.program, *self._merged(own + common)]

    def _merged(self, words):
        options = dict(zip(words[::2], words[1::2]))
        options.update(zip(self.extra[::2], self.extra[1::2]))
        return [word for pair in options.items() for word in pair]

    def start(self, *flags, job="j", **options):
        name = ["--job", job] if job else []
        return self.box.belay("run", "-n", self.ranks, *name, *flags, "--", *self.command(), **options)

    def run(self, *flags, seconds=180, **options):
        return self.start(*flags, **options).wait(seconds)

    def lines(self):
        if not self.log.exists():
            return []
        return [line for line in self.log.read_text().split("\n") if line.endswith("}")]

    def reaches(self, step, started, seconds=90):
        """Waits until the loss of `step` is logged; fails at once if the run ends before."""

        def there():
            if started.process.poll() is not None and self.last() < step:
                raise AssertionError(f"ended before step {step}\n{started.text()}")
            return self.last() >= step

        eventually(there, seconds, lambda: f"step {step} (last: {self.last()})\n{started.text()}")

    def stands_between_two_saves(self, ranks, since=(4, 14)):
        """Stops the processes of `ranks` with SIGSTOP, at least and at most so many steps `since` a save was due."""

        def there():
            for rank in ranks.values():
                rank.kill(signal.SIGSTOP)
            if since[0] <= self.last() % self.every <= since[1]:  # the last snapshot is whole, the next one has not begun
                return True
            for rank in ranks.values():
                rank.kill(signal.SIGCONT)
            return False

        eventually(there, 60, "a step between two saves")

    def last(self):
        lines = self.lines()
        return json.loads(lines[-1])["step"] if lines else -1

    def save_log(self, path):
        shutil.copy(self.log, path)


def assert_whole(lines, steps=STEPS):
    assert [json.loads(line)["step"] for line in lines] == list(range(steps)), "each step exactly once, in order"


def assert_same_losses(lines, reference):
    """Line by line and digit by digit."""
    different = [(ours, theirs) for ours, theirs in zip(lines, reference) if ours != theirs]
    assert not different, f"{len(different)} of {len(reference)} losses differ, first: {different[0]}"
    assert len(lines) == len(reference)
