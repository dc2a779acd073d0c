"""How runs end that could not begin, were stopped early or lost their belayd, and what they say then."""
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys

from conftest import BIN, wait_for

PY = sys.executable
TRAINER = [PY, str(pathlib.Path(__file__).with_name("fake_trainer.py"))]
# Leaves with 75 on SIGTERM, as a program that saves by itself.
SAVER = ("import os, signal, sys, time\n"
         "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
         "open('ready.' + os.environ['RANK'], 'w').close()\n"
         "while True: time.sleep(0.05)\n")
KILLED_ONCE = ("import os\n"
               "if os.environ['BELAY_RESTART_COUNT'] == '0': os.kill(os.getpid(), 9)\n")


def ready(belay, count):
    wait_for(f"{count} ranks at work", lambda: len(list(belay.path.glob("ready.*"))) == count)


def test_stop_now_does_not_wait_for_a_save(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", SAVER.replace("sys.exit(75)", "time.sleep(600)"))
    ready(belay, 2)
    stop = belay.call("stop", "j", "--now", "--wait")
    assert stop.returncode == 0, stop.stderr
    done = belay.finish(run)
    assert done.returncode == 130 and "without waiting for a save" in done.stderr
    assert belay.verdict("j")["outcome"] == "interrupted"
    belay.assert_nothing_left()


def test_a_program_that_has_not_attached_yet_finds_the_stop_when_it_does(belay):
    """Stopped right after its start, a program that uses belay must not be killed by a SIGTERM meant for others."""
    late = ("import os, runpy, sys, time\n"
            "open('started.' + os.environ['RANK'], 'w').close()\n"
            "while not os.path.exists('go'): time.sleep(0.02)\n"
            f"sys.argv = [{TRAINER[1]!r}, 'steps']\n"
            f"runpy.run_path({TRAINER[1]!r}, run_name='__main__')\n")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", late)
    wait_for("two programs", lambda: len(list(belay.path.glob("started.*"))) == 2)
    assert belay.call("stop", "j").returncode == 0
    (belay.path / "go").write_text("")
    done = belay.finish(run)
    assert done.returncode == 75, done.stderr
    belay.assert_nothing_left()


def test_a_stop_finds_the_run_while_belayd_is_asked(belay):
    run = belay.start("run", "-n", 1, "--job", "j", "--", "true", BELAY_FAULTS="begin_run.after_generation=stop")

    def held():
        return [pid for pid in belay.pids("belayd", program=True)
                if pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"]

    (daemon,) = wait_for("belayd in the middle of its answer", held)
    status = json.loads(belay.call("status", "j", "--json").stdout)
    assert status["running"] and status["state"] == "renewing"
    assert belay.call("stop", "j").returncode == 0
    done = belay.finish(run)
    os.kill(daemon, signal.SIGKILL)
    assert done.returncode == 75 and "before any program was started" in done.stderr, done.stderr
    assert not (belay.job_folder("j") / "launcher.json").exists()
    belay.assert_nothing_left()


def test_a_belayd_that_dies_over_a_restart_is_asked_again(belay):
    # Generation 2 is granted and in its file, but belay never hears of it.
    done = belay.call("run", "-n", 1, "--job", "j", "--max-restarts", 1, "--", PY, "-c", KILLED_ONCE,
                      BELAY_FAULTS="begin_run.after_generation=kill@2")
    assert done.returncode == 0, done.stderr
    verdict = belay.verdict("j")
    assert verdict["outcome"] == "done" and verdict["restarts"] == 1 and verdict["generation"] == "3", verdict
    belay.assert_nothing_left()


def test_a_belayd_that_always_dies_is_given_up(belay):
    done = belay.call("run", "-n", 1, "--job", "j", "--json", "--", "true", BELAY_FAULTS="begin_run.after_generation=kill")
    assert done.returncode == 69 and "belayd" in done.stderr, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["outcome"] == "failed" and "belayd" in verdict["reason"]
    belay.assert_nothing_left()


def test_no_belayd_is_a_verdict(belay):
    done = belay.call("run", "-n", 1, "--job", "j", "--json", "--socket", belay.path / "none", "--", "true")
    verdict = json.loads(done.stdout)
    assert done.returncode == 69 == verdict["exit_status"] and verdict["generation"] == "0" and verdict["reason"]
    belay.assert_nothing_left()


def test_a_full_disk_at_the_start_is_called_that(belay):
    done = belay.call("run", "-n", 1, "--job", "j", "--json", "--", "true", BELAY_FAULTS="run.before_spawn=nospace")
    verdict = json.loads(done.stdout)
    assert done.returncode == 73 == verdict["exit_status"], done.stderr
    assert verdict["failure"]["class"] == "launch" and "mpirun" not in done.stderr, done.stderr
    belay.assert_nothing_left()


def test_a_full_disk_costs_the_notes_and_not_the_training(belay):
    assert belay.call("daemon", "start").returncode == 0  # which has room
    faults = "file.durable.after_write=nospace@{}"
    not_found = "belay stop and status do not find this run"
    for nth, note in [(1, not_found + " yet"), (2, "belay stop and status"), (3, "no run.json"), (4, "--log-dir"), (5, "no verdict.json")]:
        done = belay.call("run", "-n", 1, "--job", "j", "--", "echo", "trained", BELAY_FAULTS=faults.format(nth))
        assert done.returncode == 0 and "[0] trained" in done.stdout and note in done.stderr, (nth, done.stderr)
    assert belay.call("daemon", "stop").returncode == 0
    belay.assert_nothing_left()


def test_the_command_that_goes_on_does(belay):
    """Of a run without --job the name is known from its last words only."""
    run = belay.start("run", "-n", 1, "--grace", "90s", "-x", "EXTRA=a b", "--", PY, "-c", SAVER)
    ready(belay, 1)
    run.terminate()
    done = belay.finish(run)
    assert done.returncode == 75
    command = done.stderr.split("belay: run it again with: ")[1]  # of several lines, as its program is
    words = shlex.split(command)
    job = words[words.index("--job") + 1]
    assert words[words.index("--grace") + 1] == "90" and "EXTRA=a b" in words
    again = subprocess.run(["sh", "-c", command.replace("belay run", "belay run --dry-run --json", 1)], cwd=belay.path,
                           env={**belay.environment, "PATH": f"{BIN}:{os.environ['PATH']}"}, capture_output=True, text=True,
                           check=True)
    plan = json.loads(again.stdout)
    assert plan["job"] == job and plan["grace_seconds"] == 90 and plan["environment"]["EXTRA"] == "a b"
    assert plan["program"] == [PY, "-c", SAVER]
    belay.assert_nothing_left()


def test_the_ranks_stay_on_this_host_whatever_was_allocated(belay):
    allocation = {"SLURM_JOBID": "77", "SLURM_JOB_ID": "77", "SLURM_NODELIST": "node[8-9]", "SLURM_JOB_NODELIST": "node[8-9]",
                  "SLURM_TASKS_PER_NODE": "4(x2)", "SLURM_NNODES": "2", "SLURM_JOB_CPUS_PER_NODE": "4(x2)",
                  "SLURM_CPUS_ON_NODE": "4", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_JOBID": "1"}
    done = belay.call("run", "-n", 3, "--job", "j", "--", "sh", "-c", "echo $RANK of $LOCAL_WORLD_SIZE", **allocation)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] 0 of 3", "[1] 1 of 3", "[2] 2 of 3"]
    belay.assert_nothing_left()
