"""The installed tree: find_package(belay), a program built outside of it, and a run with what was installed."""

import os
import signal
import subprocess

import pytest

from sandbox import TREE, eventually

BUILD = os.environ.get("BELAY_TEST_BUILD", str(TREE / "build/dev"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = tmp_path_factory.mktemp("installed")
    prefix, build = root / "prefix", root / "build"

    def command(*words):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    command("cmake", "--install", BUILD, "--prefix", prefix, "--component", "belay")
    command("cmake", "-S", TREE / "examples/custom_loop", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
            "-DCMAKE_BUILD_TYPE=Release")
    command("cmake", "--build", build)
    return prefix, build / "custom_loop"


def test_the_shortest_program_is_stopped_and_resumed(box, installed):
    prefix, program = installed
    words = [prefix / "bin/belay", "run", "-n", "2", "--job", "sine", "--", program, "20000"]
    whole = box.start(*[word if word != "sine" else "whole" for word in words]).wait(120).expect(0)

    first = box.start(*words)
    eventually(lambda: "step 300 " in first.out + first.err, 60, first.text)
    first.signal(signal.SIGTERM)
    first.wait(60).expect(75)
    second = box.start(*words).wait(120).expect(0)

    def losses(started):
        return [line.split("step ")[-1] for line in (started.out + started.err).splitlines() if "  loss " in line]

    assert len(losses(whole)) == 200
    assert losses(first) + losses(second) == losses(whole)
    box.assert_nothing_left()


def test_the_library_shows_nothing_from_inside(installed):
    prefix, _ = installed
    library = next(prefix.glob("lib*/**/libbelay.so"))
    symbols = subprocess.run(["nm", "-DC", "--defined-only", str(library)], capture_output=True, text=True, check=True)
    inside = [line for line in symbols.stdout.splitlines()
              if any(name in line for name in ("google::protobuf", "belay::base", "belay::checkpoint", "nlohmann"))
              and " belay::Session" not in line and " belay::Checkpointer" not in line]
    assert not inside, inside[:5]


def test_headers_name_nothing_that_is_not_installed(installed):
    prefix, _ = installed
    for header in (prefix / "include/belay").glob("*.h"):
        assert '#include "runtime/' not in header.read_text(), header
