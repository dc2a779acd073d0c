"""belay run on one machine with programs that know nothing of belay: statuses, signals, output, and nothing left behind."""
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from conftest import wait_for

PY = sys.executable


def ready(belay, count, job="j"):
    """Waits until each rank's program has written its file."""
    wait_for(f"{count} ranks at work", lambda: len(list(belay.path.glob("ready.*"))) == count)


WAIT_FOREVER = """
import os, signal, time
open('ready.' + os.environ['RANK'], 'w').write(str(os.getpid()))
while True: time.sleep(1)
"""


def test_every_rank_gets_torchruns_variables(belay):
    script = ("import os; print(*(os.environ[n] for n in "
              "'RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK MASTER_ADDR BELAY_JOB BELAY_GENERATION EXTRA'.split()), "
              "int(os.environ['MASTER_PORT']) > 0)")
    done = belay.call("run", "-n", 2, "--job", "env", "-x", "EXTRA=7", "--", PY, "-c", script)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["[0] 0 0 2 2 0 127.0.0.1 env 1 7 True", "[1] 1 1 2 2 0 127.0.0.1 env 1 7 True"]
    belay.assert_nothing_left()


def test_a_disk_that_is_full_is_no_reason_not_to_begin(belay):
    """belayd has room in reserve for the job's next generation, so the launcher must come so far that it asks."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    belay.data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", belay.data], capture_output=True, text=True,
                             check=False)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is refused here: {mounted.stderr.strip()}")
    try:
        assert belay.call("daemon", "start").returncode == 0
        assert belay.call("run", "-n", 1, "--job", "j", "--", "true").returncode == 0
        with open(belay.data / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        done = belay.call("run", "-n", 1, "--job", "j", "--", "true")
        assert done.returncode == 0, done.stderr
        assert "belay stop and status do not find this run yet" in done.stderr, done.stderr
        assert belay.call("daemon", "stop").returncode == 0
        belay.assert_nothing_left()
    finally:
        subprocess.run(["umount", "-l", belay.data], check=False)


@pytest.mark.parametrize("status", [1, 3, 64, 200])
def test_the_failed_ranks_status_is_the_runs(belay, status):
    done = belay.call("run", "-n", 2, "--job", "j", "--", "sh", "-c", f"test $RANK = 0 && exec sleep 600; echo last words; exit {status}")
    assert done.returncode == status
    assert "rank 1 (" in done.stderr and f"failed first: it exited with status {status}" in done.stderr
    assert "| last words" in done.stderr and "rank-00001.log" in done.stderr
    verdict = belay.verdict("j")
    assert (verdict["outcome"], verdict["exit_status"], verdict["failure"]["first"]["rank"]) == ("failed", status, 1)
    belay.assert_nothing_left()


def test_missing_and_forbidden_programs(belay):
    done = belay.call("run", "-n", 2, "--", "no-such-program")
    assert done.returncode == 127 and "no-such-program" in done.stderr
    (belay.path / "plain.txt").write_text("not a program")
    done = belay.call("run", "-n", 1, "--", "./plain.txt")
    assert done.returncode == 126
    done = belay.call("run", "-n", 1, "--wdir", "/no/such/folder", "--", "true")
    assert done.returncode == 127 and "/no/such/folder" in done.stderr
    belay.assert_nothing_left()


def test_kill_of_a_trainer_is_named_and_restarted(belay):
    script = ("import os, signal\n"
              "print('attempt', os.environ['BELAY_RESTART_COUNT'], os.environ['BELAY_GENERATION'], flush=True)\n"
              "if os.environ['BELAY_RESTART_COUNT'] == '0' and os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
              "import time; time.sleep(1 if os.environ['BELAY_RESTART_COUNT'] != '0' else 600)\n")
    done = belay.call("run", "-n", 2, "--job", "j", "--max-restarts", 1, "--", PY, "-c", script)
    assert done.returncode == 0, done.stderr
    assert "rank 1 (" in done.stderr and "killed by signal 9 (SIGKILL)" in done.stderr and "restart 1 of 1" in done.stderr
    assert "[1] attempt 1 2" in done.stdout
    assert belay.verdict("j", 1)["outcome"] == "restarting" and belay.verdict("j", 2)["outcome"] == "done"
    belay.assert_nothing_left()


@pytest.mark.parametrize("victim", ["belay-rank", "mpirun"])
def test_kill_of_the_machinery_ends_the_run(belay, victim):
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", WAIT_FOREVER)
    ready(belay, 2)
    os.kill(belay.pids(victim, program=True)[0], signal.SIGKILL)
    done = belay.finish(run)
    assert done.returncode == 137, done.stderr
    assert victim in done.stderr
    belay.assert_nothing_left()


def test_kill_of_belay_leaves_nothing(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", WAIT_FOREVER)
    ready(belay, 2)
    run.kill()
    belay.finish(run)
    belay.assert_nothing_left()
    # The next run finds the stale launcher.json and goes on.
    status = belay.call("status", "j", "--json")
    assert json.loads(status.stdout)["launcher_lost"] is True
    done = belay.call("run", "-n", 1, "--job", "j", "--", "true")
    assert done.returncode == 0, done.stderr
    belay.assert_nothing_left()


def test_daemonized_grandchildren_are_killed(belay):
    script = "import os, subprocess; subprocess.Popen(['setsid', 'sleep', '600'], start_new_session=True)"
    done = belay.call("run", "-n", 2, "--", PY, "-c", script)
    assert done.returncode == 0, done.stderr
    belay.assert_nothing_left()


def test_sigterm_reaches_a_plain_script_that_saves_itself(belay):
    script = WAIT_FOREVER.replace("import os, signal, time", "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", script)
    ready(belay, 2)
    run.terminate()
    done = belay.finish(run)
    assert done.returncode == 75, done.stderr
    verdict = belay.verdict("j")
    assert verdict["outcome"] == "preempted" and verdict["stop_source"] == "SIGTERM" and verdict["run_again"] is True
    belay.assert_nothing_left()


def test_sigterm_of_a_plain_script_without_a_handler_is_said_to_be_unsaved(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", WAIT_FOREVER)
    ready(belay, 2)
    run.terminate()
    done = belay.finish(run)
    assert done.returncode == 72 and "knows of no checkpoint" in done.stderr
    belay.assert_nothing_left()


def test_grace_expires_on_a_rank_that_ignores_sigterm(belay):
    script = WAIT_FOREVER.replace("import os, signal, time", "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)")
    run = belay.start("run", "-n", 2, "--job", "j", "--grace", 1, "--", PY, "-c", script)
    ready(belay, 2)
    run.send_signal(signal.SIGUSR1)
    done = belay.finish(run)
    assert done.returncode == 72 and "grace" in done.stderr
    belay.assert_nothing_left()


def test_second_interrupt_kills(belay):
    script = WAIT_FOREVER.replace("import os, signal, time", "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", script)
    ready(belay, 2)
    run.send_signal(signal.SIGINT)
    wait_for("the stop", lambda: json.loads(belay.call("status", "j", "--json").stdout).get("state") == "stopping")
    run.send_signal(signal.SIGINT)
    done = belay.finish(run)
    assert done.returncode == 130
    belay.assert_nothing_left()


def test_stop_status_and_logs_commands(belay):
    script = WAIT_FOREVER.replace("import os, signal, time", "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('hello from', os.environ['RANK'], flush=True)")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", script)
    ready(belay, 2)
    status = json.loads(belay.call("status", "j", "--json").stdout)
    assert status["running"] and status["state"] == "running" and len(status["ranks"]) == 2
    assert "default/j" in belay.call("status").stdout
    busy = belay.call("run", "-n", 1, "--job", "j", "--", "true")
    assert busy.returncode == 75 and "already being run" in busy.stderr
    stop = belay.call("stop", "j", "--wait")
    assert stop.returncode == 0, stop.stderr
    assert belay.finish(run).returncode == 75
    assert sorted(belay.call("logs", "j").stdout.splitlines()) == ["[0] hello from 0", "[1] hello from 1"]
    assert belay.call("logs", "j", "--rank", 1, "--grep", "h.llo").stdout == "[1] hello from 1\n"
    ended = json.loads(belay.call("status", "j", "--json").stdout)
    assert ended["running"] is False and ended["state"] == "preempted" and ended["exit_status"] == 75
    gone = belay.call("stop", "j")
    assert gone.returncode == 66
    assert belay.call("stop", "no-such-job").returncode == 66
    belay.assert_nothing_left()


def test_lines_of_four_ranks_arrive_whole_and_complete(belay):
    lines = 20000
    script = (f"import os, sys\nr = os.environ['RANK']\n"
              f"for i in range({lines}): sys.stdout.write(f'{{r}}:{{i}}:' + r * (i % 97) + '\\n')\n"
              f"sys.stdout.write('no newline at the end')")
    done = belay.call("run", "-n", 4, "--job", "j", "--", PY, "-c", script, PYTHONUNBUFFERED="")
    assert done.returncode == 0
    seen = {str(r): 0 for r in range(4)}
    ends = 0
    for line in done.stdout.splitlines():
        tag, text = line.split(" ", 1)
        rank = tag[1:-1]
        if text == "no newline at the end":
            ends += 1
            continue
        assert text == f"{rank}:{seen[rank]}:" + rank * (seen[rank] % 97)
        seen[rank] += 1
    assert set(seen.values()) == {lines} and ends == 4
    for rank in range(4):
        log = belay.job_folder("j") / "gen-1" / f"rank-{rank:05d}.log"
        assert len(log.read_text().splitlines()) == lines + 1
    belay.assert_nothing_left()


def test_stdout_and_stderr_stay_apart_and_json_is_alone_on_stdout(belay):
    done = belay.call("run", "-n", 1, "--", "sh", "-c", "echo out; echo err >&2")
    assert done.stdout == "[0] out\n" and "[0] err\n" in done.stderr
    done = belay.call("run", "-n", 1, "--json", "--job", "j", "--", "sh", "-c", "echo out")
    verdict = json.loads(done.stdout)
    assert verdict["schema_version"] == 1 and verdict["outcome"] == "done" and "[0] out\n" in done.stderr
    done = belay.call("run", "--json", "--no-such-option", "--", "true")
    assert done.returncode == 64 and json.loads(done.stdout)["error"]["exit_status"] == 64
    belay.assert_nothing_left()


def test_a_closed_stdout_does_not_end_the_run(belay):
    run = subprocess.Popen([pathlib.Path(os.environ["BELAY_BIN"]) / "belay", "run", "-n", "1", "--job", "j", "--", "sh", "-c", "for i in 1 2 3 4 5; do seq 1 20000; done"],
                           env=belay.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=belay.path)
    run.stdout.close()
    assert run.wait(timeout=60) == 0
    belay.assert_nothing_left()


def test_time_limit_stops_the_run(belay):
    done = belay.call("run", "-n", 1, "--timeout", 1, "--", PY, "-c", WAIT_FOREVER.replace("import os, signal, time", "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))"))
    assert done.returncode == 75 and "--timeout" in done.stderr
    belay.assert_nothing_left()


def test_a_stop_before_the_programs_start_loses_nothing(belay):
    # belay-rank is held before it registers, so the stop surely comes first.
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", WAIT_FOREVER, BELAY_FAULTS="rank.before_register=stop")
    wait_for("mpirun", lambda: belay.pids("belay-rank", program=True))
    run.terminate()
    done = belay.finish(run)
    assert done.returncode == 75 and "nothing is lost" in done.stderr
    assert not list(belay.path.glob("ready.*"))
    belay.assert_nothing_left()


def test_ranks_that_never_register_are_given_up(belay):
    done = belay.call("run", "-n", 2, "--launch-timeout", 2, "--", "true", BELAY_FAULTS="rank.before_register=stop")
    assert done.returncode == 69 and "did not come up within 2 s" in done.stderr
    belay.assert_nothing_left()


@pytest.mark.parametrize("point", ["run.after_begin_run", "run.before_spawn"])
def test_belay_killed_at_every_step_of_the_start(belay, point):
    done = belay.call("run", "-n", 2, "--job", "j", "--", "true", BELAY_FAULTS=f"{point}=kill")
    assert done.returncode == -signal.SIGKILL
    belay.assert_nothing_left()
    done = belay.call("run", "-n", 2, "--job", "j", "--", "true")
    assert done.returncode == 0, done.stderr
    belay.assert_nothing_left()


def test_belay_killed_once_it_has_heard_of_a_stop(belay):
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", WAIT_FOREVER, BELAY_FAULTS="control.after_stop=kill")
    ready(belay, 2)
    stop = belay.call("stop", "j")
    assert run.wait(timeout=60) == -signal.SIGKILL
    assert stop.returncode not in (0, 75) and stop.stderr.startswith("belay"), stop
    belay.assert_nothing_left()


@pytest.mark.parametrize("point", ["rank.before_register", "rank.after_spawn"])
def test_belay_rank_killed_at_every_step_of_the_start(belay, point):
    done = belay.call("run", "-n", 2, "--job", "j", "--", PY, "-c", WAIT_FOREVER, BELAY_FAULTS=f"{point}=kill")
    assert done.returncode in (69, 137), done.stderr
    assert "belay-rank" in done.stderr or "mpirun" in done.stderr
    belay.assert_nothing_left()


def test_killed_belayd_is_started_again_and_the_run_goes_on(belay):
    script = WAIT_FOREVER.replace("while True: time.sleep(1)", "while not os.path.exists('go'): time.sleep(0.05)")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", script)
    ready(belay, 2)
    os.kill(wait_for("belayd", lambda: belay.pids("belayd", program=True))[0], signal.SIGKILL)
    wait_for("a new belayd", lambda: belay.call("daemon", "status").returncode == 0)
    (belay.path / "go").write_text("")
    done = belay.finish(run)
    assert done.returncode == 0 and "belayd has gone" in done.stderr and "belayd is back" in done.stderr, done.stderr
    belay.assert_nothing_left()


def test_a_run_goes_on_over_a_restart_of_belayd(belay):
    script = WAIT_FOREVER.replace("while True: time.sleep(1)", "while not os.path.exists('go'): time.sleep(0.05)")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", script)
    ready(belay, 2)
    before = wait_for("belayd", lambda: belay.pids("belayd", program=True))
    restarted = belay.call("daemon", "restart")
    assert restarted.returncode == 0 and f"pid {before[0]}" in restarted.stdout, restarted.stderr
    status = lambda: json.loads(belay.call("daemon", "status", "--json").stdout)["daemon"]
    wait_for("the launcher's return", lambda: status()["connections"] > 1)
    held = status()["runs"][0]
    assert held["launcher_pid"] == run.pid and held["generation"] == "1"
    assert belay.pids("belayd", program=True) == before, "a private one stays as long as its run"
    (belay.path / "go").write_text("")
    done = belay.finish(run)
    assert done.returncode == 0 and "belayd is back" in done.stderr, done.stderr
    belay.assert_nothing_left()


def test_explain_launches_nothing(belay):
    plan = json.loads(belay.call("explain", "--json", "-n", 3, "--job", "j", "--", "true").stdout)
    assert plan["world_size"] == 3 and plan["mpirun_command"][0] == "mpirun" and plan["ranks"][2]["environment"]["RANK"] == "2"
    text = belay.call("run", "--dry-run", "-n", 3, "--job", "j", "--", "true").stdout
    assert "mpirun --bind-to none --oversubscribe -n 3" in text
    assert not belay.processes() and not belay.job_folder("j").exists()


def test_explain_shows_what_a_batch_system_grants(belay):
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_TASKS_PER_NODE": "4(x2)", "SLURM_JOB_CPUS_PER_NODE": "64(x2)"}
    words = ["-n", 1, "--job", "j", "--", "true"]
    plan = json.loads(belay.call("explain", "--json", *words, **slurm).stdout)
    assert plan["world_size"] == 1 and plan["allocation"]["source"] == "slurm" and plan["allocation"]["slots"] == 8
    assert [node["name"] for node in plan["allocation"]["nodes"]] == ["n1", "n2"] and plan["allocation_error"] is None
    text = belay.call("explain", *words, **slurm).stdout
    assert "n[1-2]  4 slots, 64 cores each" in text and "for now" in text
    wrong = belay.call("explain", *words, **slurm | {"SLURM_TASKS_PER_NODE": "4(x3)"})
    assert wrong.returncode == 0 and "SLURM_TASKS_PER_NODE is '4(x3)', counts for 3 nodes" in wrong.stdout
    assert not belay.processes() and not belay.job_folder("j").exists()


def test_wrong_command_lines_say_what_is_right(belay):
    for args, words in [(["run", "-np", "x", "--", "true"], "whole number"), (["run"], "no program"),
                        (["run", "--max-restart", "1", "true"], "--max-restarts"), (["run", "-H", "node9:2", "true"], "one host only"),
                        (["run", "--job", "a/b", "true"], "no name"), (["frobnicate"], "no command"), (["logs"], "one job's name")]:
        done = belay.call(*args)
        assert done.returncode in (64, 69) and words in done.stderr, (args, done.stderr)


def test_a_read_only_data_folder_is_named(belay):
    done = belay.call("run", "-n", 1, "--data-dir", "/proc/nowhere", "--", "true")
    assert done.returncode != 0 and "/proc/nowhere" in done.stderr


def test_a_signal_to_everything_at_once_is_a_graceful_stop(belay):
    """As a batch system does that signals a whole step or control group: belay, mpirun, belay-rank and belayd."""
    script = ("import os, signal, sys, time\n"
              "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(3), sys.exit(75)))\n"  # longer than mpirun would wait
              "open(f\"ready.{os.environ['RANK']}\", 'w').close()\n"
              "while True: time.sleep(0.05)\n")
    run = belay.start("run", "-n", 2, "--job", "j", "--", PY, "-c", script)
    ready(belay, 2)
    for pid, _ in belay.processes():
        os.kill(pid, signal.SIGTERM)
    done = belay.finish(run)
    assert done.returncode == 75, done.stderr
    assert "mpirun" not in done.stderr and "belayd has gone" not in done.stderr, done.stderr
    belay.assert_nothing_left()


def test_nohup_keeps_a_run_alive(belay):
    script = WAIT_FOREVER.replace("while True: time.sleep(1)", "while not os.path.exists('go'): time.sleep(0.05)")
    run = belay.start("run", "-n", 1, "--job", "j", "--", PY, "-c", script, nohup=True)
    ready(belay, 1)
    run.send_signal(signal.SIGHUP)
    assert belay.call("status", "j").returncode == 0
    (belay.path / "go").write_text("")
    done = belay.finish(run)
    assert done.returncode == 0, done.stderr
    belay.assert_nothing_left()


def test_arguments_need_not_be_utf8(belay):
    done = belay.call("run", "-n", 1, "--", PY, "-c", "import os, sys; print(os.fsencode(sys.argv[1]))", b"caf\xe9")
    assert done.returncode == 0 and "caf\\xe9" in done.stdout, done.stderr
    belay.assert_nothing_left()


def test_values_and_paths_need_not_be_utf8(belay):
    odd = os.fsencode(belay.path) + b"/caf\xe9"
    os.mkdir(odd)
    script = "import os; print(os.environb[b'WORD'], os.getcwdb().endswith(b'caf\\xe9'))"
    done = belay.call("run", "-n", 2, "--job", "j", "--json", "-x", b"WORD=caf\xe9", "--wdir", odd, "--log-dir", odd,
                      "--", PY, "-c", script)
    assert done.returncode == 0 and json.loads(done.stdout)["restarts"] == 0, done.stderr
    assert done.stderr.count("b'caf\\xe9' True") == 2, done.stderr
    status = belay.call("status", "j", "--json", "--log-dir", odd)
    assert json.loads(status.stdout)["state"] == "done", status.stderr
    belay.assert_nothing_left()


def test_the_environment_names_the_project_for_every_command(belay):
    done = belay.call("run", "-n", 1, "--job", "j", "--", "true", BELAY_PROJECT="team")
    assert done.returncode == 0
    assert json.loads(belay.call("status", "j", "--json", BELAY_PROJECT="team").stdout)["project"] == "team"
    assert belay.call("status", "j").returncode == 66


def test_an_error_is_json_too_where_json_was_asked_for(belay):
    for command in ("stop", "status", "logs"):
        done = belay.call(command, "--json", "--nonsense")
        assert done.returncode == 64 and json.loads(done.stdout)["error"]["exit_status"] == 64, command
    assert json.loads(belay.call("version", "--json").stdout)["version"]
    for topic in ("ckpt", "daemon", "run"):
        assert f"belay {topic}" in belay.call("help", topic).stdout


def test_a_log_folder_that_cannot_be_made_has_its_own_status(belay):
    (belay.path / "file").write_text("")
    done = belay.call("run", "-n", 1, "--job", "j", "--log-dir", belay.path / "file", "--", "true")
    assert done.returncode in (64, 73, 74) and "file" in done.stderr and "mpirun" not in done.stderr, done.stderr
    belay.assert_nothing_left()


def test_belays_own_variables_cannot_be_replaced(belay):
    done = belay.call("run", "-x", "BELAY_ATTEMPT=x", "--", "true")
    assert done.returncode == 64 and "BELAY_ATTEMPT" in done.stderr
