"""A server on each engine, and clients that reach it through a bad path."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.stream import WebTransportStream
from pywebtransport.utils import generate_self_signed_cert

from .relay import Path, Relay, relay_to

ENGINES = ["native", "aioquic"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("certificate")
    return generate_self_signed_cert(hostname="localhost", output_dir=str(folder), days_valid=10)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def digest_stream(stream: Any) -> None:
    """Answer a bidirectional stream with its own bytes, digest first."""
    data = await stream.read_all()
    await stream.write(data=hashlib.sha256(data).digest() + data, end_stream=True)


async def serve_session(session: Any) -> None:
    transport = await session.create_datagram_transport()

    async def echo_datagrams() -> None:
        while True:
            await transport.send(data=await transport.receive())

    async with asyncio.TaskGroup() as group:
        datagrams = group.create_task(echo_datagrams())
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                group.create_task(digest_stream(stream))
        datagrams.cancel()


class Lab:
    """One server; ``client()`` gives a session that crosses a relay with the given faults."""

    def __init__(self, engine: str, certificate: tuple[str, str]) -> None:
        self.engine = engine
        self.certificate = certificate
        self.address: tuple[str, int] = ("127.0.0.1", 0)
        self.app: Any = None
        self.ended: asyncio.Queue[BaseException | None] = asyncio.Queue()

    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[Lab]:
        certfile, keyfile = self.certificate
        config = ServerConfig(
            certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1", engine=self.engine, **options
        )
        self.app = ServerApp(config=config)

        @self.app.route(path="/lab")
        async def lab(session: Any) -> None:
            error: BaseException | None = None
            try:
                await serve_session(session)
            except BaseException as caught:
                error = caught
                raise
            finally:
                self.ended.put_nowait(error)

        async with self.app:
            self.address = ("127.0.0.1", free_port())
            await self.app.server.listen(host=self.address[0], port=self.address[1])
            yield self

    @asynccontextmanager
    async def client(self, path: Path, **options: Any) -> AsyncIterator[tuple[Any, Relay]]:
        config = ClientConfig(verify_mode=ssl.CERT_NONE, engine=self.engine, **options)
        async with (
            relay_to(self.address, path) as relay,
            WebTransportClient(config=config) as client,
        ):
            session = await client.connect(url=f"https://127.0.0.1:{relay.address[1]}/lab")
            yield session, relay


@pytest.fixture
def lab(engine: str, certificate: tuple[str, str]) -> Lab:
    assert FilePath(certificate[0]).exists()
    return Lab(engine, certificate)
