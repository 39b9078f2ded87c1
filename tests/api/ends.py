"""Both ends of a session in memory, and a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.session import WebTransportSession
from tests.api.memory_engine import MemoryConnection, memory_pair


class Clock:
    """The running loop's time, which can be moved forward."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._real = loop.time
        self._ahead = 0.0
        loop.time = lambda: self._real() + self._ahead  # type: ignore[method-assign]

    async def advance(self, seconds: float) -> None:
        """Let the time pass, and what is due run."""
        self._ahead += seconds
        await turns(4)


async def turns(count: int = 4) -> None:
    """Let the loop run so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Ends:
    """One session, seen from both ends."""

    client: WebTransportSession
    server: WebTransportSession
    client_connection: WebTransportConnection
    server_connection: WebTransportConnection
    client_engine: MemoryConnection
    server_engine: MemoryConnection
    clock: Clock

    async def bidirectional(self) -> tuple[Any, Any]:
        """A stream that the client has opened, and the server's end of it."""
        stream = await self.client.create_bidirectional_stream()
        return stream, await self.server.accept_bidirectional_stream()

    async def unidirectional(self) -> tuple[Any, Any]:
        """The client's sending end, and the server's receiving end."""
        stream = await self.client.create_unidirectional_stream()
        return stream, await self.server.accept_unidirectional_stream()


def connections(
    *, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **engine: Any
) -> tuple[WebTransportConnection, WebTransportConnection]:
    """Both ends of a connection without sessions; the server keeps its requests in a list."""
    client_engine, server_engine = memory_pair(**engine)
    server_end = WebTransportConnection(config=ServerConfig(**(server or {})))
    server_end._start(server_engine)
    client_end = WebTransportConnection(config=ClientConfig(**(client or {})))
    client_end._start(client_engine)
    return client_end, server_end


@asynccontextmanager
async def ends(
    *, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **engine: Any
) -> AsyncIterator[Ends]:
    """An established session; options of either configuration, and of the memory engine."""
    # Before the connections, which take the loop's clock when they are made.
    clock = Clock()
    client_end, server_end = connections(client=client, server=server, **engine)
    requests: list[WebTransportSession] = []
    server_end._on_request = requests.append
    session = await client_end.create_session_optimistic(authority="test", path="/test")
    session._waits_for_answer = False
    while not requests:
        await turns(1)
    await requests[0].accept()
    await session.ready()
    assert client_end._link is not None
    assert server_end._link is not None
    client_engine, server_engine = client_end._link.engine, server_end._link.engine
    assert isinstance(client_engine, MemoryConnection)
    assert isinstance(server_engine, MemoryConnection)
    yield Ends(session, requests[0], client_end, server_end, client_engine, server_engine, clock)
    await asyncio.gather(client_end.close(), server_end.close())
