"""Clients made of bytes, as browsers send them, against the documented API on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate, make_certificate
from tests.support.laboratory import free_port

PATIENCE = 10.0


@asynccontextmanager
async def started(awaitable: Awaitable[Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """It runs beside the block, and no longer."""
    task = asyncio.ensure_future(awaitable)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


class Site:
    """A server whose sessions a test takes one by one; they live until the test is over."""

    def __init__(self, config: ServerConfig) -> None:
        self.port = config.bind_port
        self.app = ServerApp(config=config)
        self.app.pattern_route(pattern="/.*")(self._serve)
        self._sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    async def session(self) -> WebTransportSession:
        async with asyncio.timeout(PATIENCE):
            return await self._sessions.get()

    async def _serve(self, session: WebTransportSession) -> None:
        self._sessions.put_nowait(session)
        await session.wait_closed()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def serve(
    engine: str, certificate: Certificate
) -> AsyncIterator[Callable[..., Awaitable[Site]]]:
    async with AsyncExitStack() as stack:

        async def serve(**options: Any) -> Site:
            config = ServerConfig(
                engine=engine,
                certfile=certificate.certfile,
                keyfile=certificate.keyfile,
                bind_host="127.0.0.1",
                bind_port=free_port(),
                access_log=False,
                **options,
            )
            site = Site(config)
            await stack.enter_async_context(site.app)
            await site.app.server.listen()
            return site

        yield serve
