"""Resuming exactly on real GPUs: copies out of device memory beside training, NCCL, restores back into it.

One rank a GPU, at most two: skipped where nvidia-smi sees none.
"""

import shutil
import signal
import subprocess

import pytest

from sandbox import Sandbox
from training import Training, assert_same_losses, assert_whole


def gpus():
    if shutil.which("nvidia-smi") is None:
        return []
    seen = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return seen.stdout.split() if seen.returncode == 0 else []


GPUS = gpus()[:2]
RANKS = len(GPUS)
pytestmark = pytest.mark.skipif(not GPUS, reason="needs a GPU: nvidia-smi sees none")
STEPS = 400  # a GPU makes them quickly


@pytest.fixture
def gpu_box():
    sandbox = Sandbox()
    sandbox.environment.update(CUDA_VISIBLE_DEVICES=",".join(GPUS), BELAY_DEVICE="cuda")
    yield sandbox
    sandbox.close()


def training_of(box, kind, **changes):
    # Large enough that neither the copies nor the packing of small tensors are trivial, slow enough to be interrupted.
    extra = ("--depth", 4, "--width", 512, "--heads", 8, "--context", 128, "--batch", 16) if kind == "gpt" else ()
    return Training(box, kind, RANKS, extra=(*extra, "--steps", STEPS), steps=STEPS, **changes)


def rank_logs(box):
    return "".join(path.read_text(errors="replace") for path in sorted(box.data.glob(".runs/default/*/gen-*/rank-*.log")))


@pytest.fixture
def expected(gpu_box, request):
    """The losses of the run that nobody interrupted."""
    training = training_of(gpu_box, request.getfixturevalue("kind"))
    training.run(job="uninterrupted", seconds=300).expect(0)
    assert "cuda" in rank_logs(gpu_box), "the program names its device"
    lines = training.lines()
    assert_whole(lines, STEPS)
    training.log.unlink()
    return lines


@pytest.mark.parametrize("kind", ["gpt", "vision"])
def test_preempted_then_killed_loses_nothing_and_repeats_every_loss(gpu_box, kind, expected):
    training = training_of(gpu_box, kind)
    first = training.start()
    training.reaches(90, first)
    first.signal(signal.SIGTERM)
    first.wait(120).expect(75)
    stopped_at = len(training.lines())
    assert_same_losses(training.lines(), expected[:stopped_at])

    second = training.start()
    training.reaches(stopped_at + 60, second)
    gpu_box.trainers(training.program)[RANKS - 1].kill()
    second.wait(300).expect(0)
    assert_whole(training.lines(), STEPS)
    assert_same_losses(training.lines(), expected)
    gpu_box.assert_nothing_left()


def test_a_restart_takes_the_snapshot_out_of_memory_back_to_the_gpu(gpu_box):
    training = training_of(gpu_box, "gpt", every=50)
    run = training.start()
    training.reaches(165, run)
    ranks = gpu_box.trainers(training.program)
    training.stands_between_two_saves(ranks, since=(8, 40))
    ranks[RANKS - 1].kill()
    run.wait(300).expect(0)
    assert "source=memory" in rank_logs(gpu_box), rank_logs(gpu_box)
    assert_whole(training.lines(), STEPS)
    gpu_box.assert_nothing_left()
