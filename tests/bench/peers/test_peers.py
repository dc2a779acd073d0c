"""The pure parts of scripts/bench_peers: figures, tables, verdicts, words and the picture's commands. No system runs here."""
import math
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import belay_faults  # noqa: E402
import belay_row  # noqa: E402
import catalogue  # noqa: E402
import faults  # noqa: E402
import picture  # noqa: E402
import state  # noqa: E402
import tables  # noqa: E402
import words  # noqa: E402

ENTRIES = {name: catalogue.entry(name) for name in catalogue.NAMES}


def a_round(**changes):
    return {"round": 1, "memcpy": 0.1, "fio_write": 0.5, "fio_read": 0.4, "stall": 0.2, "added": 0.3, "done": 0.9, "durable": 1.0,
            "restore_cold": 0.8, "restore_warm": 0.1, "bytes": 1000, **changes}


def results():
    return {"belay": {"rounds": [a_round(stall=0.05, stall_memcpy=0.1)], "state_bytes": 1000},
            "dcp": {"rounds": [a_round(), a_round(stall=0.8, memcpy=0.2), a_round(stall=0.3)], "state_bytes": 1000},
            "snapshot": {"error": "No module named 'torchsnapshot'"}}


@pytest.mark.parametrize("megabytes", [16, 64, 256, 1024])
def test_the_state_has_the_size_asked_for_and_hundreds_of_tensors(megabytes):
    shapes = state.shapes(megabytes)
    row = 12 * shapes["token"][1]
    assert (megabytes << 20) - row < state.size(megabytes) <= megabytes << 20
    assert len(shapes) > 500
    assert all(math.prod(shape) > 0 for shape in shapes.values())
    assert all(shapes[name] == shapes[name + ".exp_avg"] == shapes[name + ".exp_avg_sq"] for name in state.parameters(megabytes))


def test_a_ratio_is_taken_round_by_round_beside_its_own_limit():
    rounds = results()["dcp"]["rounds"]
    assert tables.ratios(rounds, "stall") == pytest.approx([2, 4, 3])
    assert tables.ratio(rounds, "stall") == "3.00"
    assert tables.ratios(results()["belay"]["rounds"], "stall") == pytest.approx([0.5])
    assert tables.ratios([{"stall": 1.0}], "stall") == []  # no limit, no ratio
    assert tables.ratio([], "stall") == "-"


def test_a_spread_is_the_median_with_least_and_greatest():
    assert tables.spread([0.3, 0.1, 0.2]) == "0.200 (0.100-0.300)"
    assert tables.spread([None, 12.0]) == "12.0 (12.0-12.0)"
    assert tables.spread([None]) == "-"


@pytest.mark.parametrize("value, text", [(0, "0"), (0.0021, "0.0021"), (0.123, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123")])
def test_numbers_have_three_digits_that_mean_something(value, text):
    assert tables.number(value) == text


def test_the_summary_has_every_figure_and_ratio():
    summary = tables.summary(results()["dcp"]["rounds"])
    assert summary["stall"] == {"median": 0.3, "least": 0.2, "greatest": 0.8}
    assert summary["durable_over_fio_write"]["median"] == pytest.approx(2)
    assert "round" not in summary


def test_belay_comes_first_and_what_did_not_run_says_why():
    lines = tables.speeds(results(), ENTRIES).splitlines()
    assert lines[0].startswith("system") and lines[2].startswith("belay")
    assert lines[1] == lines[3] == "-" * len(lines[0])
    assert lines[-1] == "TorchSnapshot take  did not run: No module named 'torchsnapshot'"
    assert "2.00" in lines[4] and "DCP save" in lines[4]


def test_a_page_cache_that_stayed_is_said():
    found = results()
    assert not any("DROPPED" in line for line in tables.notes(found))
    found["dcp"]["rounds"][1]["dropped"] = False
    assert any("COULD NOT BE DROPPED" in line for line in tables.notes(found))


def test_columns_are_as_wide_as_their_widest_cell():
    text = tables.render(["name", "n"], [["a", "1"], ["longer", "12345"]], numbers=[1])
    assert text.splitlines()[0] == "name        n"
    assert text.splitlines()[2] == "a           1"


def test_every_fault_has_a_table_and_every_system_a_row():
    found = results()
    found["belay"]["faults"] = {"flips": {"cells": ["3 of 3", "is damaged"]}, "killed": {"error": "too fast"}}
    text = tables.faults(found, ENTRIES)
    for title in tables.FAULT_TITLES.values():
        assert title in text
    assert "not established: too fast" in text
    assert text.count("not established: No module named 'torchsnapshot'") == 3
    assert text.count("not established: not tried") == 4  # belay's full disk, all of DCP's


def test_a_place_is_found_in_the_file_that_holds_it():
    assert faults.place_in([100, 300], 0.25) == (1, 0)
    assert faults.place_in([100, 300], 0.5) == (1, 100)
    assert faults.place_in([400], 0.75) == (0, 300)
    with pytest.raises(ValueError):
        faults.place_in([], 0.5)


def test_a_flip_changes_one_bit_and_a_second_one_takes_it_back(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    faults.flip(path, 50)
    assert path.read_bytes() == bytes(50) + b"\x40" + bytes(49)
    faults.flip(path, 50)
    assert path.read_bytes() == bytes(100)


def test_what_loads_wrong_without_a_word_is_called_silent():
    silent = [{"event": "loaded", "wrong": 1}] * 3
    noticed = [{"event": "refused", "message": "rank-00000 is damaged"}] * 3
    assert faults.flip_cells(silent) == ["0 of 3, SILENT", "loads without a word; 1 tensor wrong"]
    assert faults.flip_cells(noticed) == ["3 of 3", "rank-00000 is damaged"]
    assert faults.flip_cells(noticed[:2] + silent[:1])[0] == "2 of 3, SILENT"
    assert faults.flip_cells([{"event": "loaded", "wrong": 0}])[0] == "0 of 1"


def test_undamaged_data_must_load_before_damage_counts(tmp_path):
    (tmp_path / "data").write_bytes(bytes(100))
    with pytest.raises(faults.RoomError, match="undamaged"):
        faults.flipped([tmp_path / "data"], lambda: {"event": "refused", "message": "no"})


def test_a_kill_is_judged_by_what_loads_afterwards():
    loaded, wrong, refused = {"event": "loaded", "wrong": 0}, {"event": "loaded", "wrong": 2}, {"event": "refused", "message": "no mark"}
    assert faults.killed_cells(loaded, refused, "nothing") == ["intact", "refused", "nothing", "no mark"]
    assert faults.killed_cells(wrong, loaded, "nothing")[:2] == ["SILENTLY WRONG", "complete"]


def test_leavings_are_counted(tmp_path):
    (tmp_path / "half").write_bytes(bytes(3 << 20))
    assert faults.leavings([tmp_path / "half"], {"psm_1": 64 << 20, "sem": 32}) == "1 file, 3 MiB; /dev/shm 64 MiB"
    assert faults.leavings([], {"sem": 32}) == "nothing"


def test_a_full_disk_is_told_to_somebody_or_to_nobody():
    failed = {"event": "failed", "message": "OSError: [Errno 28] No space left on device", "space": "said"}
    saved = {"event": "saved", "wrong": 0}
    assert faults.full_cells(failed, 0, saved, None) == ["training: an exception", "intact", "work", failed["message"]]
    assert faults.full_cells({**failed, "message": "E: pos", "space": "never"}, 0, saved, None)[3] == "E: pos (never names the full disk)"
    assert faults.full_cells({"event": "hung"}, 0, {"event": "hung"}, "No space left")[:3] == [
        "NOBODY: training waits; a log line", "intact", "NO: hung"]
    assert faults.full_cells({"event": "saved"}, 5, None, None)[:3] == ["NOBODY: called saved", "LOST", "NO"]
    assert faults.full_cells(None, None, None, None)[:3] == ["NOBODY: training waits", "not established", "NO"]


def raised(outer, inner=None):
    try:
        try:
            if inner:
                raise inner
        finally:
            raise outer
    except Exception as error:
        return error


def test_an_error_is_told_by_its_class_and_the_line_that_says_most():
    assert words.of(ValueError("")) == "ValueError"
    assert words.of(ValueError("first\nsecond")) == "ValueError: first"
    traceback = "Traceback (most recent call last): (RANK 0)\n  File x\nAssertionError: metadata is None"
    assert words.of(RuntimeError(traceback)) == "RuntimeError: AssertionError: metadata is None"


def test_where_a_full_disk_is_named():
    full = OSError(28, "No space left on device")
    assert words.names_space(full) == "said"
    assert words.names_space(raised(RuntimeError("unexpected pos"), full)) == "chained"
    assert words.names_space(RuntimeError("unexpected pos")) == "never"
    assert words.line_about_failure("a\n E No space left on device \nOSError: b") == "E No space left on device"
    assert words.line_about_failure("[ERROR] no\nRuntimeError: pos\nb") == "RuntimeError: pos"
    assert words.line_about_failure("a") is None


def test_words_for_a_table_are_short():
    assert words.short("a\n  b") == "a b"
    assert words.short("no file: /a/b-1/step-2, nor rank/0") == "no file: step-2, nor rank/0"
    assert len(words.short("x" * 500)) == words.LENGTH and words.short("x" * 500).endswith("...")


def test_a_stall_counts_up_to_the_next_save_and_the_first_and_last_saves_do_not():
    steps = 40
    result = {"step": [1.0] * steps, "stall": [0.0] * steps, "memcpy": [0.5, 0.4, 0.6]}
    result["stall"][9], result["stall"][19], result["stall"][21], result["stall"][29] = 9.0, 0.25, 0.125, 0.5
    result["step"][20] = 1.75
    assert belay_row.stall_rounds(result, 10, 2) == [
        {"stall": 0.375, "stall_memcpy": 0.5, "added": 0.75}, {"stall": 0.5, "stall_memcpy": 0.5, "added": 0.0}]


def test_belay_is_quoted_by_the_reason_it_gives():
    line = '[0] error belay a checkpoint could not be loaded checkpoint="step 10" reason="rank 0: a is damaged" next="none is left"'
    assert belay_faults.reason(line) == "a is damaged"
    assert belay_faults.reason("belay: done") is None


def test_committed_steps_are_those_with_a_manifest(tmp_path):
    for name, whole in (("step-000000005.gen-1", True), ("step-000000010.gen-1", False), ("step-000000020.gen-2", True)):
        folder = tmp_path / "default/j" / name
        folder.mkdir(parents=True)
        if whole:
            (folder / "manifest.json").touch()
    assert belay_faults.committed(tmp_path) == [5, 20]


def test_the_picture_has_a_bar_for_each_that_ran_and_words_for_the_others():
    script = picture.script(results(), ENTRIES, "out.png")
    assert script.count("set object rectangle") == 3 * 2
    assert script.count("did not run") == 3
    assert picture.OURS in script and "set logscale x" in script
