"""STOP_SENDING that overtakes a stream's first bytes, as loss and reordering make it; and what
streams that were aborted leave behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from pywebtransport.exceptions import StreamError
from tests.support import raw_http3 as h3
from tests.support.raw_peer import RawPeer, raw_client

STOP_SENDING = 0x05
CODE = 55


def stop_sending(stream_id: int) -> bytes:
    """A frame that aioquic does not know of."""
    return b"".join(map(h3.varint, (STOP_SENDING, stream_id, h3.to_http_code(CODE))))


def aborted(stream_id: int, data: bytes) -> bytes:
    """A whole stream in one packet, its stop first."""
    stream, code = h3.varint(stream_id), h3.varint(h3.to_http_code(CODE))
    size = h3.varint(len(data))
    return stop_sending(stream_id) + b"\x0a" + stream + size + data + b"\x04" + stream + code + size


async def session_of(site: Any, peer: RawPeer) -> tuple[int, Any]:
    peer.send(peer.open(unidirectional=True), h3.control_stream(h3.SETTINGS_OF["02"]))
    session_id = peer.open()
    peer.send(session_id, h3.connect_frame(extra=[("sec-webtransport-http3-draft02", "1")]))
    assert (await peer.response(session_id))[":status"] == "200"
    return session_id, await site.session()


async def test_a_stop_before_the_first_byte_is_kept(serve):
    site = await serve(write_timeout=5.0)
    async with raw_client(site.port) as peer:
        session_id, session = await session_of(site, peer)
        stream_id = peer.open()
        peer.frames(stop_sending(stream_id))
        peer.flush()
        # Another stream says that the stop has arrived.
        other = peer.open()
        peer.send(other, h3.bidi_header(session_id) + b"!", fin=True)
        assert await (await session.accept_bidirectional_stream()).read_all() == b"!"

        peer.send(stream_id, h3.bidi_header(session_id) + b"late", fin=True)
        stream = await session.accept_bidirectional_stream()
        assert await stream.read_all() == b"late"
        with pytest.raises(StreamError) as caught:
            while True:
                await stream.write(data=bytes(1000))
        assert caught.value.error_code == CODE
        async with asyncio.timeout(5):
            await stream.wait_closed()
        await peer.until(lambda: peer.streams[stream_id].reset)
        assert peer.streams[stream_id].reset.code == h3.to_http_code(CODE)


def left(session: Any) -> int:
    """Streams of which the core has an entry, beside the session's own."""
    return int(session.connection._link.engine.stats().extra["streams"])


async def test_aborted_streams_leave_nothing(serve):
    """Data, reset and stop in one packet, read by nobody."""
    site = await serve()
    async with raw_client(site.port) as peer:
        session_id, session = await session_of(site, peer)
        before = left(session)
        for _ in range(50):
            streams = [peer.open() for _ in range(10)]
            for stream_id in streams:
                peer.frames(aborted(stream_id, h3.bidi_header(session_id) + b"x"))
            peer.flush()
            await peer.until(lambda: all(peer.streams[i].is_ended for i in streams))  # noqa: B023
        other = peer.open()
        peer.send(other, h3.bidi_header(session_id) + b"!", fin=True)
        while True:
            stream = await session.accept_bidirectional_stream()
            with suppress(StreamError):  # of those whose first byte came before their reset
                if await stream.read() == b"!":
                    break
        await stream.write_all(data=b"")
        await peer.until(lambda: peer.streams[other].fin)
        assert left(session) <= before + 1
