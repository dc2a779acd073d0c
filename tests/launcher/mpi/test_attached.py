"""belay run with programs that attach to their control page."""
import json
import os
import pathlib
import signal
import sys

import pytest

from conftest import wait_for

TRAINER = [sys.executable, str(pathlib.Path(__file__).with_name("fake_trainer.py"))]


def ready(belay, count):
    wait_for(f"{count} ranks at work", lambda: len(list(belay.path.glob("ready.*"))) == count)


def test_finished_ranks_are_done(belay):
    done = belay.call("run", "-n", 2, "--job", "j", "--", *TRAINER, "finish")
    assert done.returncode == 0, done.stderr
    assert [r["step"] for r in belay.verdict("j")["ranks"]] == ["5", "5"]
    belay.assert_nothing_left()


def test_exit_0_without_finish_is_misuse_not_success(belay):
    done = belay.call("run", "-n", 2, "--job", "j", "--max-restarts", 3, "--", *TRAINER, "forget-finish")
    assert done.returncode == 79 and "session.finish()" in done.stderr
    belay.assert_nothing_left()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP])
def test_every_stop_signal_saves_and_exits_75(belay, sign):
    run = belay.start("run", "-n", 2, "--job", "j", "--", *TRAINER, "steps")
    ready(belay, 2)
    # belay must know that they attached, or it would send SIGTERM as to any program.
    wait_for("attachment", lambda: all(r["attached"] for r in json.loads(belay.call("status", "j", "--json").stdout)["ranks"]))
    run.send_signal(sign)
    done = belay.finish(run)
    assert done.returncode == 75, done.stderr
    verdict = belay.verdict("j")
    assert verdict["outcome"] == "preempted" and int(verdict["committed_step"]) > 0
    belay.assert_nothing_left()


def test_status_tells_each_ranks_wait_for_input(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--", *TRAINER, "steps")
    ready(belay, 2)

    def waits():
        ranks = json.loads(belay.call("status", "j", "--json").stdout)["ranks"]
        return all(r["attached"] for r in ranks) and [r["data_wait_ms"] for r in ranks] == [1.25, None]

    wait_for("the wait of rank 0, and nothing of rank 1", waits)
    assert belay.call("stop", "j").returncode == 0
    assert belay.finish(run).returncode == 75
    belay.assert_nothing_left()


def test_a_save_that_failed_is_72(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--", *TRAINER, "cannot-save")
    ready(belay, 2)
    wait_for("attachment", lambda: all(r["attached"] for r in json.loads(belay.call("status", "j", "--json").stdout)["ranks"]))
    assert belay.call("stop", "j").returncode == 0
    assert belay.finish(run).returncode == 72
    belay.assert_nothing_left()


def test_a_save_that_hangs_is_killed_after_grace(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--grace", 2, "--", *TRAINER, "hang-in-save")
    ready(belay, 2)
    wait_for("attachment", lambda: all(r["attached"] for r in json.loads(belay.call("status", "j", "--json").stdout)["ranks"]))
    run.terminate()
    done = belay.finish(run)
    assert done.returncode == 72 and "--grace" in done.stderr
    belay.assert_nothing_left()


def test_failure_after_steps_restarts_and_before_steps_does_not(belay):
    done = belay.call("run", "-n", 2, "--job", "a", "--max-restarts", 1, "--", *TRAINER, "fail-once-after-steps")
    assert done.returncode == 0 and "restart 1 of 1" in done.stderr, done.stderr
    done = belay.call("run", "-n", 2, "--job", "b", "--max-restarts", 3, "--", *TRAINER, "fail-before-steps")
    assert done.returncode == 9 and "before its first finished step" in done.stderr
    assert belay.verdict("b")["restarts"] == 0
    belay.assert_nothing_left()


def test_stop_during_recovery_does_not_restart(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--max-restarts", 100, "--", "sh", "-c", "sleep 0.2; kill -9 $$")
    wait_for("a restart", lambda: (belay.job_folder("j") / "gen-3").exists())
    run.terminate()
    done = belay.finish(run)
    assert done.returncode in (72, 75, 137), done.stderr  # by the moment at which it came
    belay.assert_nothing_left()
