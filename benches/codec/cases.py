"""What is measured: one piece of work, done by the native codecs and by aioquic or pylsqpack.

Both sides of a case get the same input and must give the same result, which `Case.check` proves
before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pylsqpack
from aioquic._buffer import Buffer
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import encode_settings, parse_settings

from pywebtransport import _native as native

Section = list[tuple[bytes, bytes]]
QIF = Path(__file__).parents[2] / "tests/data/protocol/qifs/fb-req.qif"


@dataclass(frozen=True)
class Case:
    """``native`` and ``peer`` do the same work; one call does ``size`` pieces of it."""

    name: str
    native: Callable[[], Any]
    peer: Callable[[], Any]
    peer_name: str = "aioquic"
    size: int = 1
    target: float | None = None
    """The ratio that is promised."""
    same: Callable[[Any, Any], bool] = lambda ours, theirs: ours == theirs

    def check(self) -> None:
        ours, theirs = self.native(), self.peer()
        assert self.same(ours, theirs), f"{self.name}: the results differ"


def cases() -> list[Case]:
    return [*varints(), *frames(), *settings(), *capsules(), *sections(), *datagrams()]


def varints() -> list[Case]:
    value = 494_878_333
    data = encode_uint_var(value)
    return [
        Case(
            "varint encode", partial(native.varint_encode, value), partial(encode_uint_var, value)
        ),
        Case(
            "varint decode",
            partial(native.varint_decode, data),
            lambda: Buffer(data=data).pull_uint_var(),
            same=lambda ours, theirs: ours[0] == theirs,
        ),
    ]


def frames() -> list[Case]:
    """64 frames of 12 bytes. The native call finds them all and makes objects when asked."""
    data = b"".join(native.frame_encode(0, b"hello world!") for _ in range(64))

    def peer() -> list[tuple[int, bytes]]:
        buffer = Buffer(data=data)
        found = []
        while not buffer.eof():
            type_ = buffer.pull_uint_var()
            length = buffer.pull_uint_var()
            found.append((type_, buffer.pull_bytes(length)))
        return found

    def same(ours: native.Frames, theirs: list[tuple[int, bytes]]) -> bool:
        return list(ours) == theirs

    return [
        Case(
            "parse of 64 frames in one call",
            partial(native.frame_parse_many, data),
            peer,
            target=20,
            same=same,
        ),
        Case(
            "the same, and all payloads as bytes",
            lambda: list(native.frame_parse_many(data)),
            peer,
        ),
    ]


def settings() -> list[Case]:
    values = {1: 0, 6: 65536, 7: 0, 8: 1, 0x33: 1, 0x2B603742: 1, 0x2C7CF000: 1}
    data = native.settings_encode(values)
    return [
        Case(
            "SETTINGS encode",
            partial(native.settings_encode, values),
            partial(encode_settings, values),
        ),
        Case(
            "SETTINGS decode", partial(native.settings_decode, data), partial(parse_settings, data)
        ),
    ]


def capsules() -> list[Case]:
    """aioquic has no capsules; its side is written with its Buffer as its own codecs are."""
    type_, value = 0x2843, (420, "going away")
    data = native.capsule_encode(type_, value)

    def ours() -> Any:
        header = native.capsule_decode_header(data)
        return native.capsule_decode(header[0], data[header[2] :]) if header else None

    def theirs() -> Any:
        buffer = Buffer(data=data)
        buffer.pull_uint_var()
        length = buffer.pull_uint_var()
        return buffer.pull_uint32(), buffer.pull_bytes(length - 4).decode()

    def peer_encode() -> bytes:
        text = value[1].encode()
        buffer = Buffer(capacity=20 + len(text))
        buffer.push_uint_var(type_)
        buffer.push_uint_var(4 + len(text))
        buffer.push_uint32(value[0])
        buffer.push_bytes(text)
        return bytes(buffer.data)

    return [
        Case("CLOSE capsule encode", partial(native.capsule_encode, type_, value), peer_encode),
        Case("CLOSE capsule decode", ours, theirs),
    ]


REQUEST: Section = [
    (b":method", b"CONNECT"),
    (b":scheme", b"https"),
    (b":authority", b"example.com"),
    (b":path", b"/"),
    (b":protocol", b"webtransport"),
    (b"sec-webtransport-http3-draft02", b"1"),
    (b"origin", b"https://example.com"),
]
RESPONSE: Section = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]


def sections() -> list[Case]:
    return [
        *section("request section", REQUEST, target=3),
        *section("response section", RESPONSE, target=3),
        *many_sections("request sections, all different", all_different()),
        *many_sections("sections of web traffic", web_traffic()),
    ]


def section(name: str, fields: Section, target: float) -> list[Case]:
    encoder, decoder = pylsqpack.Encoder(), pylsqpack.Decoder(0, 0)
    data = native.section_encode(fields)
    return [
        Case(
            f"{name} encode",
            partial(native.section_encode, fields),
            partial(encoder.encode, 0, fields),
            "pylsqpack",
            target=target,
            same=lambda _, theirs: native.section_decode(theirs[1]) == fields,
        ),
        Case(
            f"{name} decode",
            partial(native.section_decode, data),
            partial(decoder.feed_header, 0, data),
            "pylsqpack",
            target=target,
            same=lambda ours, theirs: ours == theirs[1],
        ),
    ]


def many_sections(name: str, inputs: list[Section]) -> list[Case]:
    encoder, decoder = pylsqpack.Encoder(), pylsqpack.Decoder(0, 0)
    encoded = [native.section_encode(fields) for fields in inputs]
    return [
        Case(
            f"{name} encode",
            lambda: [native.section_encode(fields) for fields in inputs],
            lambda: [encoder.encode(0, fields) for fields in inputs],
            "pylsqpack",
            size=len(inputs),
            same=lambda _, theirs: [native.section_decode(data) for _, data in theirs] == inputs,
        ),
        Case(
            f"{name} decode",
            lambda: [native.section_decode(data) for data in encoded],
            lambda: [decoder.feed_header(0, data) for data in encoded],
            "pylsqpack",
            size=len(inputs),
            same=lambda ours, theirs: ours == [fields for _, fields in theirs],
        ),
    ]


def all_different() -> list[Section]:
    """More distinct authorities, paths and origins than the cache of decoded fields holds."""
    found: list[Section] = []
    for number in range(2048):
        host = b"host-%d.example.com" % number
        changed = {b":authority": host, b":path": b"/%d" % number, b"origin": b"https://" + host}
        found.append([(name, changed.get(name, value)) for name, value in REQUEST])
    return found


def web_traffic() -> list[Section]:
    blocks = QIF.read_bytes().split(b"\n\n")
    lines = [[line.partition(b"\t") for line in block.split(b"\n") if line] for block in blocks]
    return [[(name, value) for name, _, value in block] for block in lines if block]


def datagrams() -> list[Case]:
    payload = bytes(1000)
    data = native.datagram_encode(256, payload)

    def peer() -> tuple[int, bytes]:
        buffer = Buffer(data=data)
        return buffer.pull_uint_var() * 4, data[buffer.tell() :]

    return [
        Case(
            "datagram encode",
            partial(native.datagram_encode, 256, payload),
            lambda: encode_uint_var(256 // 4) + payload,
        ),
        Case("datagram decode", partial(native.datagram_decode, data), peer),
    ]
