"""kill -9 of each process of a run: the last committed checkpoint restores, nothing is left, the message says what
happened. (The trainer itself: test_exact_resume.py.)"""

import contextlib
import signal

import pytest

from sandbox import eventually
from training import Training, assert_same_losses, assert_whole


@pytest.fixture
def training(box):
    return Training(box, "gpt", 2)


def the_only(processes):
    assert len(processes) == 1, processes
    return processes[0]


def test_belay_rank(training, box, reference):
    run = training.start()
    training.reaches(70, run)
    box.processes("belay-rank")[-1].kill()
    run.wait(120).expect(0)
    assert "belay-rank" in run.err and "restart 1 of" in run.err, run.text()
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_mpirun(training, box, reference):
    run = training.start()
    training.reaches(70, run)
    the_only(box.processes("mpirun")).kill()
    run.wait(120).expect(0)
    assert "mpirun" in run.err and "restart 1 of" in run.err, run.text()
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_belay(training, box, reference):
    run = training.start()
    training.reaches(70, run)
    the_only(box.processes("belay")).kill()
    # Nobody is left to say anything: all that counts is that nothing stays behind.
    box.assert_nothing_left()
    before = len(training.lines())
    assert before < training.steps
    newest = box.checkpoints()[-1]
    assert newest.name >= "step-000000040"
    training.run().expect(0)
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_belayd_and_training_goes_on(box, reference):
    training = Training(box, "gpt", 2, keep=100)  # so that whatever is missing was lost, not retired
    run = training.start()
    training.reaches(70, run)
    saved = box.checkpoints()
    assert saved
    the_only(box.processes("belayd")).kill()
    run.wait(120).expect(0)
    assert "belayd has gone" in run.err and "failed first" not in run.err, run.text()
    assert set(box.checkpoints()) >= set(saved), "what was committed stays"
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_belayd_restarted_and_memory_survives(box, reference):
    """Upgrades under a run: no save fails, and a rank that dies afterwards comes back out of memory."""
    training = Training(box, "gpt", 2, keep=100)
    run = training.start()

    def restart():
        pid = the_only(box.processes("belayd")).pid
        restarted = box.run("daemon", "restart").expect(0)
        assert f"pid {pid}" in restarted.out and "1 snapshot " in restarted.out, restarted.text()

    for step in (40, 80):
        training.reaches(step, run)
        restart()
    training.reaches(105, run)
    ranks = box.trainers(training.program)
    training.stands_between_two_saves(ranks)
    restart()
    ranks[1].kill()
    run.wait(120).expect(0)
    assert "belayd is back" in run.err and "restart 1 of" in run.err, run.text()
    first, second = [(folder / "rank-00000.log").read_text(errors="replace")
                     for folder in sorted((box.data / ".runs" / "default" / "j").glob("gen-*"))]
    assert "the save was given up" not in first and "the save failed" not in first, first
    assert "resumed" in second and "source=memory" in second, second
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_everything_at_once(training, box, reference):
    """As a machine that loses power, but for the files: belay, belayd, mpirun, shims and trainers."""
    run = training.start()
    training.reaches(70, run)
    for process in box.processes():
        process.kill(signal.SIGSTOP)
    for process in box.processes():
        with contextlib.suppress(ProcessLookupError):  # it went with its parent
            process.kill()
    eventually(lambda: not box.processes(), 10, lambda: box.processes())
    training.run().expect(0)
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_belayd_while_it_commits(training, box, reference):
    """A daemon that dies between the shards and the manifest leaves no checkpoint that looks whole."""
    run = training.start(env={"BELAY_FAULTS": "commit.before_manifest=kill@3"})
    run.wait(180)
    for checkpoint in box.checkpoints():
        box.run("ckpt", "verify", "j").expect(0)
        assert box.shards(checkpoint)
    if run.status != 0 or len(training.lines()) < training.steps:
        training.run().expect(0)
    assert_same_losses(training.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_a_rank_that_always_dies_is_given_up_with_its_own_status(box):
    run = box.run("run", "-n", "2", "--job", "j", "--max-restarts", "2", "--", "/bin/sh", "-c",
                  "echo about to fail; [ $RANK = 1 ] && exit 23; exec sleep 60", seconds=60)
    run.expect(23)
    assert "rank 1" in run.err and "23" in run.err and "about to fail" in run.out + run.err, run.text()
    box.assert_nothing_left()


def test_a_second_interrupt_kills(training, box):
    run = training.start()
    training.reaches(30, run)
    for trainer in box.trainers(training.program).values():
        trainer.kill(signal.SIGSTOP)  # so that a graceful stop cannot end the run first
    run.signal(signal.SIGINT)
    eventually(lambda: "stop" in run.err.lower() or "interrupt" in run.err.lower(), 10, run.text)
    run.signal(signal.SIGINT)
    run.wait(20).expect(130)
    box.assert_nothing_left()


def test_ranks_that_do_not_stop_within_the_grace_period(training, box):
    run = training.start("--grace", "2")
    training.reaches(30, run)
    for trainer in box.trainers(training.program).values():
        trainer.kill(signal.SIGSTOP)
    run.signal(signal.SIGTERM)
    run.wait(30).expect(72)
    assert "grace" in run.err, run.text()
    box.assert_nothing_left()
