"""HTTP/3 and WebTransport as bytes, made and read without the code under test.

Varints and QPACK are aioquic's and pylsqpack's. Nothing here refuses anything: a test that wants
a malformed frame composes it (`frame(TYPE, payload)`, or plain bytes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pylsqpack
from aioquic._buffer import Buffer, BufferReadError
from aioquic.buffer import encode_uint_var

varint = encode_uint_var

# Streams (RFC 9114 §6.2, RFC 9204 §4.2, webtrans-http3-16 §4.2 and §4.3).
CONTROL, PUSH, QPACK_ENCODER, QPACK_DECODER, WT_UNI = 0x00, 0x01, 0x02, 0x03, 0x54
WT_BIDI = 0x41

# Frames (RFC 9114 §7.2).
DATA, HEADERS, CANCEL_PUSH, SETTINGS, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID = 0, 1, 3, 4, 5, 7, 13

# Settings.
QPACK_MAX_TABLE_CAPACITY, MAX_FIELD_SECTION_SIZE, QPACK_BLOCKED_STREAMS = 0x01, 0x06, 0x07
ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM, H3_DATAGRAM_DRAFT04 = 0x08, 0x33, 0xFFD277
ENABLE_WEBTRANSPORT = 0x2B603742  # draft 02
WEBTRANSPORT_MAX_SESSIONS = 0xC671706A  # drafts 07 to 12
WT_MAX_SESSIONS = 0x14E9CD29  # drafts 13 and 14
WT_ENABLED = 0x2C7CF000  # drafts 15 and 16
WT_INITIAL_MAX_DATA, WT_INITIAL_MAX_STREAMS_UNI, WT_INITIAL_MAX_STREAMS_BIDI = (
    *(0x2B61, 0x2B64, 0x2B65),
)

# Capsules (RFC 9297 §3.5, webtrans-http3-16 §5.6 and §6).
CAPSULE_DATAGRAM, CLOSE_SESSION, DRAIN_SESSION = 0x00, 0x2843, 0x78AE
MAX_DATA, MAX_STREAM_DATA, MAX_STREAMS_BIDI, MAX_STREAMS_UNI = (
    *(0x190B4D3D, 0x190B4D3E, 0x190B4D3F, 0x190B4D40),
)
DATA_BLOCKED, STREAM_DATA_BLOCKED, STREAMS_BLOCKED_BIDI, STREAMS_BLOCKED_UNI = (
    *(0x190B4D41, 0x190B4D42, 0x190B4D43, 0x190B4D44),
)

SETTINGS_OF = {
    "02": {ENABLE_WEBTRANSPORT: 1, H3_DATAGRAM: 1, H3_DATAGRAM_DRAFT04: 1},
    "07": {WEBTRANSPORT_MAX_SESSIONS: 16, H3_DATAGRAM: 1},
    "13": {WT_MAX_SESSIONS: 1, H3_DATAGRAM: 1},
    "15": {WT_ENABLED: 1, H3_DATAGRAM: 1},
}
"""What a client of each draft announces; a server adds ENABLE_CONNECT_PROTOCOL."""


class Frame(NamedTuple):
    """A frame or a capsule: both are type, length and payload."""

    type: int
    payload: bytes


def frame(type_: int, payload: bytes = b"") -> bytes:
    return varint(type_) + varint(len(payload)) + payload


capsule = frame


def settings_frame(settings: Mapping[int, int] | Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS; pairs instead of a mapping may repeat an id."""
    pairs = settings.items() if isinstance(settings, Mapping) else settings
    return frame(SETTINGS, b"".join(varint(i) + varint(value) for i, value in pairs))


def control_stream(settings: Mapping[int, int] | Iterable[tuple[int, int]]) -> bytes:
    """The first bytes of a control stream."""
    return varint(CONTROL) + settings_frame(settings)


def field_section(fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """QPACK without a dynamic table; names and values go out as they are given."""
    pairs = [(_bytes(name), _bytes(value)) for name, value in fields]
    _, section = pylsqpack.Encoder().encode(0, pairs)
    return section


def headers_frame(fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    return frame(HEADERS, field_section(fields))


def connect_fields(
    *,
    authority: str = "localhost",
    path: str = "/",
    token: str = "webtransport",
    extra: Iterable[tuple[str, str]] = (),
) -> list[tuple[str | bytes, str | bytes]]:
    """The fields of a request for a session; ``extra`` follows them."""
    return [
        (":method", "CONNECT"),
        (":protocol", token),
        (":scheme", "https"),
        (":authority", authority),
        (":path", path),
        *extra,
    ]


def connect_frame(**options: object) -> bytes:
    """HEADERS of a request for a session; the options of :func:`connect_fields`."""
    return headers_frame(connect_fields(**options))  # type: ignore[arg-type]


def response_frame(status: int = 200, extra: Iterable[tuple[str, str]] = ()) -> bytes:
    return headers_frame([(":status", str(status)), *extra])


def close_capsule(code: int = 0, reason: str | bytes = "") -> bytes:
    return capsule(CLOSE_SESSION, code.to_bytes(4) + _bytes(reason))


def uni_header(session_id: int) -> bytes:
    return varint(WT_UNI) + varint(session_id)


def bidi_header(session_id: int) -> bytes:
    return varint(WT_BIDI) + varint(session_id)


def datagram(session_id: int, payload: bytes) -> bytes:
    """The payload of a DATAGRAM frame (RFC 9297 §2.1)."""
    return varint(session_id // 4) + payload


def to_http_code(code: int) -> int:
    """An application's code in HTTP/3's space (webtrans-http3-16 §4.4)."""
    return 0x52E4A40FA8DB + code + code // 30


def split_frames(data: bytes) -> list[Frame]:
    """The whole frames, or capsules, at the front of ``data``."""
    frames = []
    buffer = Buffer(data=data)
    while True:
        try:
            type_ = buffer.pull_uint_var()
            frames.append(Frame(type_, buffer.pull_bytes(buffer.pull_uint_var())))
        except BufferReadError:
            return frames


def split_capsules(data: bytes) -> list[Frame]:
    """The whole capsules in the DATA frames of a stream."""
    return split_frames(b"".join(f.payload for f in split_frames(data) if f.type == DATA))


def read_varint(data: bytes) -> tuple[int, int] | None:
    """The varint at the front, and its size; None: more is to come."""
    buffer = Buffer(data=data)
    try:
        return buffer.pull_uint_var(), buffer.tell()
    except BufferReadError:
        return None


def read_settings(payload: bytes) -> dict[int, int]:
    settings = {}
    buffer = Buffer(data=payload)
    while not buffer.eof():
        identifier = buffer.pull_uint_var()
        settings[identifier] = buffer.pull_uint_var()
    return settings


def read_fields(section: bytes) -> list[tuple[str, str]]:
    _, fields = pylsqpack.Decoder(0, 0).feed_header(0, section)
    return [(name.decode(), value.decode()) for name, value in fields]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
