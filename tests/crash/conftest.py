import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
from saver import SAVER  # noqa: E402
from sandbox import BIN, Sandbox  # noqa: E402


def pytest_sessionstart(session):
    missing = [str(path) for path in (BIN / "belayd", SAVER) if not path.exists()]
    if missing:
        pytest.exit(f"not built: {', '.join(missing)}", returncode=4)


@pytest.fixture
def box():
    sandbox = Sandbox()
    yield sandbox
    sandbox.close()
