"""Every engine, spoken to only through the seam."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pywebtransport._engine.base import Engine, EngineConnection, EngineListener
from pywebtransport._engine.select import get_engine
from pywebtransport.config import ClientConfig, ServerConfig
from tests.support.certificate import Certificate, make_certificate

from .observer import Observer, Pair

ENGINES = ["aioquic", "native"]


@pytest.fixture(params=ENGINES)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def engine(engine_name: str) -> Engine:
    return get_engine(ClientConfig(engine=engine_name))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server_config(certificate: Certificate) -> Callable[..., ServerConfig]:
    def make(**options: Any) -> ServerConfig:
        return ServerConfig(
            **{"certfile": certificate.certfile, "keyfile": certificate.keyfile} | options
        )

    return make


@pytest.fixture
def client_config(certificate: Certificate) -> Callable[..., ClientConfig]:
    def make(**options: Any) -> ClientConfig:
        return ClientConfig(**{"ca_certs": certificate.certfile, "connect_timeout": 5.0} | options)

    return make


class Server:
    """A listener whose connections a test takes one by one."""

    def __init__(self, listener: EngineListener) -> None:
        self.listener = listener
        self.accepted: asyncio.Queue[Observer] = asyncio.Queue()

    @property
    def port(self) -> int:
        return self.listener.local_address[1]

    def on_connection(self, connection: EngineConnection) -> None:
        self.accepted.put_nowait(Observer(connection))


Listen = Callable[..., Awaitable[Server]]
Connect = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def listen(
    engine: Engine, stack: AsyncExitStack, server_config: Callable[..., ServerConfig]
) -> Listen:
    async def listen(**options: Any) -> Server:
        server: Server
        listener = await engine.listen(
            config=server_config(**options),
            host="127.0.0.1",
            port=0,
            on_connection=lambda connection: server.on_connection(connection),
        )
        server = Server(listener)
        stack.push_async_callback(listener.close)
        return server

    return listen


@pytest.fixture
def connect(
    engine: Engine,
    listen: Listen,
    stack: AsyncExitStack,
    client_config: Callable[..., ClientConfig],
) -> Connect:
    """Both ends of a new connection; options for both, ``server``/``client`` for one."""

    async def connect(
        *, server: dict[str, Any] | None = None, client: dict[str, Any] | None = None, **both: Any
    ) -> Pair:
        listening = await listen(**both, **server or {})
        connection = await engine.connect(
            config=client_config(**both, **client or {}),
            host="localhost",
            port=listening.port,
            remote=("127.0.0.1", listening.port),
        )

        async def close() -> None:
            connection.close(code=0, reason="")
            await connection.wait_closed()

        stack.push_async_callback(close)
        async with asyncio.timeout(5):
            return Pair(Observer(connection), await listening.accepted.get(), listening.listener)

    return connect


@pytest.fixture
def paths(tmp_path: Path) -> Path:
    return tmp_path
