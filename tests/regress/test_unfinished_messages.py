"""What a connection's readers of messages keep of those that have come in part has one limit."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from pywebtransport.exceptions import StreamError, StreamResetError
from pywebtransport.pubsub import PubSubBroker, PubSubManager
from pywebtransport.rpc import RpcManager
from pywebtransport.serializer import JSONSerializer
from pywebtransport.stream import StructuredStream
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within
from tests.support.certificate import Certificate

from .place import PATIENCE, Place, until

LIMIT = 10_000
PART = LIMIT // 2
SIZE = PART + 1000
"""Of a message whose rest is missing when its part has come."""


async def begun(session: Any, data: bytes) -> Any:
    """A stream with the first part of a message, which the server has when this returns."""
    stream = await session.create_bidirectional_stream()
    await stream.write(data)
    return stream


async def ask(session: Any, question: bytes) -> bytes:
    stream = await begun(session, b"")
    return await answer_of(stream, question)


async def answer_of(stream: Any, rest: bytes) -> bytes:
    await stream.write(rest, end_stream=True)
    async with asyncio.timeout(PATIENCE):
        return bytes(await stream.read_all())


async def test_plain_functions(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate, max_unfinished_message_bytes=LIMIT) as place:

        @place.app.stream_route("/")
        def answer(stream: Any, data: bytes) -> bytes:
            return b"%d" % len(data)

        session = await place.connect()
        one, other = [await begun(session, bytes(PART)) for _ in range(2)]
        # A message that comes whole, in one packet, waits for nothing.
        assert await ask(session, bytes(500)) == b"500"
        with pytest.raises(StreamResetError) as caught:
            await within((await begun(session, b"x")).read())
        assert caught.value.error_code == 1
        assert await answer_of(one, b"end") == b"%d" % (PART + 3)
        again = await begun(session, bytes(PART))
        assert await ask(session, b"between") == b"7"
        for stream in (other, again):
            assert await answer_of(stream, b"end") == b"%d" % (PART + 3)


async def test_one_alone_is_never_too_much(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate, max_unfinished_message_bytes=1) as place:

        @place.app.stream_route("/")
        def answer(stream: Any, data: bytes) -> bytes:
            return b"%d" % len(data)

        session = await place.connect()
        for _ in range(2):
            stream = await begun(session, bytes(PART))
            assert await ask(session, b"between") == b"7"
            assert await answer_of(stream, bytes(PART)) == b"%d" % LIMIT


async def test_what_a_stream_held_is_given_back_when_it_fails(
    engine: str, certificate: Certificate
) -> None:
    async with Place(engine, certificate, max_unfinished_message_bytes=LIMIT) as place:
        called: list[int] = []

        @place.app.stream_route("/", max_size=LIMIT)
        def answer(stream: Any, data: bytes) -> bytes:
            called.append(len(data))
            return b"%d" % len(data)

        session = await place.connect()
        for _ in range(3):
            stream = await begun(session, bytes(LIMIT))
            assert await ask(session, b"between") == b"7"
            await stream.abort(code=5)
            assert await ask(session, b"between") == b"7"
        assert called == [7] * 6


async def test_structured_streams(site: MakeSite) -> None:
    pair = await (await site(max_unfinished_message_bytes=LIMIT)).pair()
    message = struct.pack("!HI", 1, SIZE) + b'"' + b"x" * (SIZE - 2) + b'"'
    options: dict[str, Any] = {"serializer": JSONSerializer(), "registry": {1: str}}

    async def receiving(part: bytes) -> tuple[Any, Any, asyncio.Task[Any]]:
        near, far = await pair.stream()
        await near.write(data=part)
        task = asyncio.create_task(StructuredStream(stream=far, **options).receive_obj())
        await until(lambda: far.stats().bytes_received == 1 + len(part) or task.done())
        return near, far, task

    one, _, first = await receiving(message[: 6 + PART])
    other, _, second = await receiving(message[: 6 + PART])
    _, _, whole = await receiving(struct.pack("!HI", 1, 5) + b'"all"')
    assert await within(whole) == "all"
    _, far, third = await receiving(message[: 6 + 1])
    with pytest.raises(StreamError, match="max_unfinished_message_bytes=10000"):
        await within(third)
    assert not far.is_readable
    for near, task in ((one, first), (other, second)):
        await near.write(data=message[6 + PART :])
        assert await within(task) == "x" * (SIZE - 2)


async def test_rpc(site: MakeSite) -> None:
    pair = await (await site(max_unfinished_message_bytes=LIMIT)).pair()
    part = struct.pack("!I", SIZE) + bytes(PART - 4)

    async def serving() -> tuple[Any, Any, RpcManager]:
        near, far = await pair.stream()
        manager = RpcManager(stream=far, session_id=pair.server.session_id)
        await manager.__aenter__()
        return near, far, manager

    servers = [await serving() for _ in range(3)]
    for near, far, _ in servers[:2]:
        await near.write(data=part)
        await until(lambda far=far: far.stats().bytes_received == 1 + PART)
    near, _, refused = servers[2]
    await near.write(data=part[:1])
    await within(refused.wait_closed())
    for near, _, manager in servers[:2]:
        # The rest of the frame is no JSON, but whole.
        await near.write(data=bytes(SIZE - PART + 4))
        async with RpcManager(stream=near, session_id=pair.client.session_id) as caller:
            manager.register(func=max, name="largest")
            assert await within(caller.call("largest", 1, 2)) == 2
        await within(manager.wait_closed())


async def test_clients_of_a_broker(site: MakeSite) -> None:
    pair = await (await site(max_unfinished_message_bytes=LIMIT)).pair()
    async with PubSubBroker() as broker:
        task = asyncio.create_task(broker.handle_session(pair.server))
        part = b"PUB t %d\n" % SIZE + bytes(PART)
        held = []
        for _ in range(2):
            held.append(await begun(pair.client, part))
            async with PubSubManager(stream=await begun(pair.client, b"")) as manager:
                await within(manager.subscribe(topic="u"))
        refused = await begun(pair.client, b"P")
        assert await within(refused.read_all()) == b""
        for stream in held:
            await stream.write(bytes(SIZE - PART) + b"SUB t\n")
            assert await within(stream.readline()) == b"SUB-OK t\n"
        assert broker.stats.messages_published == 2
        await pair.client.close()
        await within(task)


async def test_a_connection_has_so_many_clients_of_a_broker(site: MakeSite) -> None:
    pair = await (await site()).pair()
    async with PubSubBroker(max_streams_per_connection=2) as broker:
        task = asyncio.create_task(broker.handle_session(pair.server))
        streams = [await begun(pair.client, b"SUB t\n") for _ in range(2)]
        for stream in streams:
            assert await within(stream.readline()) == b"SUB-OK t\n"
        with pytest.raises(StreamResetError) as caught:
            await within((await begun(pair.client, b"SUB t\n")).readline())
        assert caught.value.error_code == 0x1003
        await streams[0].close()
        assert await within(streams[0].read_all()) == b""
        await until(lambda: broker.stats.clients == 1)
        again = await begun(pair.client, b"SUB t\n")
        assert await within(again.readline()) == b"SUB-OK t\n"
        await pair.client.close()
        await within(task)
