"""Twenty thousand saves, and nothing has grown: not the memory of belayd or of the program that saves, nor their
descriptors and threads, nor the folder.

The data directory is in /dev/shm, where a sync costs nothing: what may grow is the same there. RocksDB's table in memory
grows by half a kilobyte a save until it is written out at 4 MiB, so memory is judged by its most over a stretch of saves
that is longer than that.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

import pytest
from saver import KEEP_LAST, SAVER, House
from sandbox import eventually

WARM_UP = 1_000
STRETCH = 9_500  # saves; RocksDB writes its table out about every 8,000
EVERY = 100  # saves between two looks
RUNS = 100  # short ones, after each other

MEMORY_GROWTH_MAX = 768 << 10  # from stretch to stretch: 80 bytes a save
OWN_MEMORY_MAX = 24 << 20  # of belayd, beside staging memory and its program
INDEX_MAX = 16 << 20
INDEX_FILES_MAX = 4  # that RocksDB gathers before it merges them
LOG_BYTES_A_SAVE_MAX = 400


class Look:
    """What a process holds now."""

    def __init__(self, pid, data=None):
        proc = pathlib.Path(f"/proc/{pid}")
        self.memory = int(re.search(r"^RssAnon:\s+(\d+) kB", (proc / "status").read_text(), re.M).group(1)) << 10
        self.descriptors = len(os.listdir(proc / "fd"))
        self.threads = len(os.listdir(proc / "task"))
        if data is not None:
            self.index = size_of(data / ".belayd/index")
            self.log = sum(path.stat().st_size for path in (data / ".belayd").glob("*.log"))
            self.checkpoints = len(list(data.glob("default/j/step-*")))


def size_of(folder):
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # compacted away meanwhile
            pass
    return total


@pytest.fixture
def house(box):
    if not os.access("/dev/shm", os.W_OK) or shutil.disk_usage("/dev/shm").free < 256 << 20:
        pytest.skip("needs 256 MiB in /dev/shm")
    box.data = pathlib.Path(tempfile.mkdtemp(prefix="bt-", dir="/dev/shm"))
    try:
        house = House(box)
        house.start()
        yield house
    finally:
        box.close()
        shutil.rmtree(box.data, ignore_errors=True)


def look_if_there(pid):
    try:
        return Look(pid)
    except (AttributeError, FileNotFoundError, ProcessLookupError):  # a zombie has no memory
        return None


def stretch(saver, house, saves):
    """Looks at both processes while so many saves go by."""
    daemon, program = [], []
    for _ in range(saves // EVERY):
        for _ in range(EVERY):
            line = saver.read()
            assert line is not None and line.startswith("committed"), saver.lines[-3:]
        saver.lines.clear()
        daemon.append(Look(house.daemon.pid, house.box.data))
        look = look_if_there(saver.process.pid)
        if look:
            program.append(look)
    # It is ahead of what is read here, and at the end of the last stretch it may have done all its saves and left.
    assert len(program) >= saves // EVERY // 2
    return daemon, program


def least(looks, what):
    return min(getattr(look, what) for look in looks)


def most(looks, what):
    return max(getattr(look, what) for look in looks)


def assert_the_same(before, after, who):
    grown = most(after, "memory") - most(before, "memory")
    assert grown < MEMORY_GROWTH_MAX, f"{who} has grown by {grown >> 10} KiB in {STRETCH} saves"
    # Files are opened and closed meanwhile: the least shows what is left open.
    for what, more in (("descriptors", INDEX_FILES_MAX), ("threads", 0)):
        was, now = least(before, what), least(after, what)
        assert now <= was + more, f"{who}: {what} {was} -> {now}"


def test_twenty_thousand_saves_leave_nothing_behind(house):
    began = time.monotonic()
    saver = house.save(bytes=20_000, count=WARM_UP + 2 * STRETCH)
    saver.read_until("run")
    stretch(saver, house, WARM_UP)
    first, first_program = stretch(saver, house, STRETCH)
    second, second_program = stretch(saver, house, STRETCH)
    seconds = time.monotonic() - began
    saver.end()
    assert saver.process.returncode == 0
    print(f"\n{WARM_UP + 2 * STRETCH} saves in {seconds:.0f} s; belayd's own memory "
          f"{least(first, 'memory') / 2**20:.1f} to {most(first, 'memory') / 2**20:.1f} MiB, then "
          f"{least(second, 'memory') / 2**20:.1f} to {most(second, 'memory') / 2**20:.1f}; the saver's "
          f"{least(first_program, 'memory') / 2**20:.1f}, then {least(second_program, 'memory') / 2**20:.1f}; index "
          f"{most(first, 'index') / 2**20:.1f} MiB at most, then {most(second, 'index') / 2**20:.1f}")
    assert_the_same(first, second, "belayd")
    assert_the_same(first_program, second_program, "the saver")
    looks = first + second
    assert most(looks, "memory") < OWN_MEMORY_MAX
    assert most(looks, "index") < INDEX_MAX
    assert most(looks, "checkpoints") <= KEEP_LAST + 2  # one being written, one being deleted
    log = second[-1].log - first[0].log
    assert log < LOG_BYTES_A_SAVE_MAX * 2 * STRETCH, "it would fill its 16 MiB much faster than before"
    eventually(lambda: len(list(house.box.data.rglob("step-*/*"))) == KEEP_LAST * files_of_a_checkpoint(house), 10,
               "retention leaves files")


def files_of_a_checkpoint(house):
    return len(list(max(house.box.data.glob("default/j/step-*")).iterdir()))


def test_a_hundred_runs_and_restores_leave_nothing_behind(house):
    for number in range(RUNS):
        if number == RUNS // 10:
            before = settled(house)
        saver = house.save(bytes=20_000, count=4)
        saver.end()
        assert saver.process.returncode == 0, saver.lines
        house.next_step += 4
        check(house)
    after = settled(house)
    assert after.memory - before.memory < MEMORY_GROWTH_MAX, f"{before.memory >> 10} -> {after.memory >> 10} KiB"
    assert after.descriptors <= before.descriptors + INDEX_FILES_MAX
    assert after.threads <= before.threads
    house.stop()


def check(house):
    subprocess.run([str(SAVER), "check", "--socket", str(house.socket), "--bytes", "20000"], check=True,
                   env=house.box.environment, stdout=subprocess.DEVNULL)


def settled(house):
    """A look once the last client's threads have been joined, which is when the next comes."""
    looks = []

    def same_twice():
        check(house)
        looks.append(Look(house.daemon.pid))
        return len(looks) > 1 and (looks[-1].descriptors, looks[-1].threads) == (looks[-2].descriptors,
                                                                                 looks[-2].threads)

    eventually(same_twice, 10, "belayd's threads come and go")
    return looks[-1]
