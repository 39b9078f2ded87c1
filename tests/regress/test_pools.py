"""A pool hands out only what is whole and nobody else's."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.exceptions import StreamError, TimeoutError
from pywebtransport.pool import ConnectionPool, SessionPool, StreamPool
from pywebtransport.stream import WebTransportStream
from pywebtransport.types import EventType
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import Pair, within

from .place import until


def streams_of(pair: Pair) -> StreamPool:
    manager = pair.client.stream_manager
    assert manager is not None
    return StreamPool(stream_manager=manager, max_size=1)


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_an_answer_is_not_for_the_next_one(site: MakeSite, how: str) -> None:
    pair = await (await site(client={"read_timeout": 0.05})).pair()
    async with streams_of(pair) as pool:

        async def ask(words: bytes) -> bytes:
            async with pool.get() as stream:
                await stream.write(data=words)
                return await stream.read()

        asking = asyncio.create_task(ask(b"alice"))
        stream = await within(pair.server.accept_bidirectional_stream())
        assert await within(stream.read()) == b"alice"
        if how == "cancelled":
            asking.cancel()
        with pytest.raises((TimeoutError, asyncio.CancelledError)):
            await within(asking)
        with pytest.raises(StreamError):
            # The stream has been aborted; nobody is there for the answer.
            while True:
                await within(stream.write(data=b"answer to alice"))
                await asyncio.sleep(0)
        async with pool.get() as other:
            assert other.stream_id != stream.stream_id


async def borrow(pool: StreamPool, pair: Pair) -> tuple[WebTransportStream, WebTransportStream]:
    near = await pool.acquire()
    await near.write(data=b"x")
    far = await within(pair.server.accept_bidirectional_stream())
    assert await within(far.read()) == b"x"
    return near, far


async def test_a_whole_stream_is_reused(site: MakeSite) -> None:
    pair = await (await site()).pair()
    async with streams_of(pair) as pool:
        near, far = await borrow(pool, pair)
        await far.write(data=b"y")
        assert await within(near.read()) == b"y"
        await pool.release(near)
        assert await pool.acquire() is near


@pytest.mark.parametrize("what", ["ended here", "ended there", "unread", "partly read"])
async def test_a_stream_that_is_not_whole_is_not_reused(site: MakeSite, what: str) -> None:
    pair = await (await site()).pair()
    async with streams_of(pair) as pool:
        near, far = await borrow(pool, pair)
        if what == "ended here":
            await near.write_all(data=b"all")
            assert await within(far.read_all()) == b"all"
        elif what == "ended there":
            await far.close()
            assert await within(near.read()) == b""
        elif what == "unread":
            await far.write(data=b"late")
            await within(near._fill(near._linked()))
        else:
            await far.write(data=b"two words")
            assert await within(near.readuntil(separator=b" ")) == b"two "
        await pool.release(near)
        assert await pool.acquire() is not near


async def test_what_came_while_it_was_idle_spoils_a_stream(site: MakeSite) -> None:
    pair = await (await site()).pair()
    async with streams_of(pair) as pool:
        near, far = await borrow(pool, pair)
        await pool.release(near)
        await far.write(data=b"late answer")
        # What comes after it on the connection says that it is there.
        marker = await pair.server.create_unidirectional_stream()
        await marker.write_all(data=b"now")
        await within((await within(pair.client.accept_unidirectional_stream())).read_all())
        assert await pool.acquire() is not near


async def test_a_session_that_drains_is_not_reused(site: MakeSite) -> None:
    here = await site()
    pool = SessionPool(client=here.client, url=here.url, max_size=1)
    async with pool:
        first = await pool.acquire()
        served = await within(here.sessions.get())
        await pool.release(first)
        link = served._link
        assert link is not None
        told = asyncio.create_task(first.wait_for(event_type=EventType.SESSION_DRAINING))
        await asyncio.sleep(0)
        link.engine.drain_session(served._control_id)
        await within(told)
        second = await pool.acquire()
        assert second is not first
        assert second.is_ready
        with pytest.raises(KeyError):
            await pool.release(second)
            async with pool.get():
                raise KeyError("inside")
        third = await pool.acquire()
        assert third is not second


async def test_a_connection_is_not_reused_after_an_exception(site: MakeSite) -> None:
    here = await site()
    host, port = "127.0.0.1", int(here.url.split(":")[2].strip("/"))
    async with ConnectionPool(config=here.client_config, host=host, port=port, max_size=1) as pool:
        with pytest.raises(KeyError):
            async with pool.get() as first:
                raise KeyError("inside")
        async with pool.get() as second:
            assert second is not first
        async with pool.get() as third:
            assert third is second


@pytest.mark.parametrize(
    "left", ["nothing", "a stream", "a stream of the server", "a datagram", "one on its way"]
)
async def test_a_session_is_for_the_next_one_as_if_it_were_new(site: MakeSite, left: str) -> None:
    place = await site()
    async with SessionPool(client=place.client, url=place.url, max_size=1) as pool:
        first = await pool.acquire()
        far = await within(place.sessions.get())
        first.data["user"] = "alice"
        heard: list[object] = []
        first.on(event_type=EventType.STREAM_OPENED, handler=heard.append)
        match left:
            case "a stream":
                await (await first.create_bidirectional_stream()).write(b"half")
            case "a stream of the server":
                await (await far.create_unidirectional_stream()).write_all(b"for alice")
                await until(lambda: len(heard) == 1)
            case "a datagram":
                await far.send_datagram(b"for alice")
                await until(lambda: first._datagram_transport()._inbox.pull_to_limit() == 1)
            case "one on its way":
                await pool.release(first)
                await far.send_datagram(b"for alice")
                await until(lambda: first._datagram_transport()._inbox.pull_to_limit() == 1)
        if left != "one on its way":
            await pool.release(first)
        second = await pool.acquire()
        assert (second is first) == (left == "nothing")
        assert second.data == {}
        heard.clear()
        await second.create_bidirectional_stream()
        await asyncio.sleep(0)
        assert heard == []
        await pool.release(second)


async def test_a_stream_is_for_the_next_one_as_if_it_were_new(site: MakeSite) -> None:
    pair = await (await site()).pair()
    async with streams_of(pair) as pool:
        first, far = await borrow(pool, pair)
        heard: list[object] = []
        first.on(event_type=EventType.STREAM_CLOSED, handler=heard.append)
        first.send_order = 5
        await pool.release(first)
        async with pool.get() as second:
            assert second is first and second.send_order == 0
            await second.abort()
            await within(far.abort())
        await asyncio.sleep(0)
        assert heard == []
