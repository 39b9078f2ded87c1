"""Initial packets, whose keys everybody knows (RFC 9001 §5.2), with anything inside."""

from __future__ import annotations

import os

from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion

from tests.support import raw_http3 as h3

VERSION = QuicProtocolVersion.VERSION_1
SOURCE_ID = b"\x01\x02\x03\x04\x05\x06\x07\x08"
MIN_DATAGRAM = 1200
TAG = 16
NUMBER_SIZE = 2


def initial(
    destination_id: bytes,
    frames: bytes,
    *,
    source_id: bytes = SOURCE_ID,
    token: bytes = b"",
    number: int = 0,
    by_server: bool = False,
    key_id: bytes | None = None,
) -> bytes:
    """A datagram of one Initial packet, padded, with the keys of ``key_id`` or the destination."""
    head = bytes([0xC0 | NUMBER_SIZE - 1]) + VERSION.to_bytes(4)
    for connection_id in (destination_id, source_id):
        head += bytes([len(connection_id)]) + connection_id
    if not by_server:
        head += h3.varint(len(token)) + token
    else:
        head += b"\0"
    room = MIN_DATAGRAM - len(head) - 2 - NUMBER_SIZE - TAG
    payload = frames.ljust(room, b"\0")
    length = NUMBER_SIZE + len(payload) + TAG
    head += (length | 1 << 14).to_bytes(2) + number.to_bytes(NUMBER_SIZE)
    crypto = CryptoPair()
    crypto.setup_initial(key_id or destination_id, is_client=not by_server, version=VERSION)
    return crypto.encrypt_packet(head, payload, number)


def crypto_frame(offset: int, data: bytes) -> bytes:
    return b"\x06" + h3.varint(offset) + h3.varint(len(data)) + data


def destination_of(datagram: bytes) -> bytes:
    return datagram[6 : 6 + datagram[5]]


def source_of(datagram: bytes) -> bytes:
    at = 6 + datagram[5]
    return datagram[at + 1 : at + 1 + datagram[at]]


def frames_of(datagram: bytes) -> bytes:
    """What is inside the Initial packet that begins a client's first datagram."""
    at = 6 + datagram[5]
    at += 1 + datagram[at]
    # An empty token, then the length.
    read = h3.read_varint(datagram[at + 1 :])
    assert read is not None
    length, size = read
    offset = at + 1 + size
    crypto = CryptoPair()
    crypto.setup_initial(destination_of(datagram), is_client=False, version=VERSION)
    _, payload, _ = crypto.decrypt_packet(datagram[: offset + length], offset, 0)
    return payload


def random_id() -> bytes:
    return os.urandom(8)
