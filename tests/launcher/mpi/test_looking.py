"""What a run shows while it runs and afterwards: logs, status, the progress line, and readers that do not read."""
import fcntl
import json
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import termios
import time

from conftest import BIN, PATIENCE, wait_for

PY = sys.executable
TRAINER = [PY, str(pathlib.Path(__file__).with_name("fake_trainer.py"))]
# Says hello, waits for the file `go`, and ends with a line that has no newline.
TALKER = ("import os, time\n"
          "print('hello from attempt', os.environ['BELAY_RESTART_COUNT'], flush=True)\n"
          "open(f\"ready.{os.environ['BELAY_RESTART_COUNT']}\", 'w').close()\n"
          "while not os.path.exists('go.' + os.environ['BELAY_RESTART_COUNT']): time.sleep(0.02)\n"
          "print('attempt', os.environ['BELAY_RESTART_COUNT'], 'goes', flush=True)\n"
          "if os.environ['BELAY_RESTART_COUNT'] == '0': os.kill(os.getpid(), 9)\n"
          "print('the end', end='', flush=True)\n")


def ready(belay, what=0):
    wait_for(f"ready.{what}", lambda: (belay.path / f"ready.{what}").exists())


def status_of(belay, job="j", *flags, **environment):
    return json.loads(belay.call("status", job, "--json", *flags, **environment).stdout)


def test_logs_are_followed_through_a_restart_to_the_end(belay):
    run = belay.start("run", "-n", 1, "--job", "j", "--max-restarts", 1, "--", PY, "-c", TALKER)
    ready(belay, 0)
    logs = belay.start("logs", "j", "-f")
    one = belay.start("logs", "j", "-f", "--generation", 1, "--json")
    (belay.path / "go.0").write_text("")
    ready(belay, 1)
    (belay.path / "go.1").write_text("")
    assert belay.finish(run).returncode == 0
    followed = belay.finish(logs)
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.splitlines() == ["[0] hello from attempt 0", "[0] attempt 0 goes", "[0] hello from attempt 1",
                                            "[0] attempt 1 goes", "[0] the end"]
    lines = [json.loads(line) for line in belay.finish(one).stdout.splitlines()]
    assert lines == [{"rank": 0, "line": "hello from attempt 0"}, {"rank": 0, "line": "attempt 0 goes"}]
    belay.assert_nothing_left()


def test_a_run_with_a_log_folder_is_found_without_naming_it_again(belay):
    logs = belay.path / "logs"
    run = belay.start("run", "-n", 1, "--job", "j", "--log-dir", "logs", "--", PY, "-c", TALKER.replace("os.kill", "print"))
    ready(belay)
    assert status_of(belay)["run_directory"] == str(logs / "default" / "j" / "gen-1")
    (belay.path / "go.0").write_text("")
    assert belay.finish(run).returncode == 0
    assert not list(belay.job_folder("j").glob("gen-*")) and (logs / "default/j/gen-1/rank-00000.log").exists()
    for flags, environment in [((), {}), (("--log-dir", "logs"), {}), ((), {"BELAY_LOG_DIR": str(logs)})]:
        ended = status_of(belay, "j", *flags, **environment)
        assert ended["state"] == "done" and ended["run_directory"] == str(logs / "default/j/gen-1"), ended
        assert "[0] hello from attempt 0\n" in belay.call("logs", "j", *flags, **environment).stdout
    assert "done" in belay.call("status").stdout
    # The next run without it is the newest then.
    assert belay.call("run", "-n", 1, "--job", "j", "--", "true").returncode == 0
    assert status_of(belay)["run_directory"] == str(belay.job_folder("j") / "gen-2")
    belay.assert_nothing_left()


def test_a_job_whose_launcher_was_killed_shows_what_is_committed(belay):
    (belay.job_folder("j") / "gen-2").mkdir(parents=True)  # as kill -9 of everything leaves it: no verdict
    for name, committed in [("step-000000040.gen-1", True), ("step-000000020.gen-2", True), ("step-000000030.gen-2", False)]:
        folder = belay.data / "default" / "j" / name
        folder.mkdir(parents=True)
        if committed:
            (folder / "manifest.json").write_text("{}")
    assert status_of(belay)["state"] == "lost" and status_of(belay)["committed_step"] == "20"
    assert "\ncommitted step 20; logs in" in belay.call("status", "j").stdout


def test_a_run_that_is_refused_leaves_no_folder(belay):
    refused = belay.call("run", "-n", 1, "--job", "j", "--socket", belay.path / "nobody", "--", "true")
    assert refused.returncode == 69, refused.stderr
    assert not belay.job_folder("j").exists()
    belay.assert_nothing_left()


def test_progress_always_is_printed_without_a_terminal(belay):
    with open(belay.path / "stderr", "w+") as err:
        run = subprocess.Popen([BIN / "belay", "run", "-n", "2", "--job", "j", "--progress", "always", "--", *TRAINER, "steps"],
                               env=belay.environment, cwd=belay.path, stdout=subprocess.DEVNULL, stderr=err)
        wait_for("a line with the step", lambda: "belay: step " in (belay.path / "stderr").read_text())
        assert belay.call("stop", "j").returncode == 0
        assert run.wait(timeout=PATIENCE) == 75
    assert "\x1b" not in (belay.path / "stderr").read_text()
    belay.assert_nothing_left()


def read_terminal(master, until, seconds=PATIENCE):
    """What was written to the terminal until `until(text)` holds, or nobody has it open any more."""
    text = b""
    end = time.monotonic() + seconds
    while not until(text):
        assert time.monotonic() < end, text[-2000:]
        if select.select([master], [], [], 0.1)[0]:
            try:
                text += os.read(master, 65536)
            except OSError:  # the other side has closed it
                return text
    return text


def test_the_live_line_stays_within_the_terminal_and_goes_at_the_end(belay):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    run = subprocess.Popen([BIN / "belay", "run", "-n", "2", "--job", "j", "--", *TRAINER, "steps"],
                           env=belay.environment, cwd=belay.path, stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    text = read_terminal(master, lambda seen: seen.count(b"\r\x1b[Kstep ") >= 2)
    assert belay.call("stop", "j").returncode == 0
    text += read_terminal(master, lambda seen: False)
    assert run.wait(timeout=PATIENCE) == 75
    shown = [part.split(b"\r\n")[0] for part in text.split(b"\r\x1b[K") if part.startswith(b"step ")]
    assert shown and all(len(line) < 40 for line in shown), shown
    # The last words stand alone: the line was erased before them and not written again.
    assert b"step " not in text.rsplit(b"\r\x1b[K", 1)[1].split(b"belay: ", 1)[0]
    assert b"(exit status 75)\r\n" in text
    os.close(master)
    belay.assert_nothing_left()


def test_a_reader_that_does_not_read_cannot_keep_a_run_from_ending(belay):
    run = subprocess.Popen([BIN / "belay", "run", "-n", "1", "--job", "j", "--", "seq", "1", "200000"],
                           env=belay.environment, cwd=belay.path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert run.wait(timeout=PATIENCE) == 0
    run.stdout.close()
    assert (belay.job_folder("j") / "gen-1" / "rank-00000.log").read_text().endswith("\n200000\n")
    belay.assert_nothing_left()


def test_a_slow_reader_gets_everything(belay):
    run = subprocess.Popen([BIN / "belay", "run", "-n", "1", "--job", "j", "--", "seq", "1", "60000"],
                           env=belay.environment, cwd=belay.path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_for("the verdict", lambda: (belay.job_folder("j") / "gen-1" / "verdict.json").exists())
    out, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0 and out.splitlines() == [b"[0] %d" % i for i in range(1, 60001)]
    belay.assert_nothing_left()
