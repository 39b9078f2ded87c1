"""A server and its clients in the test's own event loop, made as an application makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port

PATIENCE = 10.0


async def until(is_so: Callable[[], bool]) -> None:
    """Let the event loop run until something has happened."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Place:
    """`async with Place(engine, certificate) as place`: an app to give routes, and clients."""

    def __init__(self, engine: str, certificate: Certificate, **server: Any) -> None:
        self.engine = engine
        self.certificate = certificate
        self.port = free_port()
        self.app = ServerApp(config=self.server_config(**server))
        self._stack = AsyncExitStack()
        self._client: WebTransportClient | None = None

    def server_config(self, **options: Any) -> ServerConfig:
        return ServerConfig(
            engine=self.engine,
            certfile=self.certificate.certfile,
            keyfile=self.certificate.keyfile,
            **{"bind_host": "127.0.0.1", "bind_port": self.port} | options,
        )

    def url(self, path: str = "/") -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def client(self, **options: Any) -> WebTransportClient:
        """One to be entered."""
        given = {"ca_certs": self.certificate.certfile, "connect_timeout": PATIENCE} | options
        return WebTransportClient(config=ClientConfig(engine=self.engine, **given))

    async def connect(self, path: str = "/", **options: Any) -> WebTransportSession:
        """A session of a client that is closed with the place."""
        if self._client is None:
            self._client = await self._stack.enter_async_context(self.client())
        return await self._client.connect(url=self.url(path), **options)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.app)
            await self.app.server.listen()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: object) -> None:
        async with asyncio.timeout(3 * PATIENCE):
            await self._stack.aclose()
