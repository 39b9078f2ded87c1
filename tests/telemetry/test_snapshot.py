"""``server.snapshot()``: figures of now and of what has ended, on both engines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ClientError
from pywebtransport.server import ServerSnapshot
from tests.support.certificate import Certificate

PATIENCE = 30.0


@contextlib.asynccontextmanager
async def serving(engine: str, certificate: Certificate, **fields: Any) -> AsyncIterator[ServerApp]:
    config = ServerConfig(
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        engine=engine,
        bind_port=0,
        **fields,
    )
    app = ServerApp(config=config)

    @app.route("/sink")
    async def sink(session: Any) -> None:
        async for stream in session.incoming_unidirectional_streams():
            await stream.read_all()

    async with asyncio.timeout(PATIENCE), app:
        await app.server.listen(host="127.0.0.1")
        yield app


def client_of(engine: str, certificate: Certificate, **fields: Any) -> WebTransportClient:
    config = ClientConfig(engine=engine, server_certificate_hashes=[certificate.sha256], **fields)
    return WebTransportClient(config=config)


def url(app: ServerApp, path: str = "/sink") -> str:
    address = app.server.local_address
    assert address is not None
    return f"https://127.0.0.1:{address[1]}{path}"


async def until(app: ServerApp, is_so: Any) -> ServerSnapshot:
    """The first snapshot that is so: what a peer did arrives when it arrives."""
    loop = asyncio.get_running_loop()
    while not is_so(snapshot := app.server.snapshot()):
        turn = loop.create_future()
        loop.call_later(0.01, turn.set_result, None)
        await turn
    return snapshot


async def test_sessions_and_traffic(engine: str, certificate: Certificate) -> None:
    async with serving(engine, certificate) as app:
        assert app.server.snapshot().connections == 0
        async with client_of(engine, certificate) as client:
            session = await client.connect(url(app))
            stream = await session.create_unidirectional_stream()
            await stream.write_all(bytes(100_000))
            open_now = await until(app, lambda s: s.traffic.bytes_received > 100_000)
            assert (open_now.connections, open_now.sessions) == (1, 1)
            assert (open_now.sessions_accepted, open_now.handlers) == (1, 1)
            with pytest.raises(ClientError):
                await client.connect(url(app, "/nothing"))
        ended = await until(app, lambda s: not s.connections and not s.handlers)
        print(f"{engine}: {ended}")
        assert ended.sessions == 0
        assert ended.sessions_rejected == {404: 1}
        assert ended.sessions_closed == {"remote": 1}
        assert ended.connections_accepted == ended.handshakes.begun == 2
        assert ended.traffic.bytes_received >= open_now.traffic.bytes_received, "kept at the end"
        assert ended.traffic.packets_received > 70
        assert ended.traffic.bytes_sent > 1_000
        assert not any(ended.limits_hit.values()), ended.limits_hit


async def test_datagrams_that_nobody_reads(engine: str, certificate: Certificate) -> None:
    async with serving(engine, certificate) as app, client_of(engine, certificate) as client:
        session = await client.connect(url(app))
        datagrams = await session.create_datagram_transport()
        while not app.server.snapshot().traffic.datagrams_dropped_incoming:
            await datagrams.send(data=b"unread")
            await asyncio.sleep(0)


async def test_limits_by_name(engine: str, certificate: Certificate) -> None:
    async with serving(
        engine, certificate, max_sessions=1, allowed_origins=["https://a.example"]
    ) as app:
        async with client_of(engine, certificate) as client:
            await client.connect(url(app))
            with pytest.raises(ClientError):
                await client.connect(url(app))
        await until(app, lambda s: not s.sessions)
        headers = {"origin": "https://b.example"}
        async with client_of(engine, certificate, headers=headers) as client:
            with pytest.raises(ClientError):
                await client.connect(url(app))
        snapshot = await until(app, lambda s: not s.connections)
        assert snapshot.limits_hit["max_sessions"] == 1
        assert snapshot.limits_hit["allowed_origins"] == 1
        assert snapshot.sessions_rejected == {429: 1, 403: 1}


async def test_refused_handshakes(engine: str, certificate: Certificate) -> None:
    async with (
        serving(engine, certificate, max_connections_per_address=1) as app,
        client_of(engine, certificate) as client,
    ):
        await client.connect(url(app))
        with pytest.raises(ClientError):
            await client.connect(url(app))
        snapshot = app.server.snapshot()
        assert snapshot.handshakes.refused_network >= 1
        assert snapshot.limits_hit["max_connections_per_address"] >= 1
        assert snapshot.handshakes.refused_full == 0


async def test_retries(engine: str, certificate: Certificate) -> None:
    async with serving(engine, certificate, retry=True) as app:
        async with client_of(engine, certificate) as client:
            await client.connect(url(app))
        before = app.server.snapshot().handshakes
        assert (before.retried, before.begun) == (1, 1)
        await app.server.close()
        assert app.server.snapshot().handshakes == before, "kept when the listener is gone"
