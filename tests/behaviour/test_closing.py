"""Whoever waits in a session is woken by its end, however it ends, with what is documented."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from pywebtransport.constants import ErrorCodes
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ConnectionError,
    DatagramError,
    SessionClosedError,
    SessionError,
    StreamError,
)
from pywebtransport.types import EventType, SessionState, StreamState

from .conftest import MakeSite
from .site import ENDS, Pair, blocked, within
from .waiters import LIMITS, check_endings, everything_waits

Cause = Callable[[Pair, str], Awaitable[Any]]


async def close_near_session(pair: Pair, end: str) -> None:
    await pair.end(end).close(code=7, reason="enough")


async def close_far_session(pair: Pair, end: str) -> None:
    await pair.other(end).close(code=7, reason="enough")


async def close_near_connection(pair: Pair, end: str) -> None:
    connection = pair.end(end).connection
    assert connection is not None
    await connection.close(reason="enough")


async def close_far_connection(pair: Pair, end: str) -> None:
    connection = pair.other(end).connection
    assert connection is not None
    await connection.close(code=ErrorCodes.H3_INTERNAL_ERROR, reason="enough")


async def close_far_connection_cleanly(pair: Pair, end: str) -> None:
    connection = pair.other(end).connection
    assert connection is not None
    await connection.close(reason="enough")


CAUSES: dict[str, Cause] = {
    "near-session": close_near_session,
    "far-session": close_far_session,
    "near-connection": close_near_connection,
    "far-connection": close_far_connection,
    "far-connection-cleanly": close_far_connection_cleanly,
}
CLEAN = {"far-connection-cleanly"}
"""Sessions end with code 0 there: what has not been read has ended, and nothing was lost."""
QUICK = {"close_timeout": 0.5}
"""Closing waits so long for windows that never open."""


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("cause", CAUSES)
async def test_every_waiter_wakes(site: MakeSite, engine: str, cause: str, end: str) -> None:
    pair = await (await site(**LIMITS, **QUICK)).pair()
    tasks = await everything_waits(pair, end)
    await within(CAUSES[cause](pair, end))
    texts = await check_endings(tasks, is_clean=cause in CLEAN)
    print(f"{engine}: {end}, {cause}:", *texts, sep="\n  ")
    assert all("enough" in text for text in texts), texts
    session = pair.end(end)
    await within(session.wait_closed())
    assert session.is_closed and session.state == SessionState.CLOSED
    connection = session.connection
    assert connection is not None
    await within(connection.close())
    assert connection.get_all_sessions() == []


@pytest.mark.parametrize("cause", CAUSES)
async def test_everything_after_the_end_is_refused(site: MakeSite, cause: str) -> None:
    pair = await (await site(**QUICK)).pair()
    session = pair.client
    near, _ = await pair.stream()
    transport = await session.create_datagram_transport()
    await within(CAUSES[cause](pair, "client"))
    await within(session.wait_closed())
    for operation in (
        session.accept_bidirectional_stream,
        session.accept_unidirectional_stream,
        session.create_bidirectional_stream,
        session.create_unidirectional_stream,
        session.ready,
    ):
        with pytest.raises(SessionError):
            await within(operation())
    if cause in CLEAN:
        assert await near.read() == await near.readline() == b""
    for stream_operation, error in (
        (near.read, None if cause in CLEAN else StreamError),
        (near.readline, None if cause in CLEAN else StreamError),
        (partial(near.readexactly, n=1), EOFError if cause in CLEAN else StreamError),
        (near.read_all, StreamError),
        (partial(near.write, data=b"x"), StreamError),
        (partial(near.write_all, data=b"x"), StreamError),
    ):
        if error is not None:
            with pytest.raises(error):
                await within(stream_operation())
    with pytest.raises(DatagramError, match="enough"):
        await transport.send(data=b"x")
    with pytest.raises(DatagramError, match="enough"):
        await within(transport.receive())
    assert not await transport.try_send(data=b"x")
    assert await transport.try_receive() is None
    # Ending what has ended is no error.
    await near.close()
    await near.abort()
    await near.wait_closed()
    await transport.close()
    await session.close(code=9)
    assert [stream async for stream in session.incoming_streams()] == []


@pytest.mark.parametrize("end", ENDS)
async def test_code_and_reason_of_a_session_reach_the_peer(site: MakeSite, end: str) -> None:
    pair = await (await site()).pair()
    waiter = await blocked(pair.other(end).accept_bidirectional_stream())
    await pair.end(end).close(code=0xFFFF_FFFF, reason="bye é")
    with pytest.raises(SessionClosedError, match="bye é") as caught:
        await within(waiter)
    assert caught.value.error_code == 0xFFFF_FFFF


@pytest.mark.parametrize("end", ENDS)
async def test_reset_wakes_the_reader_with_its_code(site: MakeSite, end: str) -> None:
    pair = await (await site()).pair()
    for operation in ("read", "read_all", "readline"):
        near, far = await pair.stream(end)
        waiter = await blocked(getattr(far, operation)())
        await near.reset(error_code=77)
        with pytest.raises(StreamError, match="77") as caught:
            await within(waiter)
        assert caught.value.error_code == 77
        assert caught.value.stream_id == near.stream_id
        assert not near.is_writable
        with pytest.raises(StreamError):
            await near.write(data=b"x")
        # The other direction goes on.
        await far.write(data=b"still", end_stream=True)
        assert await within(near.read_all()) == b"still"
        assert far.state == StreamState.RESET_RECEIVED


@pytest.mark.parametrize("end", ENDS)
async def test_stop_wakes_the_writer_with_its_code(site: MakeSite, end: str) -> None:
    pair = await (await site(**LIMITS)).pair()
    for data in (bytes(1 << 20), memoryview(bytes(1 << 20))):
        near, far = await pair.stream(end)
        waiter = await blocked(near.write(data=data))
        await far.stop_receiving(error_code=55)
        with pytest.raises(StreamError, match="55") as caught:
            await within(waiter)
        assert caught.value.error_code == 55
        with pytest.raises(StreamError):
            await far.read()
        # The other direction goes on.
        await far.write(data=b"still", end_stream=True)
        assert await within(near.read_all()) == b"still"
        await within(near.wait_closed())
        await within(far.wait_closed())


async def test_a_reset_and_a_stop_of_one_stream_keep_their_codes(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    told: list[tuple[str, int]] = []
    both_told = asyncio.Event()

    def listen(event: Event) -> None:
        assert event.data is not None
        told.append((event.type, event.data["error_code"]))
        if len(told) == 4:
            both_told.set()

    for emitter in (far, far.session):
        for kind in (EventType.STREAM_RESET_RECEIVED, EventType.STOP_SENDING_RECEIVED):
            emitter.on(event_type=kind, handler=listen)
    await near.reset(error_code=5)
    await near.stop_receiving(error_code=4)
    await within(both_told.wait())
    assert set(told) == {
        (EventType.STREAM_RESET_RECEIVED, 5),
        (EventType.STOP_SENDING_RECEIVED, 4),
    }
    with pytest.raises(StreamError, match=r"reset stream .* with code 5") as reset:
        await within(far.read())
    with pytest.raises(StreamError, match=r"stop sending on stream .* with code 4") as stopped:
        await far.write(data=b"x")
    assert (reset.value.error_code, stopped.value.error_code) == (5, 4)


async def test_reading_is_ended_by_its_own_side(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    waiter = await blocked(far.read())
    await far.stop_receiving(error_code=1)
    with pytest.raises(StreamError, match="this side stopped"):
        await within(waiter)
    writer = await blocked(near.wait_closed())
    await far.close()
    await near.read_all()
    await within(writer)


async def test_writing_is_ended_by_its_own_side(site: MakeSite) -> None:
    pair = await (await site(**LIMITS)).pair()
    near, far = await pair.stream()
    waiter = await blocked(near.write(data=bytes(1 << 20)))
    await near.reset(error_code=3)
    with pytest.raises(StreamError, match="this side has reset"):
        await within(waiter)
    with pytest.raises(StreamError) as caught:
        await within(far.read_all())
    assert caught.value.error_code == 3


async def test_data_before_the_end_of_the_session_arrives(site: MakeSite) -> None:
    """Closing waits until what was written has reached the peer."""
    pair = await (await site()).pair()
    near, far = await pair.stream()
    data = bytes(range(256)) * 2000
    reader = asyncio.ensure_future(far.read_all())
    await near.write(data=data, end_stream=True)
    await pair.client.close()
    assert await within(reader) == data


async def test_what_the_end_of_the_session_cut_is_not_taken_for_all(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    await near.write(data=b"half")
    await pair.client.close()
    with pytest.raises(StreamError):
        await within(far.read_all())
    assert await within(far.read(size=-1)) == b"half"
    assert await within(far.read()) == b""


async def test_server_close_ends_its_sessions(site: MakeSite, engine: str) -> None:
    running = await site()
    pair = await running.pair()
    waiter = await blocked(pair.client.accept_bidirectional_stream())
    loop = asyncio.get_running_loop()
    started = loop.time()
    await within(running.app.server.close())
    print(f"{engine}: server closed in {loop.time() - started:.3f} s")
    with pytest.raises(SessionClosedError):
        await within(waiter)
    assert pair.server.is_closed
    with pytest.raises(ConnectionError):
        await within(running.client.connect(url=running.url, timeout=1))


async def test_connection_closes_behind_its_last_session_and_the_client_waits(
    site: MakeSite,
) -> None:
    running = await site()
    pair = await running.pair()
    near, far = pair.client.connection, pair.server.connection
    assert near is not None and far is not None
    told = asyncio.ensure_future(far.wait_for(event_type=EventType.CONNECTION_CLOSED))
    await within(pair.client.close())
    assert near.is_closing, "without waiting for a round trip"
    await within(running.client.close())
    assert near.is_closed
    event = await within(told)
    assert event.data["code"] == ErrorCodes.H3_NO_ERROR


@pytest.mark.parametrize("end", ENDS)
async def test_closing_from_both_ends_at_once(site: MakeSite, end: str) -> None:
    pair = await (await site()).pair()
    await within(
        asyncio.gather(
            pair.end(end).close(code=1),
            pair.other(end).close(code=2),
            pair.end(end).close(code=3),
        )
    )
    assert pair.client.is_closed and pair.server.is_closed
