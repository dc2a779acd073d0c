"""belay run with MPI programs: the rank that fails inside MPI is the one that is named."""
import pathlib
import subprocess

import pytest


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    program = tmp_path_factory.mktemp("mpi") / "rounds"
    subprocess.run(["mpicc", "-o", program, pathlib.Path(__file__).with_name("rounds.c")], check=True)
    return program


def test_ranks_find_each_other(belay, rounds):
    done = belay.call("run", "-n", 3, "--", rounds)
    assert done.returncode == 0 and "[0] sum 3 of 3" in done.stdout, done.stderr
    belay.assert_nothing_left()


@pytest.mark.parametrize("how,status", [("kill", 137), ("segv", 139), ("exit", 5), ("abort", 7)])
def test_a_failure_inside_mpi_names_the_rank(belay, rounds, how, status):
    done = belay.call("run", "-n", 3, "--job", "j", "--", rounds, how)
    assert done.returncode == status, done.stderr
    assert "rank 1 (" in done.stderr and "failed first" in done.stderr
    assert belay.verdict("j")["failure"]["first"]["rank"] == 1
    belay.assert_nothing_left()


def test_user_mca_parameters_reach_mpirun(belay, rounds):
    done = belay.call("run", "-n", 2, "--mca", "btl", "self,vader", "--", rounds)
    assert done.returncode == 0, done.stderr
    belay.assert_nothing_left()
