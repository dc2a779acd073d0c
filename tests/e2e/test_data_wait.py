"""The wait for input is measured by the trainers, written to metrics.jsonl and told by `belay status` while the run goes on."""

import json

import pytest

from sandbox import eventually
from training import Training


@pytest.mark.parametrize("kind", ["gpt", "vision"])
def test_is_in_the_status_and_in_the_metrics(box, kind):
    training = Training(box, kind, 1, steps=100_000)
    run = training.start()
    training.reaches(5, run)

    def wait_ms():
        return box.run("status", "j", "--json").expect(0).json()["ranks"][0]["data_wait_ms"]

    assert 0 < eventually(wait_ms, 30, run.text) < 60_000
    box.run("stop", "j").expect(0)
    run.wait(60).expect(75)
    (metrics,) = box.data.glob(".runs/default/j/gen-*/metrics.jsonl")
    steps = [line for line in map(json.loads, metrics.read_text().splitlines()) if "loss" in line]
    assert len(steps) == len(training.lines())
    assert all(0 < line["data_wait_s"] < 60 for line in steps), steps[0]
