"""Damaged and missing files: wrong bytes never load, the message names the file, and an older checkpoint is used."""

import shutil
import signal

import pytest

from training import Training, assert_same_losses, assert_whole


def flip_a_byte(shard):
    with open(shard, "r+b") as file:
        file.seek(shard.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x10]))


def truncate(shard):
    with open(shard, "r+b") as file:
        file.truncate(shard.stat().st_size // 2)


def remove(shard):
    shard.unlink()


DAMAGE = [flip_a_byte, truncate, remove]


@pytest.fixture
def stopped(box):
    """A training that was preempted, with several checkpoints on disk."""
    training = Training(box, "gpt", 2, keep=4)
    run = training.start()
    training.reaches(70, run)
    run.signal(signal.SIGTERM)
    run.wait(60).expect(75)
    box.assert_nothing_left()  # belayd is gone, and the snapshot in memory with it
    assert len(box.checkpoints()) >= 3
    return training


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_next_older_checkpoint_is_used(stopped, box, reference, damage):
    newest = box.checkpoints()[-1]
    shard = box.shards(newest)[0]
    damage(shard)

    verify = box.run("ckpt", "verify", "j")
    verify.expect(65)
    assert shard.name in verify.out + verify.err, verify.text()

    run = stopped.run().expect(0)
    step = int(newest.name.split(".")[0].split("-")[1])
    assert f"step {step}, generation 1 (on disk)" in run.err, run.text()
    assert shard.name in run.err + run.out, run.text()
    assert_whole(stopped.lines())
    assert_same_losses(stopped.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_when_all_are_damaged_the_run_ends_and_nothing_is_overwritten(stopped, box):
    kept = box.checkpoints()
    for checkpoint in kept:
        flip_a_byte(box.shards(checkpoint)[0])
    run = stopped.run()
    run.expect(65)
    assert "damaged" in run.err or "digest" in run.err, run.text()
    assert box.checkpoints() == kept
    box.assert_nothing_left()


def test_a_model_that_does_not_fit_is_refused_by_tensor(stopped, box):
    stopped.extra = ("--width", 64)
    run = stopped.run()
    run.expect(65)
    assert "token.weight" in run.err or "model" in run.err, run.text()
    box.assert_nothing_left()


def test_the_index_comes_back_from_the_files(stopped, box, reference):
    before = box.run("ckpt", "list", "--json").expect(0).json()
    box.assert_nothing_left()
    shutil.rmtree(box.data / ".belayd" / "index")
    box.run("ckpt", "reindex").expect(0)
    after = box.run("ckpt", "list", "--json").expect(0).json()
    assert after["checkpoints"] == before["checkpoints"]
    stopped.run().expect(0)
    assert_same_losses(stopped.lines(), reference("gpt", 2))
    box.assert_nothing_left()


def test_an_unfinished_checkpoint_is_swept(stopped, box):
    newest = box.checkpoints()[-1]
    shutil.copytree(newest, newest.with_name("step-000000999.gen-1"))
    (newest.with_name("step-000000999.gen-1") / "manifest.json").unlink()
    stopped.run().expect(0)
    box.assert_nothing_left()
