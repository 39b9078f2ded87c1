"""What a server keeps: bounded while a peer sends too much, gone when the work is done."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import StreamError
from pywebtransport.session import WebTransportSession
from tests.behaviour.process import SLOW_RATE, Process, read_slowly, resident, server_process
from tests.behaviour.site import within
from tests.support.certificate import Certificate

MIB = 1 << 20
GIB = 1 << 30
MEASURED = 4.0
"""Seconds in which the sender pushes; here time itself is the subject."""
WINDOWS = 16 * MIB + 5 * MIB
"""Default windows of a connection: the receiver's, and the sender's own."""
MARGIN = 24 * MIB
IDLE = 200
IDLE_SIZE = {"native": 29 << 10, "aioquic": 120 << 10}
"""Of a connection with one session, its handler and no streams."""


def client_of(engine: str, certificate: Certificate, **options: Any) -> WebTransportClient:
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile, **options)
    return WebTransportClient(config=config)


async def test_sender_of_a_gibibyte_waits_for_a_slow_reader(
    engine: str, certificate: Certificate
) -> None:
    async with (
        server_process(engine, certificate) as server,
        client_of(engine, certificate) as client,
    ):
        session = await client.connect(url=f"{server.url}/slow")
        stream = await session.create_unidirectional_stream()
        far, near = server.resident(), resident(os.getpid())
        # Pages that nobody has written take no memory, so what the sender grows by are copies.
        write = asyncio.ensure_future(stream.write(data=memoryview(mmap.mmap(-1, GIB))))
        await asyncio.sleep(MEASURED)
        sent = stream.diagnostics.stats.bytes_sent
        far, near = server.resident() - far, resident(os.getpid()) - near
        print(
            f"{engine}: {sent / MIB:.1f} MiB of 1 GiB sent in {MEASURED:.0f} s to a reader of"
            f" 1 MiB/s; the server grew by {far / MIB:.1f} MiB, the sender by {near / MIB:.1f} MiB"
        )
        assert not write.done(), write
        assert MEASURED / 2 * SLOW_RATE < sent < MEASURED * 2 * SLOW_RATE + WINDOWS
        assert far < MARGIN
        assert near < WINDOWS + MARGIN
        await stream.reset()
        with pytest.raises(StreamError):
            await within(write)


async def test_server_with_a_gibibyte_waits_for_a_slow_client(
    engine: str, certificate: Certificate
) -> None:
    async with (
        server_process(engine, certificate) as server,
        client_of(engine, certificate) as client,
    ):
        far, near = server.resident(), resident(os.getpid())
        session = await client.connect(url=f"{server.url}/pour")
        stream = await within(session.accept_unidirectional_stream())
        end = asyncio.get_running_loop().time() + MEASURED
        received = await read_slowly(stream, end)
        far, near = server.resident() - far, resident(os.getpid()) - near
        print(
            f"{engine}: {received / MIB:.1f} MiB of 1 GiB received in {MEASURED:.0f} s;"
            f" the server grew by {far / MIB:.1f} MiB, the client by {near / MIB:.1f} MiB"
        )
        assert MEASURED / 2 * SLOW_RATE < received < MEASURED * 2 * SLOW_RATE
        assert far < WINDOWS + MARGIN
        assert near < MARGIN
        await within(session.close())


async def report(client: WebTransportClient, server: Process) -> dict[str, int]:
    session = await client.connect(url=f"{server.url}/report")
    stream = await within(session.accept_unidirectional_stream())
    sizes: dict[str, int] = json.loads(await within(stream.read_all()))
    await session.close()
    return sizes


async def at_rest(client: WebTransportClient, server: Process) -> dict[str, int]:
    """The report once closed connections are gone: a server keeps each a moment for last words."""
    for _ in range(50):
        sizes = await report(client, server)
        if sizes["session objects"] <= 1 and sizes["connections"] <= 1:
            break
        await asyncio.sleep(0.1)
    return sizes


async def echoes(session: WebTransportSession, count: int) -> None:
    for _ in range(count):
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"x" * 100)
        assert await within(stream.read_all()) == b"x" * 100


async def datagrams(session: WebTransportSession, count: int) -> None:
    transport = await session.create_datagram_transport()
    for _ in range(count):
        await transport.send(data=b"x" * 100)


async def work(client: WebTransportClient, server: Process, share: float) -> None:
    """Streams, datagrams and sessions, a share of what the test is about."""
    session = await client.connect(url=f"{server.url}/echo")
    await asyncio.gather(*(echoes(session, int(share * 10_000 / 50)) for _ in range(50)))
    await datagrams(session, int(share * 100_000))
    await session.close()
    for _ in range(int(share * 200 / 10)):
        sessions = await asyncio.gather(
            *(client.connect(url=f"{server.url}/echo") for _ in range(10))
        )
        await asyncio.gather(*(echoes(session, 1) for session in sessions))
        await asyncio.gather(*(session.close() for session in sessions))


@pytest.mark.timeout(120)
async def test_memory_comes_back(engine: str, certificate: Certificate) -> None:
    async with (
        server_process(engine, certificate) as server,
        client_of(engine, certificate) as client,
    ):
        await work(client, server, 0.4)
        empty, before = await at_rest(client, server), server.resident()
        await work(client, server, 1.0)
        after, grown = await at_rest(client, server), server.resident() - before
        print(
            f"{engine}: 10,000 streams, 200 sessions, 100,000 datagrams: the server grew by"
            f" {grown / MIB:.1f} MiB; {after}"
        )
        assert after["stream objects"] == 0, after
        assert max(empty["session objects"], after["session objects"]) <= 1, (empty, after)
        assert after["sessions"] <= 1, after
        assert after["connections"] <= empty["connections"] + 1, (empty, after)
        assert after["tasks"] <= empty["tasks"] + 2, (empty, after)
        assert grown < 24 * MIB


async def test_an_idle_connection_is_small(engine: str, certificate: Certificate) -> None:
    async with (
        server_process(engine, certificate) as server,
        client_of(engine, certificate, max_connections=1000) as client,
    ):
        sessions = [await client.connect(url=f"{server.url}/silent") for _ in range(20)]
        before = server.resident()
        sessions += [await client.connect(url=f"{server.url}/silent") for _ in range(IDLE)]
        size = (server.resident() - before) / IDLE
        print(f"{engine}: {size / 1024:.1f} KB for an idle connection")
        assert size < IDLE_SIZE[engine]
        for session in sessions:
            await session.close()
