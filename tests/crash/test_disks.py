"""Real file systems that fill up, turn read-only, die and lose what was not synced: loop-mounted ext4 and xfs.

A power cut is the file systems' own shutdown call: nothing that is not on the disk yet reaches it any more.
"""

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import time

import pytest
from saver import House

IMAGE_BYTES = 400 << 20  # xfs wants 300 MiB; belayd keeps 64 MiB free
STATE_BYTES = 24 << 20
ROUNDS = int(os.environ.get("BELAY_CRASH_ROUNDS", "6"))
SEED = int(os.environ.get("BELAY_CRASH_SEED", time.time_ns() % 1_000_000_000))
SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32): XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN
DROP_LOG = 2           # XFS_FSOP_GOING_FLAGS_NOLOGFLUSH, EXT4_GOING_FLAGS_NOLOGFLUSH


class Disk:
    """A file system in a file, mounted where the sandbox keeps its data."""

    def __init__(self, box, kind):
        self.box, self.image = box, box.root / "disk.img"
        with open(self.image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"mkfs.{kind} is missing: scripts/bootstrap installs it")
        subprocess.run([f"mkfs.{kind}", "-q", self.image], check=True)
        done = subprocess.run(["mount", "-o", "loop", self.image, box.data], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs the right to loop-mount {kind} (root, and a kernel with it): {done.stderr.strip()}")
        box.mounts.append(box.data)

    def fill(self):
        """Takes all there is, to the last block."""
        size = 8 << 20
        with open(self.box.data / "filler", "wb", buffering=0) as file:
            while size >= 512:
                try:
                    file.write(b"x" * size)
                    os.fsync(file.fileno())
                except OSError:
                    size //= 2

    def cut_power(self):
        folder = os.open(self.box.data, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, struct.pack("I", DROP_LOG))
        finally:
            os.close(folder)

    def mount_again(self):
        subprocess.run(["umount", self.box.data], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.box.data], check=True)


@pytest.fixture(params=["ext4", "xfs"])
def disk(box, request):
    return Disk(box, request.param)


def save_one_and_copy_another(house, count):
    """A saver that waits, everything copied, before it seals its second step."""
    saver = house.save(count=count, bytes=STATE_BYTES, ask=1)
    saver.read_until("copied")
    saver.answer()
    saver.read_until("committed")
    saver.read_until("copied")
    return saver


def seal_and_fail(saver, words):
    saver.answer()
    line = saver.read_until("failed")
    assert words in line, line
    print("\n" + line)


def save_the_third(saver):
    saver.answer()
    saver.read_until("copied 3")
    saver.answer()
    saver.read_until("committed 3")
    saver.end()


def whole(house):
    return house.check("--bytes", STATE_BYTES)


def test_disk_fills_up_while_writing(box, disk):
    house = House(box)
    house.start()
    saver = save_one_and_copy_another(house, 3)
    disk.fill()
    seal_and_fail(saver, "No space left on device")
    assert whole(house) == [1]
    os.unlink(box.data / "filler")
    save_the_third(saver)
    assert whole(house) == [1, 3]
    assert not list((box.data / "default").rglob("*.tmp"))
    house.stop()


def test_folder_turns_read_only_and_back(box, disk):
    # The kernel remounts no file system that has files open for writing: the job's folder alone, over itself.
    house = House(box)
    house.start()
    saver = save_one_and_copy_another(house, 3)
    job = str(box.data / "default/j")
    subprocess.run(["mount", "--bind", job, job], check=True)
    box.mounts.append(job)
    subprocess.run(["mount", "-o", "remount,bind,ro", job], check=True)
    seal_and_fail(saver, "Read-only file system")
    assert whole(house) == [1]
    subprocess.run(["umount", "-l", job], check=True)
    box.mounts.remove(job)
    save_the_third(saver)
    assert whole(house) == [1, 3]
    house.stop()


def test_disk_dies_and_is_mounted_again(box, disk):
    house = House(box)
    house.start()
    saver = save_one_and_copy_another(house, 2)
    disk.cut_power()
    seal_and_fail(saver, "Input/output error")
    saver.answer()
    saver.end()
    house.kill()
    disk.mount_again()
    house.start()
    assert whole(house) == [1]
    house.next_step = 3
    saver = house.save(count=1, bytes=STATE_BYTES)
    saver.end()
    assert saver.steps("committed") == [3], saver.lines
    assert whole(house) == [1, 3]
    house.stop()


def test_power_cuts(box, disk, request):
    chance = random.Random(f"{SEED} {request.node.name}")
    print(f"\nBELAY_CRASH_SEED={SEED}")
    house = House(box)
    house.start()
    for number in range(ROUNDS):
        saver = house.save()
        for _ in range(chance.randrange(1, 8)):
            saver.read()
        time.sleep(chance.uniform(0, 0.05))  # the moment is chosen, nothing is awaited
        disk.cut_power()
        # A step may be acknowledged until the very cut; what is said from here on must fail.
        os.kill(saver.process.pid, signal.SIGKILL)
        saver.end()
        house.kill()
        house.remember(saver)
        disk.mount_again()
        house.start()
        try:
            house.assert_nothing_lost()
        except AssertionError as error:
            raise AssertionError(f"round {number} of BELAY_CRASH_SEED={SEED}: {error}") from error
    house.stop()
    print(f"{ROUNDS} power cuts, {len(house.acknowledged)} checkpoints acknowledged")
