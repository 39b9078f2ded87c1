"""A peer whose process is killed says nothing: the idle timeout wakes whoever waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import (
    ConnectionError,
    DatagramError,
    SessionClosedError,
    StreamError,
)
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .process import server_process
from .site import blocked, within


async def test_every_waiter_wakes(engine: str, certificate: Certificate) -> None:
    config = ClientConfig(
        engine=engine,
        ca_certs=certificate.certfile,
        connection_idle_timeout=1.5,
        connection_idle_check_interval=0.5,
        keep_alive=False,
    )
    async with (
        server_process(engine, certificate) as server,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url=f"{server.url}/silent")
        connection = session.connection
        assert connection is not None
        lost: asyncio.Queue[Any] = asyncio.Queue()
        connection.on(event_type=EventType.CONNECTION_LOST, handler=lost.put_nowait)
        reader = await session.create_bidirectional_stream()
        writer = await session.create_unidirectional_stream()
        await reader.write(data=b"x")
        transport = await session.create_datagram_transport()
        waits = {
            "read": (await blocked(reader.read()), StreamError),
            "write": (await blocked(writer.write(data=bytes(20 << 20))), StreamError),
            "accept": (await blocked(session.accept_bidirectional_stream()), SessionClosedError),
            "receive": (await blocked(transport.receive()), DatagramError),
        }
        closed = await blocked(session.wait_closed())
        server.process.kill()
        await server.process.wait()
        loop = asyncio.get_running_loop()
        started = loop.time()
        for name, (task, expected) in waits.items():
            with pytest.raises(expected) as caught:
                await within(task)
            print(f"{engine}: {name}: {caught.value} after {loop.time() - started:.1f} s")
        await within(closed)
        await within(connection.wait_closed())
        assert (await within(lost.get())).type == EventType.CONNECTION_LOST
        with pytest.raises(ConnectionError):
            await client.connect(url=f"{server.url}/silent", timeout=1)
