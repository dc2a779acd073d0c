"""Checkpoints that are whole and of no use: a run that crashes or gets NaN on one goes back to an older one by itself."""

import os
import pathlib

import pytest

from sandbox import eventually

TRAINER = pathlib.Path(os.environ.get("BELAY_TEST_BUILD", "build/dev")) / "tests" / "wayward_trainer"
RANKS = 2


class Wayward:
    """Has trained 60 steps, with checkpoints at 20, 40 and 60."""

    def __init__(self, box):
        self.box = box
        self.log = box.root / "steps.log"
        self.run(60).expect(0)
        assert self.steps() == [20, 40, 60]
        self.log.unlink()

    def run(self, steps, *how, flags=(), seconds=120):
        return self.box.run("run", "-n", RANKS, "--job", "j", *flags, "--", TRAINER, steps, self.log, *how,
                            seconds=seconds)

    def steps(self):
        return [int(folder.name.split(".")[0].split("-")[1]) for folder in self.box.checkpoints()]

    def resumes(self):
        return [int(line.split()[1]) for line in self.log.read_text().splitlines() if line.startswith("resume")]

    def trust(self):
        listed = self.box.run("ckpt", "list", "j", "--json").expect(0).json()
        return {int(c["step"]): c["trust"] for c in listed["checkpoints"]}


@pytest.fixture
def wayward(box):
    return Wayward(box)


@pytest.mark.parametrize("how", ["crash", "exit"])
def test_a_checkpoint_on_which_runs_fail_twice_is_left_for_an_older_one(wayward, box, how):
    run = wayward.run(80, how, 60).expect(0)
    assert wayward.resumes() == [60, 60, 40], run.text()
    assert "the checkpoint of step 60 is suspect now: 2 resumes from it failed" in run.err, run.text()
    assert "belay ckpt trust j 60 good" in run.err, run.text()
    assert wayward.trust()[40] == "good"
    assert wayward.steps()[-1] == 80
    box.assert_nothing_left()


def test_a_loss_that_is_no_number_sends_the_run_back_at_once(wayward, box):
    run = wayward.run(80, "nan", 60).expect(0)
    assert wayward.resumes() == [60, 40], run.text()
    assert "loss = nan, few steps after resuming from step 60" in run.text(), run.text()
    assert "the checkpoint of step 60 is suspect now: a resume from it gives no numbers" in run.err, run.text()
    box.assert_nothing_left()


def test_without_restarts_the_next_run_takes_the_older_one(wayward, box):
    wayward.run(80, "nan", 60, flags=("--max-restarts", 0)).expect(65)
    listed = box.run("ckpt", "list", "j").expect(0)
    assert "suspect" in listed.out and "j step 60 is suspect" in listed.err, listed.text()
    run = wayward.run(80, "nan", 60).expect(0)
    assert wayward.resumes() == [60, 40], run.text()
    assert "resuming from step 40" in run.err, run.text()
    box.assert_nothing_left()


def test_when_all_are_suspect_nothing_is_begun_anew_and_a_persons_word_goes_on(wayward, box):
    run = wayward.run(80, "nan", 1, flags=("--max-restarts", 10)).expect(65)
    assert wayward.resumes() == [60, 40, 20], run.text()
    assert "every checkpoint of the job that is left (3) is suspect" in run.text(), run.text()
    assert wayward.steps() == [20, 40, 60], "nothing was deleted"
    assert wayward.trust() == {20: "suspect", 40: "suspect", 60: "suspect"}

    again = wayward.run(80)
    again.expect(65)
    assert "with nothing but 3 suspect checkpoints" in again.err, again.text()
    box.run("ckpt", "trust", "j", "latest", "good").expect(0)
    run = wayward.run(80).expect(0)
    assert wayward.resumes()[-1] == 60, run.text()
    box.assert_nothing_left()


def test_a_kill_from_outside_says_nothing_of_the_checkpoint(wayward, box):
    for times in (1, 2, 3):
        run = box.belay("run", "-n", RANKS, "--job", "j", "--max-restarts", 0, "--", TRAINER, 80, wayward.log, "wait", 60)
        eventually(lambda: wayward.log.exists() and wayward.log.read_text().count("step 60\n") == times, 60, run.text)
        box.trainers("wayward_trainer")[1].kill()
        run.wait(60).expect(137)
    assert wayward.trust()[60] == "unknown"
    box.assert_nothing_left()
