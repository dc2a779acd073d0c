"""`belay run` starts an unchanged PyTorch script."""

import os
import pathlib

from sandbox import PYTHON

SCRIPT = pathlib.Path(__file__).with_name("gloo_script.py")


def test_gloo_from_the_environment(box):
    # The test's own Python has libtorch, and CUDA's libraries lie where the build found them.
    libraries = os.environ.get("BELAY_TEST_CUDA_LIBRARIES", "")
    run = box.run("run", "-n", "2", "--", PYTHON, SCRIPT, seconds=120, env={"LD_LIBRARY_PATH": libraries})
    run.expect(0)
    for rank in (0, 1):
        assert f"rank {rank} of 2: sum 3" in run.out + run.err, run.text()
    box.assert_nothing_left()


def test_the_script_finds_torchruns_variables(box):
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"]
    line = "echo " + " ".join(f"{name}=${name}" for name in names)
    run = box.run("run", "-n", "2", "--", "/bin/sh", "-c", line, seconds=60).expect(0)
    for rank in (0, 1):
        expected = f"RANK={rank} LOCAL_RANK={rank} WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 GROUP_RANK=0 MASTER_ADDR="
        assert expected in run.out + run.err, run.text()
