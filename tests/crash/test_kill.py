"""kill -9 of belayd at every named fault point and at random moments, and of the program that saves: what was
acknowledged restores bit for bit, a generation never comes twice, nothing is left behind."""

import os
import random
import re
import signal
import time

import pytest
from saver import House
from sandbox import TREE, eventually

ROUNDS = int(os.environ.get("BELAY_CRASH_ROUNDS", "30"))
SEED = int(os.environ.get("BELAY_CRASH_SEED", time.time_ns() % 1_000_000_000))

# Those that belayd passes. How often one is passed in a run says which passages can be asked for.
# (The saver has no frozen tensors, so nothing is ever linked.)
AREAS = {"begin_run.": (1,), "staging.": (1, 2), "write.before_data": (1, 2, 9), "write.after_": (1, 2, 9), "commit.": (1, 4),
         "retention.": (1, 3), "index.": (1, 2, 8), "daemon.": (1, 4, 9), "file.durable.": (1,)}
# With a second drive, where rank 1's shards go. (Its first start, and so spread.before_record, is over by then.)
TWO_DRIVES = {"spread.before_link": (1, 4), "spread.after_": (1, 3), "write.after_": (1, 2, 9), "commit.": (1,), "retention.": (1, 3)}


def passages(areas):
    listed = re.findall(r'^ +\{"([a-z_.]+)", "', (TREE / "runtime/base/fault_points.cc").read_text(), re.MULTILINE)
    assert len(listed) > 15, listed
    return [f"{name}=kill@{n}" for name in listed for area, numbers in areas.items() if name.startswith(area)
            for n in numbers]


def first_run(house):
    house.start()
    saver = house.save(count=4)
    saver.end()
    house.remember(saver)
    assert house.acknowledged == [1, 2, 3, 4], saver.lines
    house.assert_nothing_lost()
    house.stop()


@pytest.mark.parametrize("drives", [1, 2])
def test_named_points(box, drives):
    house = House(box, drives)
    first_run(house)
    faults = passages(AREAS if drives == 1 else TWO_DRIVES)
    for fault in faults:
        house.start(fault)
        saver = house.save()
        eventually(lambda: house.daemon.process.poll() is not None or _drain(saver), 30, f"{fault} was not passed")
        saver.end()
        assert house.daemon.process.returncode == -signal.SIGKILL, f"{fault}: {house.daemon.text()}"
        house.remember(saver)
        house.start()
        try:
            house.assert_nothing_lost()
        except AssertionError as error:
            raise AssertionError(f"killed by {fault}: {error}") from error
        house.stop()
    print(f"\n{len(faults)} kills at named points on {drives} drives, {len(house.acknowledged)} checkpoints acknowledged")
    box.assert_nothing_left()


def _drain(saver):
    """Reads a line, so that the saver goes on; it ends when its daemon has gone."""
    saver.read()
    return False


def _random_kill(house, chance, victim):
    """Kills at a moment that is chosen, not awaited: some lines later, and a few milliseconds more."""
    saver = house.save()
    for _ in range(chance.randrange(0, 6)):
        if saver.read() is None:
            break
    time.sleep(chance.choice([0, chance.uniform(0, 0.004), chance.uniform(0, 0.05)]))
    victim(saver)
    saver.end()
    house.remember(saver)


@pytest.mark.parametrize("whom,drives", [("belayd", 1), ("belayd", 2), ("saver", 1)])
def test_random_moments(box, whom, drives):
    print(f"\nBELAY_CRASH_SEED={SEED}")
    chance = random.Random(f"{SEED} {whom} {drives}")
    house = House(box, drives)
    first_run(house)
    house.start()
    for number in range(ROUNDS):
        if whom == "belayd":
            _random_kill(house, chance, lambda saver: house.kill())
            house.start()
        else:
            _random_kill(house, chance, lambda saver: saver.process.kill())
        try:
            house.assert_nothing_lost()
        except AssertionError as error:
            raise AssertionError(f"round {number} of BELAY_CRASH_SEED={SEED}: {error}") from error
    house.stop()
    print(f"{ROUNDS} random kills of {whom}, {len(house.acknowledged)} checkpoints acknowledged")
    box.assert_nothing_left()
