"""Promise 3: with the same world size the losses after a resume equal those of a run that never stopped, bit for bit."""

import signal

import pytest

from sandbox import eventually
from training import Training, assert_same_losses, assert_whole

CASES = [pytest.param(kind, ranks, id=f"{kind}-{ranks}") for kind in ("gpt", "vision") for ranks in (1, 2, 4)]


def test_two_uninterrupted_runs_agree_and_another_seed_does_not(box, reference):
    """Without this the other tests prove nothing."""
    again = Training(box, "gpt", 2)
    again.run(job="again").expect(0)
    assert_same_losses(again.lines(), reference("gpt", 2))
    assert reference("gpt", 2) != reference("gpt", 2, extra=("--seed", 8))


@pytest.mark.parametrize("kind, ranks", CASES)
def test_preempted_twice_in_a_row(box, reference, kind, ranks):
    expected = reference(kind, ranks)
    training = Training(box, kind, ranks)

    first = training.start()
    training.reaches(50, first)
    first.signal(signal.SIGTERM)
    first.wait(60).expect(75)
    stopped_at = len(training.lines())
    assert 50 < stopped_at < 240

    second = training.start()
    training.reaches(stopped_at + 30, second)
    box.run("stop", "j").expect(0)
    second.wait(60).expect(75)
    stopped_again = len(training.lines())
    assert stopped_at < stopped_again < 240
    # Nothing is lost by a preemption: the second run went on at the very step where the first one stopped.
    assert_same_losses(training.lines(), expected[:stopped_again])

    training.run().expect(0)
    assert_whole(training.lines())
    assert_same_losses(training.lines(), expected)
    box.assert_nothing_left()


@pytest.mark.parametrize("kind, ranks", CASES)
def test_kill_9_of_a_rank_restarts_from_the_newest_snapshot(box, reference, kind, ranks):
    expected = reference(kind, ranks)
    training = Training(box, kind, ranks)
    run = training.start()
    training.reaches(70, run)
    victim = training.box.trainers(training.program)[ranks - 1]
    victim.kill()
    run.wait(120).expect(0)
    assert f"rank {ranks - 1}" in run.err and "9" in run.err, run.text()
    assert_whole(training.lines())
    assert_same_losses(training.lines(), expected)
    box.assert_nothing_left()


def test_a_restart_takes_the_snapshot_out_of_memory(box, reference):
    training = Training(box, "gpt", 2)
    run = training.start()
    training.reaches(65, run)
    ranks = box.trainers(training.program)
    training.stands_between_two_saves(ranks)
    ranks[1].kill()
    run.wait(120).expect(0)
    newest = sorted((box.data / ".runs" / "default" / "j").glob("gen-*"))[-1]
    assert newest.name == "gen-2", run.text()
    log = (newest / "rank-00000.log").read_text(errors="replace")
    assert "resumed" in log and "source=memory" in log, log
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_preempted_right_after_a_kill(box, reference):
    training = Training(box, "gpt", 2)
    run = training.start()
    training.reaches(60, run)
    box.trainers(training.program)[0].kill()
    training.reaches(100, run)
    run.signal(signal.SIGUSR1)
    run.wait(60).expect(75)
    training.run().expect(0)
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_a_preemption_before_the_first_step_loses_nothing(box, reference):
    training = Training(box, "gpt", 2)
    run = training.start()
    # As soon as the ranks exist: MPI and libtorch are still starting.
    eventually(lambda: len(box.trainers(training.program)) == 2, 60, "two ranks")
    run.signal(signal.SIGTERM)
    run.wait(60).expect(75, 72)
    if run.status == 72:  # on a machine so slow that they had not attached within three seconds
        assert "never attached" in run.err, run.text()
    training.run().expect(0)
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_another_world_size_goes_on_without_skipping_a_sample(box):
    """Not bit for bit, but every step is there once and the sampler goes on."""
    training = Training(box, "gpt", 2)
    run = training.start()
    training.reaches(60, run)
    run.signal(signal.SIGTERM)
    run.wait(60).expect(75)
    training.ranks = 1
    training.run().expect(0)
    assert_whole(training.lines())
    box.assert_nothing_left()


def test_adamw_beside_batch_norm(box, reference):
    extra = ("--optimizer", "adamw", "--lr", 0.003)
    training = Training(box, "vision", 1, extra=extra)
    run = training.start()
    training.reaches(50, run)
    run.signal(signal.SIGINT)
    run.wait(60).expect(75)
    training.run().expect(0)
    assert_same_losses(training.lines(), reference("vision", 1, extra=extra))
