"""The files of a run's metrics, read by a parser that shares nothing with their writer."""

import json
import math
import os
import pathlib
import re
import struct
import subprocess

import pytest


def crc32c(data):
    """Bit by bit, from the polynomial alone (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at : at + 8])
        body = data[at + 12 : at + 12 + length]
        assert len(body) == length
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(body)
        yield body
        at += 16 + length


def fields(data):
    """One protobuf message as a list of (field, value)."""

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    at, found = 0, []
    while at < len(data):
        key = varint()
        field, wire = key >> 3, key & 7
        if wire == 0:
            found.append((field, varint()))
        elif wire == 1:
            found.append((field, struct.unpack_from("<d", data, at)[0]))
            at += 8
        elif wire == 5:
            found.append((field, struct.unpack_from("<f", data, at)[0]))
            at += 4
        else:
            assert wire == 2
            length = varint()
            found.append((field, data[at : at + length]))
            at += length
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("metrics") / "run"
    subprocess.run([os.environ["BELAY_SAMPLE_WRITER"], str(path)], check=True)
    return path


def test_every_record_of_the_event_file_checks_and_decodes(folder):
    (path,) = folder.glob("events.out.tfevents.*.sample.1")
    events = [dict(fields(body)) for body in records(path.read_bytes())]
    assert events[0][3] == b"brain.Event:2"
    assert len(events) == 1 + 301 + 1
    for step, event in enumerate(events[1:301]):
        assert event.get(2) == step
        assert event[1] > 1.6e9
        values = [dict(fields(value)) for field, value in fields(event[5]) if field == 1]
        assert [value[1] for value in values] == [b"loss", b"learning_rate"]
        assert values[0][2] == pytest.approx(1 / 3 / (step + 1), rel=1e-6)
    assert math.isnan(dict(fields(dict(fields(events[301][5]))[1]))[2])


def test_text_is_a_string_tensor_of_the_text_plugin(folder):
    (path,) = folder.glob("events.out.tfevents.*.sample.1")
    event = dict(fields(list(records(path.read_bytes()))[-1]))
    value = dict(fields(dict(fields(event[5]))[1]))
    assert value[1] == b"sample"
    tensor = dict(fields(value[8]))
    assert tensor[1] == 7  # DT_STRING
    assert dict(fields(dict(fields(tensor[2]))[2]))[1] == 1
    assert tensor[8].decode() == 'In the beginning\n"quoted" é'
    assert dict(fields(dict(fields(value[9]))[1]))[1] == b"text"


def test_lines_are_json_with_exact_losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 302
    for step, line in enumerate(lines[:300]):
        assert line["step"] == step
        assert line["loss"] == 1.0 / 3 / (step + 1)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert lines[300]["loss"] is None
    assert lines[301]["sample"] == 'In the beginning\n"quoted" é'


def test_a_record_with_a_flipped_bit_would_be_noticed(folder):
    (path,) = folder.glob("events.out.tfevents.*.sample.1")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(Exception):
        list(records(bytes(data)))


def test_crc32c_is_that_of_the_rfc():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
