"""What arrived before a session's end is delivered, and then the end."""

from __future__ import annotations

import pytest

from .conftest import Connect

pytestmark = pytest.mark.parametrize("engine_name", ["aioquic"], indirect=True)


async def test_finished_streams_can_be_read_after_the_end(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    streams = {}
    for unidirectional in (False, True):
        stream_id = await pair.client.open(session_id, unidirectional)
        streams[stream_id] = b"%d" % stream_id * 1000
        await pair.client.write(stream_id, streams[stream_id], fin=True)
        await pair.server.next("stream_opened", session_id, stream_id)
    await echo(pair, session_id)
    pair.client.connection.close_session(session_id, code=7, reason="")
    await pair.server.next("session_closed", session_id)
    for stream_id, data in streams.items():
        assert pair.server.of("stream_reset", stream_id) == []
        assert await pair.server.read_all(stream_id) == data


async def test_half_a_stream_is_reset_by_the_end(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"half")
    await pair.server.next("stream_opened", session_id, stream_id)
    await echo(pair, session_id)
    pair.client.connection.close_session(session_id, code=7, reason="")
    await pair.server.next("stream_reset", stream_id)
    await pair.server.next("session_closed", session_id)
    assert await pair.server.read(stream_id) == b""


async def test_datagrams_can_be_read_after_the_end(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    sent = [b"first", b"second", b"third"]
    for data in sent:
        pair.client.connection.send_datagram(session_id, data)
    await echo(pair, session_id)
    pair.client.connection.close_session(session_id, code=7, reason="")
    await pair.server.next("session_closed", session_id)
    assert pair.server.connection.receive_datagrams(session_id, 10) == sent
    assert pair.server.connection.receive_datagrams(session_id, 10) == []


async def echo(pair, session_id: int) -> None:
    """A round trip: what was sent before has arrived."""
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"?", fin=True)
    await pair.server.next("stream_opened", session_id, stream_id)
    assert await pair.server.read_all(stream_id) == b"?"
    await pair.server.write(stream_id, b"!", fin=True)
    assert await pair.client.read_all(stream_id) == b"!"
