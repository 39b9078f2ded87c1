"""A server's connections on a socket of ``aioquic.asyncio.serve``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, QuicEvent

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server import HttpRequest
from pywebtransport.server.server import WebTransportServerProtocol
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate, make_certificate
from tests.support.http3_client import connected
from tests.support.laboratory import echo

PATIENCE = 5.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


class Protocol(WebTransportServerProtocol):
    """Counts, and can be found by the test."""

    made: list[Protocol]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[QuicEvent] = []
        self.made.append(self)

    def quic_event_received(self, event: QuicEvent) -> None:
        self.seen.append(event)


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    Protocol.made = []


class Site:
    """What a test needs of one server."""

    def __init__(self, app: ServerApp, url: str, config: ClientConfig, quic_server: Any) -> None:
        self.app = app
        self.url = url
        self.config = config
        self.quic_server = quic_server


@asynccontextmanager
async def carried(
    certificate: Certificate, engine: str, *, retry: bool = False, **options: Any
) -> AsyncIterator[Site]:
    """``ServerApp`` with an echo on a socket that aioquic serves."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(Path(certificate.certfile), Path(certificate.keyfile))
    app = ServerApp(config=ServerConfig(**options))
    app.route(path="/")(echo)
    async with app:
        quic_server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            create_protocol=partial(Protocol, app.server),
            retry=retry,
        )
        port = quic_server._transport.get_extra_info("sockname")[1]
        config = ClientConfig(
            engine=engine,
            server_certificate_hashes=[certificate.sha256],
            connect_timeout=PATIENCE,
            close_timeout=0.2,
        )
        try:
            yield Site(app, f"https://127.0.0.1:{port}/", config, quic_server)
        finally:
            quic_server.close()


async def echoed(session: WebTransportSession, data: bytes) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write(data=data, end_stream=True)
    return await stream.read_all()


@pytest.mark.parametrize("retry", [False, True], ids=["", "retry"])
@pytest.mark.parametrize("engine", ["aioquic", "native"])
async def test_sessions_work_as_on_a_listener(
    certificate: Certificate, engine: str, retry: bool
) -> None:
    async with (
        carried(certificate, engine, retry=retry) as site,
        WebTransportClient(config=site.config) as client,
    ):
        session = await client.connect(url=site.url)
        data = bytes(range(256)) * 4000
        assert await echoed(session, data) == data
        datagrams = await session.create_datagram_transport()
        assert datagrams.max_datagram_size > 0
        [protocol] = Protocol.made
        connection = protocol.connection
        assert connection is not None
        assert connection.remote_address == session.connection.local_address
        assert any(isinstance(event, HandshakeCompleted) for event in protocol.seen)
        async with asyncio.timeout(PATIENCE):
            await protocol.wait_connected()
            await protocol.ping()
        diagnostics = await site.app.server.diagnostics()
        assert diagnostics.stats.connections_accepted == 1
        assert not diagnostics.is_serving
        await session.close(code=7, reason="done")
        async with asyncio.timeout(PATIENCE):
            await connection.wait_closed()


async def test_connections_beyond_the_limit_are_refused(certificate: Certificate) -> None:
    async with (
        carried(certificate, "aioquic", max_connections=1) as site,
        WebTransportClient(config=site.config) as client,
        WebTransportClient(config=site.config) as other,
    ):
        session = await client.connect(url=site.url)
        with pytest.raises(WebTransportError):
            await other.connect(url=site.url)
        assert await echoed(session, b"still here") == b"still here"
        assert Protocol.made[1].connection is None


async def test_end_of_the_app_ends_its_sessions(certificate: Certificate) -> None:
    config = ClientConfig(engine="aioquic", server_certificate_hashes=[certificate.sha256])
    async with WebTransportClient(config=config) as client:
        async with carried(certificate, "aioquic") as site:
            session = await client.connect(url=site.url)
            assert await echoed(session, b"x") == b"x"
            [protocol] = Protocol.made
        async with asyncio.timeout(PATIENCE):
            await session.wait_closed()
        protocol.transmit()
        assert protocol.connection is None or protocol.connection.is_closed


async def test_close_of_aioquics_server_ends_its_connections(certificate: Certificate) -> None:
    async with (
        carried(certificate, "aioquic") as site,
        WebTransportClient(config=site.config) as client,
    ):
        session = await client.connect(url=site.url)
        assert await echoed(session, b"x") == b"x"
        [protocol] = Protocol.made
        connection = protocol.connection
        assert connection is not None
        site.quic_server.close()
        async with asyncio.timeout(PATIENCE):
            await session.wait_closed()
            await connection.wait_closed()
            await protocol.wait_closed()


async def test_loss_of_the_socket_ends_the_sessions_here(certificate: Certificate) -> None:
    async with (
        carried(certificate, "aioquic") as site,
        WebTransportClient(config=site.config) as client,
    ):
        session = await client.connect(url=site.url)
        [protocol] = Protocol.made
        connection = protocol.connection
        assert connection is not None
        ping = asyncio.create_task(protocol.ping())
        await asyncio.sleep(0)
        protocol.connection_lost(OSError("cable"))
        protocol.connection_lost(None)
        async with asyncio.timeout(PATIENCE):
            await connection.wait_closed()
            await protocol.wait_closed()
            with pytest.raises(ConnectionError, match="ended"):
                await ping
        assert connection.is_closed
        assert not site.quic_server._protocols
        await session.close()


async def test_ordinary_requests_come_to_the_handler(certificate: Certificate) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(Path(certificate.certfile), Path(certificate.keyfile))

    async def answer(request: HttpRequest) -> None:
        await request.respond(200)
        await request.write(request.path.encode())

    app = ServerApp(config=ServerConfig(), request_handler=answer)
    async with app:
        quic_server = await serve(
            "127.0.0.1",
            0,
            configuration=configuration,
            create_protocol=partial(WebTransportServerProtocol, app.server),
        )
        try:
            async with connected(quic_server._transport.get_extra_info("sockname")[1]) as client:
                assert bytes((await client.get("/here")).body) == b"/here"
        finally:
            quic_server.close()
