"""A peer whose process is killed or stopped says nothing: the idle timeout wakes whoever waits."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import (
    ConnectionError,
    DatagramError,
    SessionClosedError,
    StreamError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportSendStream, WebTransportStream
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .conftest import MakeSite
from .process import ROOT, server_process
from .site import PATIENCE, blocked, within

IDLE_TIMEOUT = 1.5
SLACK = 2.0
"""Seconds more until everybody knows; other tests may run beside."""
SILENCES = [signal.SIGKILL, signal.SIGSTOP]
OPTIONS: dict[str, Any] = {
    "connection_idle_timeout": IDLE_TIMEOUT,
    "connection_idle_check_interval": 0.5,
    "keep_alive": False,
}

pytestmark = pytest.mark.parametrize("silence", SILENCES, ids=lambda silence: silence.name)


@asynccontextmanager
async def silenced(
    process: asyncio.subprocess.Process, silence: signal.Signals
) -> AsyncIterator[None]:
    """It says nothing more within the block; stopped, it could."""
    process.send_signal(silence)
    try:
        yield
    finally:
        if silence == signal.SIGSTOP:
            process.kill()
            process.send_signal(signal.SIGCONT)
        await process.wait()


async def everybody_wakes(
    session: WebTransportSession,
    reader: WebTransportStream,
    writer: WebTransportSendStream,
    process: asyncio.subprocess.Process,
    silence: signal.Signals,
) -> None:
    """Each waiter gets its documented exception when the idle timeout is over."""
    connection = session.connection
    assert connection is not None
    lost: asyncio.Queue[Any] = asyncio.Queue()
    connection.on(event_type=EventType.CONNECTION_LOST, handler=lost.put_nowait)
    transport = await session.create_datagram_transport()
    waits = {
        "read": (await blocked(reader.read()), StreamError),
        "write": (await blocked(writer.write(data=bytes(20 << 20))), StreamError),
        "accept": (await blocked(session.accept_bidirectional_stream()), SessionClosedError),
        "receive": (await blocked(transport.receive()), DatagramError),
    }
    closed = await blocked(session.wait_closed())
    loop = asyncio.get_running_loop()
    async with silenced(process, silence):
        started = loop.time()
        for name, (task, expected) in waits.items():
            with pytest.raises(expected) as caught:
                await within(task)
            print(f"{name}: {caught.value} after {loop.time() - started:.1f} s")
        await within(closed)
        await within(connection.wait_closed())
        assert (await within(lost.get())).type == EventType.CONNECTION_LOST
        assert loop.time() - started < IDLE_TIMEOUT + SLACK


async def test_every_waiter_wakes(
    engine: str, certificate: Certificate, silence: signal.Signals
) -> None:
    """Of a client whose server is gone; connecting again says so too."""
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile, **OPTIONS)
    async with (
        server_process(engine, certificate) as server,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url=f"{server.url}/silent")
        reader = await session.create_bidirectional_stream()
        writer = await session.create_unidirectional_stream()
        await reader.write(data=b"x")
        await everybody_wakes(session, reader, writer, server.process, silence)
        with pytest.raises(ConnectionError):
            await client.connect(url=f"{server.url}/silent", timeout=1)


@asynccontextmanager
async def client_process(
    engine: str, certificate: Certificate, url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.behaviour.client_process", engine, certificate.certfile, url),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_every_waiter_of_a_server_wakes(
    site: MakeSite, engine: str, certificate: Certificate, silence: signal.Signals
) -> None:
    """Of a server whose client is gone; others are served on."""
    place = await site(server=OPTIONS)
    async with client_process(engine, certificate, place.url) as process:
        session = await within(place.sessions.get(), 2 * PATIENCE)
        reader = await within(session.accept_bidirectional_stream())
        assert await within(reader.read(size=1)) == b"!"
        writer = await session.create_unidirectional_stream()
        await everybody_wakes(session, reader, writer, process, silence)
    near, far = await (await place.pair()).stream()
    await near.write(data=b"on")
    assert await within(far.read()) == b"on"


async def test_a_server_closes_beside_handlers_of_silent_clients(
    site: MakeSite,
    engine: str,
    certificate: Certificate,
    silence: signal.Signals,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A cancelled handler that waits for the dead to take what was written gives up in time."""
    place = await site(server={"close_timeout": 0.5, "keep_alive": False})
    async with client_process(engine, certificate, place.url) as process:
        session = await within(place.sessions.get(), 2 * PATIENCE)
        writer = await session.create_unidirectional_stream()
        async with silenced(process, silence):
            await writer.write(data=b"nobody takes this")
            await within(place.app.server.close())
    assert session.is_closed
    assert "ignores its cancellation" not in caplog.text
