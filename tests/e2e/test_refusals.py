"""What cannot work is refused with a clear message and its own exit status; training goes on when only a save failed."""

import os
import signal
import socket
import struct
import subprocess

import pytest

from sandbox import BIN, eventually
from training import Training, assert_same_losses, assert_whole


def mount_tmpfs(box, folder, size):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is refused here: {done.stderr.strip()}")
    box.mounts.append(folder)


def test_a_full_disk_fails_the_saves_and_not_the_training(box, reference):
    training = Training(box, "gpt", 2)
    mount_tmpfs(box, box.data, "4m")
    with open(box.data / "filler", "wb") as filler:
        filler.write(b"x" * (3 << 20))  # leaves room for the index and logs, not for checkpoints
    training.extra = ("--width", 128)
    expected = reference("gpt", 2, extra=("--width", 128))
    run = training.run()
    run.expect(0)
    assert "full" in run.err or "space" in run.err.lower(), run.text()
    assert_whole(training.lines())
    assert_same_losses(training.lines(), expected)
    assert not box.checkpoints()
    box.assert_nothing_left()


def fill(folder):
    """Takes the last byte of the file system."""
    with open(folder / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            pass


def test_a_disk_that_is_full_to_the_last_byte_can_still_be_cleared(box):
    mount_tmpfs(box, box.data, "128m")  # saves leave 64 MiB free
    training = Training(box, "gpt", 1, steps=60)
    training.run().expect(0)
    box.assert_nothing_left()
    oldest = box.checkpoints()[0]
    fill(box.data)
    assert "step" in box.run("ckpt", "list", "j").expect(0).out.lower()
    box.run("ckpt", "remove", "j", "20").expect(0)
    assert not oldest.exists()
    box.run("ckpt", "verify", "j").expect(0)


@pytest.mark.parametrize("words", [["ckpt", "reindex"], ["daemon", "start"]], ids=" ".join)
def test_a_daemon_cannot_start_on_a_read_only_disk(box, words):
    mount_tmpfs(box, box.data, "4m")
    subprocess.run(["mount", "-o", "remount,ro", str(box.data)], check=True)
    run = box.run(*words, seconds=30).expect(73)
    assert str(box.data) in run.err and "read-only" in run.err.lower(), run.text()
    box.assert_nothing_left()


def test_a_stopped_daemon_is_named_with_its_pid(box, daemon):
    started, path = daemon
    started.signal(signal.SIGSTOP)
    try:
        run = box.run("ckpt", "list", "--socket", path, seconds=30).expect(75)
    finally:
        started.signal(signal.SIGCONT)
    assert f"kill -CONT {started.pid}" in run.err and str(path) in run.err, run.text()


def test_a_new_data_folder_on_a_full_disk(box):
    mount_tmpfs(box, box.data, "4m")
    fill(box.data)
    run = Training(box, "gpt", 1).run(seconds=60)
    run.expect(73)
    assert str(box.data) in run.err and "space" in run.err.lower(), run.text()


def test_a_read_only_data_folder(box):
    mount_tmpfs(box, box.data, "4m")
    subprocess.run(["mount", "-o", "remount,ro", str(box.data)], check=True)
    run = Training(box, "gpt", 1).run()
    run.expect(73)
    assert str(box.data) in run.err, run.text()
    assert "read-only" in run.err.lower(), run.text()
    box.assert_nothing_left()


def test_a_data_folder_that_is_a_file(box):
    plain = box.root / "plain"
    plain.write_text("")
    run = Training(box, "gpt", 1).run("--data-dir", plain)
    assert run.status in (64, 73, 74), run.text()
    assert str(plain) in run.err, run.text()


def test_a_stale_socket_is_replaced(box):
    box.socket_path().parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(box.socket_path()))
    assert box.socket_path().is_socket()
    training = Training(box, "gpt", 1, steps=30)
    training.run().expect(0)
    assert_whole(training.lines(), 30)
    box.assert_nothing_left()


def test_a_socket_folder_that_others_can_write_is_refused(box):
    folder = box.socket_path().parent
    folder.mkdir()
    folder.chmod(0o777)
    run = Training(box, "gpt", 1, steps=30).run()
    run.expect(77)
    assert str(folder) in run.err, run.text()


@pytest.fixture
def daemon(box):
    """belayd on a socket of the test's choice."""
    path = box.root / "s"
    started = box.start(BIN / "belayd", "--data-dir", box.data, "--socket", path)

    def answers():
        assert started.process.poll() is None, started.text()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(path)) == 0

    eventually(answers, 10, "belayd answers")
    return started, path


def frame(body, magic=0x594C4542, version=1, descriptors=0, size=None, digest=0):
    return struct.pack("<IBBHII", magic, version, descriptors, 0, len(body) if size is None else size, digest) + body


GARBAGE = {
    "noise": bytes(range(256)) * 40,
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a wrong version": frame(b"", version=99),
    "a huge length": frame(b"", size=0xFFFFFFFF),
    "a wrong digest": frame(b"hello", digest=12345),
    "many descriptors announced": frame(b"", descriptors=255),
    "half a header": b"BEL",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_on_the_socket_ends_that_connection_only(box, daemon, name):
    started, path = daemon
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        try:
            connection.sendall(GARBAGE[name])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # an error may be sent first; then the end
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert started.process.poll() is None, started.text()
    box.run("daemon", "status", "--socket", path, seconds=20).expect(0)


def test_a_server_that_is_no_belayd(box):
    path = box.root / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        started = box.belay("daemon", "status", "--socket", path)
        server.settimeout(20)
        connection, _ = server.accept()
        connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 and more words than a header\r\n")
        started.wait(20).expect(76)
        connection.close()
    assert str(path) in started.err, started.text()


def test_nobody_behind_the_named_socket(box):
    started = box.run("daemon", "status", "--socket", box.root / "none", seconds=20)
    assert started.status in (66, 69), started.text()
    assert str(box.root / "none") in started.err + started.out, started.text()


@pytest.mark.parametrize("server", [65534, 0])
def test_another_user_is_refused(box, server):
    """User 65533 could connect, but believes only a daemon of its own or root's; and root's private one serves root only."""
    if os.geteuid() != 0:
        pytest.skip("becoming two other users needs root")
    for folder in (box.root, box.data, box.temporary):
        folder.chmod(0o777)
    path = box.root / "s"
    readable = subprocess.run(["setpriv", "--reuid=65533", "--clear-groups", "test", "-x", str(BIN / "belay")], check=False)
    if readable.returncode != 0:
        pytest.skip(f"another user cannot run {BIN / 'belay'}")
    private = ("--private", "--linger", 60) if server == 0 else ()
    started = box.start("setpriv", f"--reuid={server}", "--clear-groups", BIN / "belayd", "--data-dir", box.data, "--socket",
                        path, *private)
    eventually(path.exists, 10, lambda: "belayd's socket\n" + started.text())
    path.chmod(0o777)  # so that the check is ours and not the file system's
    stranger = box.start("setpriv", "--reuid=65533", "--clear-groups", BIN / "belay", "ckpt", "list", "--socket", path)
    stranger.wait(20).expect(77)
    assert f"user {server}" in stranger.err and "user 65533" in stranger.err, stranger.text()


BAD_COMMANDS = [
    ["run", "--nonsense", "--", "true"],
    ["run", "-n", "0", "--", "true"],
    ["run", "-n", "many", "--", "true"],
    ["run", "-n", "2", "-n", "3", "--", "true"],
    ["run"],
    ["run", "--job", "../escape", "--", "true"],
    ["run", "--job", ".hidden", "--", "true"],
    ["nosuchverb"],
    ["ckpt", "nosuchverb"],
    ["ckpt", "show"],
    [],
]


@pytest.mark.parametrize("words", BAD_COMMANDS, ids=lambda words: " ".join(words) or "nothing")
def test_a_bad_command_line(box, words):
    run = box.run(*words, seconds=20).expect(64)
    assert run.err.strip(), "it says why"
    assert not run.out.strip(), "stdout is for results"
    box.assert_nothing_left()


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["ckpt", "--help"], ["daemon", "--help"]], ids=" ".join)
def test_help_is_a_result(box, words):
    shown = box.run(*words, seconds=20).expect(0)
    assert "belay " + " ".join(words[:-1]) in shown.out, shown.text()
    assert not shown.err, shown.text()


def test_a_program_that_is_not_there(box):
    run = box.run("run", "-n", "2", "--", "/no/such/program", seconds=60)
    run.expect(127)
    assert "/no/such/program" in run.err, run.text()
    box.assert_nothing_left()


def test_a_bad_flag_of_the_trainer_is_not_tried_again(box):
    run = Training(box, "gpt", 2, extra=("--dept", 3)).run(seconds=60)
    run.expect(64)
    assert "dept" in run.err + run.out, run.text()
    assert len(list((box.data / ".runs/default/j").glob("gen-*"))) == 1, "one generation: no restart"
    box.assert_nothing_left()


def test_a_text_that_is_not_there(box):
    run = Training(box, "gpt", 2, extra=("--data", "/no/such/text")).run(seconds=60)
    run.expect(66)
    assert "/no/such/text" in run.err + run.out, run.text()


def test_an_unknown_job(box):
    shown = box.run("ckpt", "show", "nosuchjob", seconds=20)
    shown.expect(66)
    assert "nosuchjob" in shown.err, shown.text()


def test_the_same_job_twice_at_once(box):
    training = Training(box, "gpt", 1)
    first = training.start()
    training.reaches(20, first)
    second = training.run(seconds=60)
    second.expect(75)
    assert f"already being run by belay (pid {first.pid}" in second.err, second.text()
    first.signal(15)
    first.wait(60).expect(75)
    box.assert_nothing_left()
