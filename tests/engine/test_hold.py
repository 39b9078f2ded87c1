"""For how long one call holds the event loop, beside it all others wait: CPU time of each."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream

MIB = 1 << 20
LONGEST = 2_000_000
"""Nanoseconds."""
OUTLIERS = 1_000
"""Of so many calls one may take longer: a page that the machine had to find, a stolen core."""


async def upload(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream()
    for _ in range(128):
        await stream.write(bytes(MIB))
    await stream.write(b"", end_stream=True)
    assert await stream.read() == b"%d" % (128 * MIB)


async def many_streams(session: WebTransportSession) -> None:
    async def one() -> None:
        stream = await session.create_bidirectional_stream()
        await stream.write(bytes(65_536), end_stream=True)
        assert await stream.read() == b"65536"

    for _ in range(20):
        await asyncio.gather(*(one() for _ in range(50)))


async def datagrams(session: WebTransportSession) -> None:
    transport = await session.create_datagram_transport()
    for _ in range(40_000):
        await transport.send(b"x" * 64)


async def datagrams_in_lists(session: WebTransportSession) -> None:
    transport = await session.create_datagram_transport()
    many = [b"x" * 64] * 500
    for _ in range(800):
        await transport.send_datagrams(many)


async def serve(session: WebTransportSession) -> None:
    async def count(stream: WebTransportStream) -> None:
        size = 0
        while data := await stream.read(65_536):
            size += len(data)
        await stream.write(b"%d" % size, end_stream=True)

    async def receive() -> None:
        async for _ in await session.create_datagram_transport():
            pass

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive())
        async for stream in session.incoming_bidirectional_streams():
            tasks.create_task(count(stream))


@contextmanager
def calls_measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The CPU time of each call that the event loop makes, in nanoseconds."""
    run = asyncio.Handle._run
    held: list[int] = []

    def measured(handle: asyncio.Handle) -> None:
        began = time.thread_time_ns()
        run(handle)
        held.append(time.thread_time_ns() - began)

    gc.collect()
    gc.disable()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", measured)
            yield held
    finally:
        gc.enable()


@pytest.mark.parametrize("load", [upload, many_streams, datagrams, datagrams_in_lists])
async def test_nothing_holds_the_loop(
    load: Callable[[WebTransportSession], Awaitable[None]],
    server_config: Callable[..., ServerConfig],
    client_config: Callable[..., ClientConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Client and server are on the one loop."""
    app = ServerApp(config=server_config(engine="native"))
    app.route("/")(serve)
    async with app, WebTransportClient(config=client_config(engine="native")) as client:
        await app.server.listen(host="127.0.0.1", port=0)
        assert app.server.local_address is not None
        session = await client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/")
        with calls_measured(monkeypatch) as held:
            await load(session)
        await session.close()
    held.sort()
    most = held[-1 - len(held) // OUTLIERS]
    print(f"{load.__name__}: {len(held)} calls, 99.9 % within {most / 1e3:.0f} us,", end=" ")
    print(f"the longest {held[-1] / 1e3:.0f} us")
    assert most < LONGEST
