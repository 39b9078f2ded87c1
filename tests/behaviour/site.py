"""Both ends of a session in one event loop, made as an application makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port

T = TypeVar("T")

ENDS = ["client", "server"]
PATIENCE = 10.0
"""Seconds after which something that has to happen has not."""


@dataclass
class Pair:
    """One session, seen from both ends."""

    client: WebTransportSession
    server: WebTransportSession

    def end(self, name: str) -> WebTransportSession:
        return self.client if name == "client" else self.server

    def other(self, name: str) -> WebTransportSession:
        return self.server if name == "client" else self.client

    async def stream(self, opener: str = "client") -> tuple[WebTransportStream, WebTransportStream]:
        """A bidirectional stream: the end of its opener, then the other end."""
        near = await self.end(opener).create_bidirectional_stream()
        await near.write(data=b"!")
        far = await within(self.other(opener).accept_bidirectional_stream())
        assert await within(far.read(size=1)) == b"!"
        return near, far


class Site:
    """`async with Site(...) as site`: a server, and clients of it. Options by side or for both."""

    def __init__(
        self,
        *,
        engine: str,
        certificate: Certificate,
        server: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        **both: Any,
    ) -> None:
        self.url = f"https://127.0.0.1:{(port := free_port())}/"
        self.client_config = ClientConfig(
            ca_certs=certificate.certfile,
            **{"engine": engine, "connect_timeout": PATIENCE} | both | (client or {}),
        )
        server_config = ServerConfig(
            engine=engine,
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            bind_host="127.0.0.1",
            bind_port=port,
            **{"access_log": False} | both | (server or {}),
        )
        self.app = ServerApp(config=server_config)
        self.app.pattern_route(pattern="/.*")(self._serve)
        self.sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        self.stack = AsyncExitStack()
        self.client = WebTransportClient(config=self.client_config)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.app)
            await self.app.server.listen()
            await stack.enter_async_context(self.client)
            self.stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stack.aclose()

    async def _serve(self, session: WebTransportSession) -> None:
        self.sessions.put_nowait(session)
        await session.wait_closed()

    async def pair(self) -> Pair:
        """A new session on a new connection."""
        client = await self.client.connect(url=self.url)
        return Pair(client, await within(self.sessions.get()))


async def within(awaitable: Any, seconds: float = PATIENCE) -> Any:
    """What has to happen soon: a test fails rather than waits for it."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def at_rest(value: Callable[[], T], quiet: float = 0.3) -> T:
    """A figure that has not changed for ``quiet`` seconds: here time itself is the subject."""
    async with asyncio.timeout(PATIENCE):
        last = value()
        while True:
            await asyncio.sleep(quiet)
            if (now := value()) == last:
                return now
            last = now


async def blocked(awaitable: Any) -> asyncio.Task[Any]:
    """A task that has run as far as it gets; a failure, or an end, is the test's failure."""
    task = asyncio.ensure_future(awaitable)
    for _ in range(10):
        await asyncio.sleep(0)
    if task.done():
        raise AssertionError(f"{task} did not wait")
    return task


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and see that it obeys."""
    task.cancel()
    await within(asyncio.wait([task]))
    assert task.cancelled(), f"{task} swallowed its cancellation"
