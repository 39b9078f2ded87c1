"""What a peer or a handler does wrong: the documented exception or reply, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import struct
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pywebtransport import _messages
from pywebtransport.constants import DEFAULT_MAX_MESSAGE_SIZE, ErrorCodes
from pywebtransport.exceptions import (
    SerializationError,
    SessionClosedError,
    StreamError,
    TimeoutError,
)
from pywebtransport.pubsub import PubSubBroker, PubSubError, PubSubManager, SubscriptionFailedError
from pywebtransport.rpc import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcError,
    RpcErrorCode,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.serializer import JSONSerializer
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream, WebTransportStream

from .conftest import MakeSite
from .site import PATIENCE, Pair, blocked, within

ROUNDS = 10
ALLOWED_GROWTH = 64 << 10
"""Bytes that the allocator may keep: far less than one refused message a round would."""
READ_TIMEOUT = 0.2
"""Where a read waits in vain; anywhere else a loaded machine may take longer to bring its data."""
LARGE = 32 << 20
"""Bytes that no window and no buffer holds."""
REGISTRY: dict[int, type[Any]] = {1: dict, 2: list}

Scenario = Callable[[Pair], Awaitable[None]]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def frame(payload: bytes, size: int | None = None) -> bytes:
    return struct.pack("!I", len(payload) if size is None else size) + payload


def rpc_on(stream: WebTransportStream, **options: Any) -> RpcManager:
    manager = RpcManager(stream=stream, session_id=stream.session.session_id, **options)
    manager.register(func=max, name="largest")
    return manager


@asynccontextmanager
async def callers(pair: Pair, **options: Any) -> AsyncIterator[tuple[RpcManager, RpcManager]]:
    near, far = await pair.stream()
    async with rpc_on(near, **options) as client, rpc_on(far, **options) as server:
        yield client, server


async def answer(stream: WebTransportStream) -> Any:
    (size,) = struct.unpack("!I", await stream.readexactly(n=4))
    return json.loads(await stream.readexactly(n=size))


async def refused(stream: WebTransportStream, code: int) -> None:
    """The peer has given the stream up, with this code."""
    with pytest.raises(StreamError) as caught:
        while await stream.read():
            pass
    assert caught.value.error_code == code


# RPC.


@scenario
async def rpc_frame_that_is_too_long(pair: Pair) -> None:
    near, far = await pair.stream()
    async with rpc_on(far) as server:
        await near.write(data=frame(b"{", 0xFFFF_FFFF))
        await refused(near, ErrorCodes.APP_INVALID_REQUEST)
        await server.wait_closed()
        with pytest.raises(RpcError, match="closed"):
            await server.call("largest", 1)


@scenario
async def rpc_frame_that_is_too_short(pair: Pair) -> None:
    near, far = await pair.stream()
    async with rpc_on(far) as server:
        await near.write_all(data=frame(b'{"id": 1', 500))
        assert await near.read_all() == b""
        await server.wait_closed()


@scenario
async def rpc_frame_that_is_not_json(pair: Pair) -> None:
    for jsonrpc in (False, True):
        near, far = await pair.stream()
        async with rpc_on(far, jsonrpc=jsonrpc):
            await near.write(data=frame(b"\xff{") + frame(b"7"))
            if jsonrpc:
                for code in (RpcErrorCode.PARSE_ERROR, RpcErrorCode.INVALID_REQUEST):
                    refusal = await answer(near)
                    assert (refusal["id"], refusal["error"]["code"]) == (None, code)
            await near.write(data=frame(b'{"id": 1, "method": "largest", "params": [1, 3]}'))
            assert await answer(near) == {"id": 1, "result": 3}
            await near.abort()


@scenario
async def rpc_to_a_missing_method_or_with_bad_parameters(pair: Pair) -> None:
    for jsonrpc in (False, True):
        async with callers(pair, jsonrpc=jsonrpc) as (client, _):
            with pytest.raises(MethodNotFoundError):
                await client.call("missing", timeout=PATIENCE)
            with pytest.raises(InvalidParamsError):
                await client.call("largest", object())
            assert await client.call("largest", 1, 2) == 2


@scenario
async def rpc_function_that_raises(pair: Pair) -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    for jsonrpc in (False, True):
        async with callers(pair, jsonrpc=jsonrpc) as (client, server):
            server.register(func=fail)
            server.register(func=object, name="unsendable")
            for name, parameters in (("fail", ("boom",)), ("unsendable", ())):
                with pytest.raises(RpcError, match=f"Error executing '{name}'") as caught:
                    await client.call(name, *parameters, timeout=PATIENCE)
                assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR
            await client.notify("fail", "nobody is told")
            assert await client.call("largest", 1, 2) == 2


@scenario
async def rpc_function_that_never_returns(pair: Pair) -> None:
    async with callers(pair) as (client, server):
        server.register(func=asyncio.Event().wait, name="never")
        with pytest.raises(RpcTimeoutError):
            await client.call("never", timeout=0.01)
        calling = asyncio.create_task(client.call("never"))
        await client.call("largest", 1, 2)
        await server.close()
        with pytest.raises(RpcError):
            await calling


# PubSub.


@scenario
async def pubsub_sizes_and_lines_that_lie(pair: Pair) -> None:
    async with PubSubBroker() as broker:
        for command in (b"PUB t 999999999999\nx", b"PUB t one\nx", b"SUB " + b"t" * 65536):
            near, far = await pair.stream()
            serving = asyncio.create_task(broker.handle_stream(far))
            await near.write(data=command)
            await refused(near, ErrorCodes.APP_INVALID_REQUEST)
            await serving
        near, far = await pair.stream()
        serving = asyncio.create_task(broker.handle_stream(far))
        await near.write_all(data=b"SUB t\nPUB t 500\nx")
        await near.read_all()
        await serving
        assert (broker.stats.clients, broker.stats.topics) == (0, 0)


@scenario
async def pubsub_server_that_lies_or_is_silent(pair: Pair) -> None:
    near, far = await pair.stream()
    async with PubSubManager(stream=near) as manager:
        with pytest.raises(SubscriptionFailedError, match="not answered"):
            await manager.subscribe(topic="t", timeout=0.01)
        subscribing = asyncio.create_task(manager.subscribe(topic="t"))
        await far.readuntil(separator=b"UNSUB t\nSUB t\n")
        await far.write(data=b"MSG t 999999999999\n")
        with pytest.raises(PubSubError, match="larger"):
            await subscribing
        await manager.wait_closed()
        with pytest.raises(PubSubError, match="closed"):
            await manager.publish(topic="t", data=b"x")
    await far.abort()


# Structured streams.


@scenario
async def structured_messages_that_lie(pair: Pair) -> None:
    for message, error in (
        (struct.pack("!HI", 1, 0xFFFF_FFFF), SerializationError),
        (struct.pack("!HI", 9, 2) + b"{}", SerializationError),
        (struct.pack("!HI", 1, 3) + b"{]}", SerializationError),
        (struct.pack("!HI", 1, 2) + b"\xff\xff", SerializationError),
        (struct.pack("!HI", 2, 2) + b"{}", SerializationError),
    ):
        near, far = await pair.stream()
        await near.write(data=message)
        structured = StructuredStream(stream=far, serializer=JSONSerializer(), registry=REGISTRY)
        with pytest.raises(error):
            await structured.receive_obj()
        await far.abort(code=1)
        await refused(near, 1)


@scenario
async def structured_message_that_does_not_come(pair: Pair) -> None:
    near, far = await pair.stream()
    await near.write(data=struct.pack("!HI", 1, 500))
    structured = StructuredStream(stream=far, serializer=JSONSerializer(), registry=REGISTRY)
    with pytest.raises(TimeoutError):
        await structured.receive_obj()
    await near.close()
    with pytest.raises(StreamError, match="0 of 500"):
        await structured.receive_obj()
    await far.abort()


@scenario
async def structured_datagrams_that_lie(pair: Pair) -> None:
    transport = await pair.client.create_datagram_transport()
    receiving = await pair.server.create_structured_datagram_transport(
        serializer=JSONSerializer(), registry=REGISTRY
    )
    for data, error in (
        (b"", struct.error),
        (b"\x01", struct.error),
        (b"\x00\x09{}", SerializationError),
        (b"\x00\x01{", SerializationError),
    ):
        await transport.send(data=data)
        with pytest.raises(error):
            await receiving.receive_obj(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest keeps what is logged, with the frames of each traceback."""
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)


async def census() -> tuple[Counter[str], int]:
    """What the library has made and not let go, and the tasks."""
    gc.collect()
    objects = Counter(
        f"{cls.__module__}.{cls.__qualname__}"
        for cls in map(type, gc.get_objects())
        if str(cls.__module__).startswith("pywebtransport")
    )
    return objects, len(asyncio.all_tasks())


async def nothing_more_than(before: tuple[Counter[str], int]) -> None:
    """The last packets of a stream, or of a connection, take a moment."""
    objects, tasks = before
    with suppress(asyncio.TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while True:
                after = await census()
                if after[0] <= objects and after[1] <= tasks:
                    return
                await asyncio.sleep(0.02)
    raise AssertionError(f"left: {after[0] - objects}, {after[1] - tasks} tasks")


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
async def test_bad_input_leaves_nothing(site: MakeSite, run: Scenario) -> None:
    is_in_vain = run is structured_message_that_does_not_come
    pair = await (await site(read_timeout=READ_TIMEOUT if is_in_vain else PATIENCE)).pair()
    # What is made once and kept: imports, prepared plans, the datagram transports.
    for _ in range(2):
        await within(run(pair))
    before = await census()
    tracemalloc.start()
    try:
        await within(run(pair))
        await nothing_more_than(before)
        memory, _ = tracemalloc.get_traced_memory()
        for _ in range(ROUNDS):
            await within(run(pair))
        await nothing_more_than(before)
        grown = tracemalloc.get_traced_memory()[0] - memory
    finally:
        tracemalloc.stop()
    assert grown < ALLOWED_GROWTH
    assert pair.client.is_ready
    assert pair.server.is_ready


async def test_a_session_that_ends_under_everything(site: MakeSite) -> None:
    """Publishing, subscribing and calling on a closed session: an exception each, at once."""
    place = await site()

    async def run(pair: Pair) -> None:
        near, _ = await pair.stream()
        async with callers(pair) as (client, server), PubSubManager(stream=near) as pubsub:
            server.register(func=asyncio.Event().wait, name="never")
            waiting = [
                asyncio.create_task(client.call("never")),
                asyncio.create_task(pubsub.subscribe(topic="t")),
            ]
            await client.call("largest", 1, 2)
            await pair.server.close(code=7, reason="enough")
            for task, error in zip(waiting, (RpcError, PubSubError), strict=True):
                with pytest.raises(error):
                    await within(task)
            with pytest.raises(PubSubError):
                await within(pubsub.publish(topic="t", data=b"x"))
            with pytest.raises(PubSubError):
                await within(pubsub.subscribe(topic="t"))
            with pytest.raises(RpcError):
                await within(client.call("largest", 1))

    async def rounds() -> None:
        pairs = [await place.pair() for _ in range(ROUNDS)]
        await within(asyncio.gather(*map(run, pairs)))

    await rounds()
    before = await census()
    for _ in range(2):
        await rounds()
    await nothing_more_than(before)


async def test_a_handler_that_raises(site: MakeSite) -> None:
    place = await site()

    async def fail(session: WebTransportSession) -> None:
        raise RuntimeError("on purpose")

    place.app.route(path="/fails")(fail)

    async def rounds() -> None:
        sessions = [await place.client.connect(url=f"{place.url}fails") for _ in range(ROUNDS)]
        for session in sessions:
            await within(session.wait_closed())
            with pytest.raises(SessionClosedError) as caught:
                await session.create_bidirectional_stream()
            assert caught.value.error_code == ErrorCodes.INTERNAL_ERROR

    await rounds()
    before = await census()
    for _ in range(2):
        await rounds()
    await nothing_more_than(before)
    assert (await place.pair()).client.is_ready


async def test_a_peer_that_does_not_read(site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_messages, "FINISH_TIMEOUT", 0.1)
    pair = await (await site()).pair()
    near, far = await pair.stream()
    async with PubSubManager(stream=near) as pubsub:
        publishing = await blocked(pubsub.publish(topic="t", data=bytes(LARGE)))
        await within(pubsub.close())
        with pytest.raises(PubSubError):
            await within(publishing)
    await refused(far, 0)
    near, far = await pair.stream()
    async with rpc_on(near) as rpc:
        large = "x" * (DEFAULT_MAX_MESSAGE_SIZE // 2)
        calling = await blocked(
            asyncio.gather(*(rpc.notify("m", large) for _ in range(LARGE // len(large))))
        )
        await within(rpc.close())
        with pytest.raises(RpcError):
            await within(calling)
    await refused(far, 0)
