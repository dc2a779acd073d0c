"""A belayd that hangs (stopped, or its disk is stuck) costs saves, never training, and never the grace period."""

import signal
import time

from sandbox import eventually
from training import Training, assert_same_losses, assert_whole


def test_training_goes_on_beside_a_stopped_belayd(box, reference):
    training = Training(box, "gpt", 2, every=60)
    run = training.start()
    daemon = eventually(lambda: box.processes("belayd"), 30, run.text)[0]
    # Not while a save is on its way: then the next ones would only be put off.
    eventually(lambda: "committed step=60" in run.err, 60, run.text)
    daemon.kill(signal.SIGSTOP)
    training.reaches(190, run, seconds=60)  # past two saves
    assert "did not answer within 3 s" in run.err, run.text()
    daemon.kill(signal.SIGCONT)
    run.wait(120).expect(0)
    assert_whole(training.lines())
    assert_same_losses(training.lines(), reference("gpt", 2))
    assert box.checkpoints()[-1].name.startswith("step-000000240"), "saves work again"
    box.assert_nothing_left()


def test_a_stop_beside_a_stopped_belayd_ends_within_the_grace_period(box):
    training = Training(box, "gpt", 2)
    run = training.start("--grace", "10")
    training.reaches(50, run)
    box.processes("belayd")[0].kill(signal.SIGSTOP)
    began = time.monotonic()
    run.signal(signal.SIGTERM)
    run.wait(40).expect(72)
    assert time.monotonic() - began < 30, run.text()
    assert "step" in run.err, run.text()
    for daemon in box.processes("belayd"):
        daemon.kill(signal.SIGCONT)
    eventually(lambda: not box.processes(), 15, lambda: box.processes())
    training.run().expect(0)
    assert_whole(training.lines())
    box.assert_nothing_left()
