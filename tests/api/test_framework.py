"""The application classes under their import path of the 0.20 generation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, framework, server
from pywebtransport.constants import ENGINES
from pywebtransport.exceptions import ClientError
from pywebtransport.framework import (
    MiddlewareRejected,
    ServerApp,
    create_rate_limit_middleware,
)
from pywebtransport.session import WebTransportSession
from tests.api.ends import turns
from tests.support.certificate import make_certificate
from tests.support.laboratory import free_port


@pytest.mark.parametrize(
    "name",
    [
        "MiddlewareManager",
        "RequestRouter",
        "ServerApp",
        "create_auth_middleware",
        "create_cors_middleware",
        "create_logging_middleware",
        "create_rate_limit_middleware",
    ],
)
def test_classes_are_those_of_the_server(name: str) -> None:
    assert getattr(framework, name) is getattr(server, name)


def test_everything_public_is_there() -> None:
    assert all(hasattr(framework, name) for name in framework.__all__)


@pytest.mark.parametrize("engine", ENGINES)
async def test_rejection_chooses_the_status(engine: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    app = ServerApp(
        config=ServerConfig(
            certfile=certificate.certfile, keyfile=certificate.keyfile, engine=engine
        )
    )

    @app.middleware
    async def guard(*, session: WebTransportSession) -> bool:
        if session.path == "/busy":
            raise MiddlewareRejected(status_code=429)
        return session.path != "/private"

    @app.route(path="/open")
    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()

    port = free_port()
    config = ClientConfig(engine=engine, server_certificate_hashes=[certificate.sha256])
    async with app, WebTransportClient(config=config) as client:
        await app.server.listen(host="127.0.0.1", port=port)
        for path, status in (("/busy", 429), ("/private", 403), ("/nowhere", 404)):
            with pytest.raises(ClientError, match=f"HTTP status {status}"):
                await client.connect(url=f"https://127.0.0.1:{port}{path}")
        session = await client.connect(url=f"https://127.0.0.1:{port}/open")
        assert session.is_ready
        await session.close()


@pytest.mark.parametrize("engine", ENGINES)
async def test_rate_limit_knows_its_clients(engine: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    app = ServerApp(
        config=ServerConfig(
            certfile=certificate.certfile, keyfile=certificate.keyfile, engine=engine
        )
    )
    app.add_middleware(middleware=create_rate_limit_middleware(max_requests=2))

    @app.route(path="/")
    async def handler(session: WebTransportSession) -> None:
        assert session.headers[":method"] == "CONNECT"
        await session.wait_closed()

    @app.on_startup
    async def start() -> None:
        serving.append(asyncio.create_task(app.serve(host="127.0.0.1", port=port)))

    port, serving = free_port(), list[asyncio.Task[None]]()
    config = ClientConfig(engine=engine, server_certificate_hashes=[certificate.sha256])
    async with app, WebTransportClient(config=config) as client:
        while not app.server.is_serving:
            await turns(1)
        for _ in range(2):
            assert (await client.connect(url=f"https://127.0.0.1:{port}/")).is_ready
        with pytest.raises(ClientError, match="HTTP status 429"):
            await client.connect(url=f"https://127.0.0.1:{port}/")
        await app.server.close()
        await serving[0]
