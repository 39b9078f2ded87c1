"""Whole servers: three processes over one Redis or NATS server, and clients over WebTransport."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.certificate import Certificate, make_certificate
from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport._engine.select import ENVIRONMENT_VARIABLE
from pywebtransport.pubsub import Message, PubSubManager
from tests.pubsub.test_broker import take
from tests.support.backplane_server import BackplaneServer, NatsServer, RedisServer

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 3
MESSAGES = 10_000


class ServerProcess:
    """One server; `next(event)` waits for something that it says, or said in the meantime."""

    def __init__(self, process: asyncio.subprocess.Process, engine: str) -> None:
        self._process = process
        self.engine = engine
        self.url = ""
        self._said: list[dict[str, Any]] = []

    async def next(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for said in self._said:
            if said["event"] == event:
                self._said.remove(said)
                return said
        while line := await self._process.stdout.readline():
            said = dict(json.loads(line))
            if said["event"] == event:
                return said
            self._said.append(said)
        raise AssertionError(f"the server ended before it said {event!r}")

    async def end(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        said = await self.next("ended")
        assert await self._process.wait() == 0
        return said


@asynccontextmanager
async def server_process(
    engine: str, certificate: Certificate, kind: str = "local", url: str = ""
) -> AsyncIterator[ServerProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.pubsub.server_process"),
        *(certificate.certfile, certificate.keyfile, kind, url),
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
        env=os.environ | {ENVIRONMENT_VARIABLE: engine},
    )
    server = ServerProcess(process, engine)
    try:
        server.url = f"https://127.0.0.1:{(await server.next('listening'))['port']}/pubsub"
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def manager(server: ServerProcess) -> AsyncIterator[PubSubManager]:
    """A client with a connection of its own, on the engine of the server."""
    config = ClientConfig(engine=server.engine, verify_mode=ssl.CERT_NONE)
    async with WebTransportClient(config=config) as client:
        session = await client.connect(url=server.url)
        stream = await session.create_bidirectional_stream()
        async with PubSubManager(stream=stream) as pubsub:
            yield pubsub


async def publish(manager: PubSubManager, topic: str, count: int) -> None:
    for number in range(count):
        await manager.publish(topic=topic, data=str(number))


def numbers(received: list[Message], topic: str) -> list[int]:
    return [int(message.data) for message in received if message.topic == topic]


@pytest.mark.parametrize("backplane_class", [RedisServer, NatsServer], ids=["redis", "nats"])
async def test_three_processes_are_one_topic_space(
    engine: str, backplane_class: type[BackplaneServer], tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    async with backplane_class() as backplane, AsyncExitStack() as stack:
        enter = stack.enter_async_context
        servers = [
            await enter(server_process(engine, certificate, backplane.scheme, backplane.url))
            for _ in range(PROCESSES)
        ]
        for server in servers:
            await server.next("connection_established")
        subscribers = [await enter(manager(server)) for server in servers]
        publishers = [await enter(manager(server)) for server in servers]
        subscriptions = [
            await enter(await each.subscribe(topic="n.*", max_queue_size=2 * MESSAGES))
            for each in subscribers
        ]

        # 10,000 messages, published in all processes at once: all arrive everywhere, in order.
        shares = [MESSAGES // PROCESSES + (index < MESSAGES % PROCESSES) for index in range(3)]
        await asyncio.gather(
            *(publish(each, f"n.{index}", shares[index]) for index, each in enumerate(publishers))
        )
        for subscription in subscriptions:
            received = await take(subscription, MESSAGES)
            for index, share in enumerate(shares):
                assert numbers(received, f"n.{index}") == list(range(share))

        # The server between them goes and comes back: every process says so, and goes on.
        await backplane.kill()
        for server in servers:
            assert (await server.next("connection_lost"))["error"]
        await backplane.start()
        for server in servers:
            await server.next("connection_established")
        await asyncio.gather(
            *(publish(each, f"n.{index}", 100) for index, each in enumerate(publishers))
        )
        for subscription in subscriptions:
            received = await take(subscription, 3 * 100)
            for index in range(PROCESSES):
                assert numbers(received, f"n.{index}") == list(range(100))

        ended = [await server.end() for server in servers]
        assert [each["published"] for each in ended] == [share + 100 for share in shares]
        assert [each["dropped"] for each in ended] == [0, 0, 0]


async def test_a_broker_alone_over_webtransport(engine: str, tmp_path: Path) -> None:
    async with (
        server_process(engine, make_certificate(tmp_path)) as server,
        manager(server) as one,
        manager(server) as other,
        await one.subscribe(topic="t.>", max_queue_size=1000) as subscription,
    ):
        await publish(other, "t.x", 1000)
        received = await take(subscription, 1000)
        assert numbers(received, "t.x") == list(range(1000))
        large = b"x" * (1 << 20)
        await other.publish(topic="t.large", data=large)
        assert await take(subscription, 1) == [Message("t.large", large)]


async def test_a_client_that_vanishes_is_forgotten(engine: str, tmp_path: Path) -> None:
    async with server_process(engine, make_certificate(tmp_path)) as server:
        async with manager(server) as one:
            await one.subscribe(topic="t")
        async with manager(server) as other, await other.subscribe(topic="t") as subscription:
            await publish(other, "t", 1)
            assert await take(subscription, 1) == [Message("t", b"0")]
        assert (await server.end())["dropped"] == 0


async def test_a_unidirectional_stream_is_stopped_and_nothing_else(
    engine: str, tmp_path: Path
) -> None:
    async with server_process(engine, make_certificate(tmp_path)) as server:
        config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE)
        async with WebTransportClient(config=config) as client:
            session = await client.connect(url=server.url)
            stray = await session.create_unidirectional_stream()
            await stray.write(data=b"SUB t\n")
            await asyncio.wait_for(stray.wait_closed(), 10)
            stream = await session.create_bidirectional_stream()
            async with PubSubManager(stream=stream) as pubsub:
                await pubsub.subscribe(topic="t")
