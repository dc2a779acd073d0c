"""How programs on belay::Session end: each case is a real program under a real mpirun, and must end by itself in time."""
import os
import re
import subprocess

import pytest

PROBE = os.environ["BELAY_SESSION_PROBE"]
MPIRUN = os.environ.get("BELAY_MPIRUN", "mpirun")
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def run(ranks, *arguments, env=None, seconds=90):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMIX_")) and k not in RANK_VARIABLES}
    environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1")
    environment.update(env or {})
    command = [PROBE, *arguments]
    if ranks:
        command = [MPIRUN, "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *command]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)


@pytest.mark.parametrize("ranks", [0, 1, 2, 4])
def test_runs_alone_and_under_mpirun(ranks):
    done = run(ranks, "ok")
    assert done.returncode == 0, done.stderr
    size = max(ranks, 1)
    for rank in range(size):
        assert f"rank {rank} of {size} local {rank} of {size} device " in done.stdout


def test_leaves_mpi_even_through_exit():
    done = run(2, "exit")
    assert done.returncode == 0, done.stderr
    assert "MPI_Finalize" not in done.stderr and "finalize" not in done.stderr.lower()


def test_an_uncaught_belay_error_is_a_line_and_its_status_and_ends_all_ranks():
    done = run(2, "error")
    assert done.returncode == 65, done.stderr
    assert "belay: rank 1 of 2: the data of this rank are bad" in done.stderr
    assert "terminate called" not in done.stderr


def test_an_uncaught_belay_error_of_a_program_alone():
    done = run(0, "error")
    assert done.returncode == 65, done.stderr
    assert "the data of this rank are bad" in done.stderr


def test_another_uncaught_exception_aborts_and_names_the_rank():
    done = run(2, "throw")
    assert done.returncode == 134, done.stderr
    assert "belay: rank 1 of 2: something else" in done.stderr


def test_a_session_left_by_an_exception_does_not_wait_for_the_others():
    done = run(2, "caught")
    assert done.returncode == 9, done.stderr


@pytest.mark.parametrize("ranks", [2, 4])
def test_a_killed_rank_ends_the_run(ranks):
    done = run(ranks, "killed")
    assert done.returncode != 0
    assert "signal 9" in done.stderr


def test_a_rank_that_never_joins_is_named():
    done = run(2, "timeout")
    assert done.returncode == 69, done.stderr
    assert "belay: rank 0 of 2: MPI allreduce (sum, 1000 Float) on rank 0 of 2 failed: timed out" in done.stderr
    assert "rank 1" in done.stderr


@pytest.mark.parametrize("ranks", [0, 1, 2, 4])
@pytest.mark.parametrize("save, status", [("saved", 75), ("unsaved", 72)])
def test_a_stop_told_to_one_rank_stops_all_after_the_same_step(ranks, save, status):
    done = run(ranks, "stop", save)
    assert done.returncode == status, done.stderr
    steps = re.findall(r"rank \d+ stopped after step (\d+)", done.stdout)
    assert len(steps) == max(ranks, 1) or (ranks > 1 and steps), done.stdout
    assert len(set(steps)) == 1, done.stdout
    assert set(steps) == {"3" if ranks < 2 else "4"}


@pytest.mark.parametrize("vote", [(), ("vote",)])
@pytest.mark.parametrize("ranks", [0, 2, 4])
def test_leaving_without_finish_is_said_but_works(ranks, vote):
    done = run(ranks, "unfinished", *vote)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("session_not_finished") == max(ranks, 1)
    assert "vote_not_settled" not in done.stderr and "MPI_ERR" not in done.stderr


def test_leaving_without_finish_does_not_wait_for_a_vote_that_the_others_never_join():
    done = run(2, "unfinished", "lone-vote", seconds=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("vote_not_settled") == 1


def test_a_launcher_that_mpi_does_not_know_is_a_clear_error():
    done = run(0, "ok", env={"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    assert done.returncode == 64, done.stderr
    assert "the environment says rank 1 of 2 (RANK), but MPI says rank 0 of 1" in done.stderr
    assert "belay run" in done.stderr


def test_a_bad_number_in_the_environment_is_a_clear_error():
    done = run(0, "ok", env={"BELAY_GENERATION": "seven"})
    assert done.returncode == 64, done.stderr
    assert 'BELAY_GENERATION is "seven"' in done.stderr


def test_a_missing_control_page_is_only_a_warning():
    done = run(0, "ok", env={"BELAY_CONTROL_FD": "77"})
    assert done.returncode == 0, done.stderr
    assert "no_control_page" in done.stderr
