"""A batch system that signals everything of a run at once (systemd's control group, a Slurm step, PBS, LSF): a graceful stop
like any other, with everything saved, though mpirun, belay-rank and belayd get the signal too."""

import contextlib
import signal

import pytest

from sandbox import eventually
from training import Training, assert_same_losses, assert_whole


def signal_all(processes, number):
    for process in processes:
        with contextlib.suppress(ProcessLookupError):  # what the signals before had ended
            process.kill(number)


# A trainer that gets SIGINT or SIGHUP itself ends by it, like any other program.
CASES = [pytest.param(number, trainers, id=f"{number.name}-{'everything' if trainers else 'machinery'}")
         for number, trainers in [(signal.SIGTERM, True), (signal.SIGUSR1, True), (signal.SIGTERM, False),
                                  (signal.SIGINT, False), (signal.SIGHUP, False)]]


@pytest.mark.parametrize("number, trainers_too", CASES)
def test_a_signal_to_everything_at_once_saves_everything(box, reference, number, trainers_too):
    expected = reference("gpt", 2)
    training = Training(box, "gpt", 2)
    run = training.start()
    training.reaches(50, run)
    trainers = {trainer.pid for trainer in box.trainers(training.program).values()}
    everything = [p for p in box.processes() if trainers_too or p.pid not in trainers]
    assert {"belay", "mpirun", "belay-rank", "belayd"} <= {p.name for p in everything}
    signal_all(everything, number)
    run.wait(60).expect(75)
    assert "belayd has gone" not in run.err and "mpirun" not in run.err, run.text()
    box.assert_nothing_left()

    stopped_at = len(training.lines())
    assert 50 < stopped_at < training.steps
    assert box.checkpoints()[-1].name.startswith(f"step-{stopped_at:09d}"), "the last step is saved"
    training.run().expect(0)
    assert_whole(training.lines())
    assert_same_losses(training.lines(), expected)


def test_a_private_belayd_stays_for_its_run_and_leaves_after_it(box):
    training = Training(box, "gpt", 1)
    run = training.start()
    training.reaches(30, run)
    (daemon,) = box.processes("belayd")
    daemon.kill(signal.SIGTERM)
    log = box.data / ".belayd" / "belayd.log"
    eventually(lambda: "not stopping on the signal" in log.read_text(), 10, lambda: log.read_text()[-2000:])
    run.wait(120).expect(0)
    assert "belayd has gone" not in run.err, run.text()
    eventually(lambda: not box.processes("belayd"), 15, "the daemon leaves after its run")
    assert box.checkpoints()[-1].name.startswith(f"step-{training.steps:09d}")
    box.assert_nothing_left()
