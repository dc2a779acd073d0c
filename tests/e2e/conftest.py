import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from sandbox import BIN, Sandbox  # noqa: E402
from training import Training, assert_whole  # noqa: E402


def pytest_sessionstart(session):
    missing = [name for name in ("belay", "belayd", "belay-rank") if not (BIN / name).exists()]
    if missing:
        pytest.exit(f"not built in {BIN}: {', '.join(missing)}", returncode=4)


@pytest.fixture
def box():
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def reference():
    """reference(kind, ranks, **changes): the loss lines of the run that nobody interrupted, computed once a session."""
    known = {}

    def lines(kind, ranks, **changes):
        key = (kind, ranks, tuple(sorted(changes.items())))
        if key not in known:
            sandbox = Sandbox()
            try:
                training = Training(sandbox, kind, ranks, **changes)
                training.run().expect(0)
                assert_whole(training.lines(), training.steps)
                known[key] = training.lines()
            finally:
                sandbox.close()
        return known[key]

    return lines
