"""An ASGI application on our server, on every engine, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportSession
from pywebtransport.asgi import AsgiServer
from tests.support.certificate import Certificate, make_certificate
from tests.support.laboratory import free_port

PATIENCE = 10.0
"""Seconds after which something that has to happen has not."""

App = Callable[..., Awaitable[None]]


async def within(awaitable: Any, seconds: float = PATIENCE) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


class Site:
    """A server of an application, and a client that trusts it."""

    def __init__(self, server: AsgiServer, client: WebTransportClient, port: int) -> None:
        self.server = server
        self.client = client
        self.port = port
        self.url = f"https://127.0.0.1:{port}"

    async def connect(self, path: str = "/", **options: Any) -> WebTransportSession:
        return await within(self.client.connect(self.url + path, **options))


class MakeSite(Protocol):
    async def __call__(
        self, app: App, *, client: dict[str, Any] | None = None, **options: Any
    ) -> Site: ...


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def site(engine: str, certificate: Certificate) -> AsyncIterator[MakeSite]:
    """Call it with an application to serve it; afterwards no task of it may be left."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:

        async def make(
            app: App,
            *,
            client: dict[str, Any] | None = None,
            lifespan: Any = "auto",
            **options: Any,
        ) -> Site:
            port = free_port()
            config = ServerConfig(
                engine=engine,
                certfile=certificate.certfile,
                keyfile=certificate.keyfile,
                bind_host="127.0.0.1",
                bind_port=port,
                **options,
            )
            server = await stack.enter_async_context(AsgiServer(app, config=config))
            await server.server.listen()
            trusting = ClientConfig(engine=engine, ca_certs=certificate.certfile, **(client or {}))
            connecting = await stack.enter_async_context(WebTransportClient(config=trusting))
            return Site(server, connecting, port)

        yield make
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks outlive their site: {left}"
