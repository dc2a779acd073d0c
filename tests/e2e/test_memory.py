"""Peak memory: one staging copy of the state, no second one hidden in the trainer or in belayd."""

import contextlib
import os
import pathlib
import re
import subprocess

import pytest

from training import Training

STATE_MIB = 80  # width 512, depth 2: 6.6 million parameters, times 12 bytes with AdamW's two moments


def anonymous_mib(pid):
    """A counter of the kernel; smaps would walk every page and hold up the trainer's own page faults meanwhile."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", text, re.M).group(1)) / 1024


def memfd_mib(processes):
    """All memory files that any of the processes holds, each counted once."""
    sizes = {}
    for process in processes:
        for entry in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if "memfd:" in os.readlink(entry):
                    stat = os.stat(entry)
                    sizes[stat.st_ino] = stat.st_blocks * 512
    return sum(sizes.values()) / (1 << 20)


def ended_within(process, seconds):
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def peaks(box, every):
    training = Training(box, "gpt", 1, every=every, steps=60,
                        extra=("--width", 512, "--batch", 2, "--context", 32, "--validate-every", 0, "--sample", 0))
    run = training.start()
    peak = {"memfd": 0.0, "trainer": 0.0, "belayd": 0.0}
    while not ended_within(run.process, 0.01):
        with contextlib.suppress(OSError, AttributeError):
            processes = box.processes()
            peak["memfd"] = max(peak["memfd"], memfd_mib(processes))
            for process in processes:
                kind = {"train_gpt": "trainer", "belayd": "belayd"}.get(process.name)
                if kind:
                    peak[kind] = max(peak[kind], anonymous_mib(process.pid))
    run.wait().expect(0)
    return peak


@pytest.fixture(scope="module")
def measured():
    from sandbox import Sandbox

    results = []
    for every in (5, 0):
        sandbox = Sandbox()
        try:
            results.append(peaks(sandbox, every))
        finally:
            sandbox.close()
    print("MiB with a save every 5 steps:", results[0], "with one at the end:", results[1])
    return results


def test_there_is_one_staging_copy(measured):
    saving, _ = measured
    assert STATE_MIB * 0.8 < saving["memfd"] < STATE_MIB * 1.25, saving


def test_the_trainer_holds_no_copy_of_its_own(measured):
    saving, seldom = measured
    assert saving["trainer"] - seldom["trainer"] < STATE_MIB * 0.25, measured


def test_belayd_holds_no_copy_of_its_own(measured):
    saving, _ = measured
    assert saving["belayd"] < STATE_MIB * 0.5, saving
