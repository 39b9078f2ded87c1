"""The shared test vectors through Python: the same entries that `rust/wire` checks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import _native as native

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "protocol" / "vectors.json").read_text("utf-8")
)
H3_ID_ERROR = 0x108
H3_MESSAGE_ERROR = 0x10E
QPACK_DECOMPRESSION_FAILED = 0x200
WT_FLOW_CONTROL_ERROR = 0x045D4487
WT_STREAM = 0x41


def vectors(kind: str) -> pytest.MarkDecorator:
    entries = [entry for entry in VECTORS if entry["kind"] == kind]
    return pytest.mark.parametrize("vector", entries, ids=[entry["id"] for entry in entries])


def raw(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"])


def is_valid(vector: dict[str, Any]) -> bool:
    return bool(vector.get("valid", True))


def last_code(vector: dict[str, Any]) -> int:
    return int(re.findall(r"0x[0-9a-f]+", vector["note"])[-1], 16)


def test_every_kind_is_checked() -> None:
    checked = {
        mark.args[1][0]["kind"]
        for name, test in globals().items()
        if name.startswith("test_")
        for mark in getattr(test, "pytestmark", [])
    }
    assert checked == {entry["kind"] for entry in VECTORS}
    assert len(VECTORS) == 167


@vectors("varint")
def test_varint(vector: dict[str, Any]) -> None:
    data = raw(vector)
    if not is_valid(vector):
        assert native.varint_decode(data) is None
        return
    assert native.varint_decode(data) == (vector["input"], len(data))
    assert native.varint_decode(b"\xff" + data, 1) == (vector["input"], len(data))
    if vector.get("minimal", True):
        assert native.varint_encode(vector["input"]) == data


@vectors("identifier")
def test_identifier(vector: dict[str, Any]) -> None:
    assert native.varint_encode(vector["value"]) == raw(vector)
    assert vector["input"].endswith(hex(vector["value"]))


FRAMES: dict[str, tuple[int, bytes]] = {
    "frame-01": (0x00, b"hi"),
    "frame-02": (0x07, b"\x08"),
    "frame-03": (0x0D, b"\x00"),
    "frame-04": (0x03, b"\x00"),
    "frame-05": (0x21, b"\x01\x02\x03"),
    "frame-06": (0x40, b""),
    "frame-07": (0x02, b""),
    "frame-08": (0xF0700, b"\x04u=1,i"),
}


@vectors("frame")
def test_frame(vector: dict[str, Any]) -> None:
    data = raw(vector)
    frames = native.frame_parse_many(data)
    (frame,) = frames
    assert frames.consumed == len(data)
    if vector["id"] == "frame-09":
        section = next(entry for entry in VECTORS if entry["id"] == "qpack-08")
        assert frame == (0x01, raw(section))
    else:
        assert frame == FRAMES[vector["id"]]
    type_, length, header = native.frame_decode_header(data) or pytest.fail("incomplete")
    assert (type_, length, header) == (frame[0], len(frame[1]), len(data) - len(frame[1]))
    assert native.frame_encode(*frame) == data


@vectors("settings")
def test_settings(vector: dict[str, Any]) -> None:
    ((type_, payload),) = native.frame_parse_many(raw(vector))
    assert type_ == 0x04
    if is_valid(vector):
        settings = native.settings_decode(payload, wt_enabled_is_flag=True)
        assert list(settings.items()) == [tuple(pair) for pair in vector["pairs"]]
        assert native.settings_encode(settings) == payload
        return
    with pytest.raises(native.CodecError) as caught:
        native.settings_decode(payload, wt_enabled_is_flag=True)
    assert caught.value.code == (0x106 if "0x106" in vector["note"] else 0x109)


@vectors("stream")
def test_stream(vector: dict[str, Any]) -> None:
    data = raw(vector)
    type_ = {"stream-01": 0x00, "stream-02": 0x02, "stream-03": 0x03}[vector["id"]]
    assert native.stream_header_decode(data, unidirectional=True) == (type_, None, 1)
    if type_ == 0x00:
        ((_, payload),) = native.frame_parse_many(data[1:])
        assert native.settings_decode(payload)[0x2C7CF000] == 1


@vectors("wt_stream")
def test_wt_stream(vector: dict[str, Any]) -> None:
    data = raw(vector)
    if not is_valid(vector):
        with pytest.raises(native.CodecError) as caught:
            native.stream_header_decode(data, unidirectional=True)
        assert caught.value.code == last_code(vector) == H3_ID_ERROR
        return
    unidirectional, session = vector["uni"], vector["session"]
    header = native.stream_header_decode(data, unidirectional=unidirectional)
    assert header is not None
    type_, decoded, length = header
    assert (type_, decoded) == (0x54 if unidirectional else WT_STREAM, session)
    assert data[length:] == (b"hello" if "hello" in vector["input"] else b"")
    if "8 bytes long" in vector["input"]:
        assert length == 16
    else:
        encoded = native.stream_header_encode(session, unidirectional=unidirectional)
        assert encoded == data[:length]


@vectors("datagram")
def test_datagram(vector: dict[str, Any]) -> None:
    data = raw(vector)
    if not is_valid(vector):
        with pytest.raises(native.CodecError) as caught:
            native.datagram_decode(data)
        assert caught.value.code == last_code(vector)
        return
    payload = b"" if "empty" in vector["input"] else bytes.fromhex("deadbeef")
    assert native.datagram_decode(data) == (vector["session"], payload)
    assert native.datagram_encode(vector["session"], payload) == data


CAPSULES: dict[str, tuple[int, str] | int | bytes | None] = {
    "capsule-01": (0, ""),
    "capsule-02": (420, "bye"),
    "capsule-03": (0xFFFFFFFF, "\u00e9"),
    "capsule-07": None,
    "capsule-08": b"x",
    "capsule-19": b"abcde",
}


@vectors("capsule")
def test_capsule(vector: dict[str, Any]) -> None:
    data = raw(vector)

    def decode() -> tuple[int, Any]:
        type_, length, start = native.capsule_decode_header(data) or pytest.fail("incomplete")
        assert length == len(data) - start
        return type_, native.capsule_decode(type_, data[start:])

    if not is_valid(vector):
        with pytest.raises(native.CodecError) as caught:
            decode()
        limit_error = vector["id"] == "capsule-15"
        assert caught.value.code == (WT_FLOW_CONTROL_ERROR if limit_error else H3_MESSAGE_ERROR)
        return
    type_, value = decode()
    assert type_ == vector["type"]
    assert value == (CAPSULES[vector["id"]] if vector["id"] in CAPSULES else vector["value"])
    assert native.capsule_encode(type_, value) == data


@vectors("connect_stream")
def test_connect_stream(vector: dict[str, Any]) -> None:
    frames = native.frame_parse_many(raw(vector))
    assert frames.consumed == len(raw(vector))
    body = b"".join(payload for type_, payload in frames if type_ == 0x00)
    assert set(frames.types()) <= {0x00, 0x21}
    type_, length, start = native.capsule_decode_header(body) or pytest.fail("incomplete")
    assert len(body) == start + length
    assert native.capsule_decode(type_, body[start:]) == (420, "bye")


@vectors("error_map")
def test_error_map(vector: dict[str, Any]) -> None:
    assert int(vector["hex"], 16) == vector["http"]
    if not is_valid(vector):
        assert native.http_to_app_error(vector["http"]) is None
        return
    assert native.app_error_to_http(vector["input"]) == vector["http"]
    assert native.http_to_app_error(vector["http"]) == vector["input"]
    assert native.varint_encode(vector["http"]).hex() == vector["varint"]


@vectors("error_code")
def test_error_code(vector: dict[str, Any]) -> None:
    assert native.error_name(vector["value"]) == vector["input"]
    assert native.varint_encode(vector["value"]) == raw(vector)


@vectors("quic_frame")
def test_quic_frame(vector: dict[str, Any]) -> None:
    data = raw(vector)
    assert native.varint_decode(data) == (0x24, 1)
    if not is_valid(vector):
        with pytest.raises(native.CodecError) as caught:
            native.reset_stream_at_decode(data[1:])
        assert caught.value.code == last_code(vector)
        return
    fields = (8, native.app_error_to_http(7), 100, 3)
    assert native.reset_stream_at_decode(data[1:]) == (fields, len(data) - 1)
    assert native.reset_stream_at_encode(*fields) == data


@vectors("transport_param")
def test_transport_param(vector: dict[str, Any]) -> None:
    ids = {
        "transport_param-01": 0x1D,
        "transport_param-02": 0x17F7586D2CB571,
        "transport_param-03": 0x17F7586D2CB570,
        "transport_param-04": 0x20,
    }
    ((id_, value),) = parameters = native.transport_parameters_decode(raw(vector))
    assert id_ == ids[vector["id"]]
    if "tp" in vector:
        size = vector["tp"]["max_datagram_frame_size"]
        assert native.varint_decode(value) == (size, len(value))
    else:
        assert value == b""
    assert native.transport_parameters_encode(parameters) == raw(vector)


@vectors("exporter")
def test_exporter(vector: dict[str, Any]) -> None:
    expected = {"exporter-01": (4, b"my-label", b"\1\2"), "exporter-02": (0, b"a", b"")}
    context = expected[vector["id"]]
    assert native.exporter_context_decode(raw(vector)) == context
    assert native.exporter_context_encode(*context) == raw(vector)


@vectors("qpack")
def test_qpack(vector: dict[str, Any]) -> None:
    data = raw(vector)
    if not is_valid(vector):
        with pytest.raises(native.CodecError) as caught:
            native.section_decode(data)
        assert caught.value.code == QPACK_DECOMPRESSION_FAILED
        return
    fields = [(name.encode(), value.encode()) for name, value in vector["fields"]]
    assert native.section_decode(data) == fields
    assert native.section_encode(fields, huffman="Huffman" in vector["input"]) == data


@vectors("qpack_instr")
def test_qpack_instructions_of_a_peer_without_a_table(vector: dict[str, Any]) -> None:
    data, name = raw(vector), vector["input"]
    stream: native.QpackEncoderStream | native.QpackDecoderStream
    if "encoder: " in name:
        stream, code = native.QpackEncoderStream(), 0x201
    else:
        stream, code = native.QpackDecoderStream(), 0x202
    if name in ("encoder: Set Dynamic Table Capacity 0", "decoder: Stream Cancellation stream 8"):
        stream.feed(data)
        return
    with pytest.raises(native.CodecError) as caught:
        stream.feed(data)
    assert caught.value.code == code
    if not is_valid(vector):
        assert last_code(vector) == code
