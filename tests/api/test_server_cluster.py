"""Several servers that start and stop together."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ClientError, ServerError
from pywebtransport.server import HttpRequest, ServerCluster, WebTransportServer
from tests.support import raw_http3 as h3
from tests.support.certificate import make_certificate
from tests.support.laboratory import free_port
from tests.support.raw_peer import raw_client

MakeConfig = Callable[..., ServerConfig]
GET = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]


@pytest.fixture
def config(engine: str, tmp_path: Path) -> MakeConfig:
    certificate = make_certificate(tmp_path)

    def make(**options: Any) -> ServerConfig:
        return ServerConfig(
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            engine=engine,
            **{"bind_host": "127.0.0.1", "bind_port": free_port()} | options,
        )

    return make


async def test_nothing_works_before_entering(config: MakeConfig) -> None:
    cluster = ServerCluster(configs=[config()])
    for call in (
        cluster.start_all(),
        cluster.stop_all(),
        cluster.add_server(config=config()),
        cluster.remove_server(host="127.0.0.1", port=1),
        cluster.get_cluster_stats(),
        cluster.get_server_count(),
        cluster.get_servers(),
    ):
        with pytest.raises(ServerError, match="not been activated"):
            await call
    assert not cluster.is_running


async def test_servers_come_and_go(config: MakeConfig) -> None:
    first = config()
    cluster = ServerCluster(configs=[first, config()])
    client_config = ClientConfig(verify_mode=ssl.CERT_NONE, engine=first.engine)
    async with cluster, WebTransportClient(config=client_config) as client:
        assert cluster.is_running
        assert await cluster.get_server_count() == 2
        await cluster.start_all()
        assert await cluster.get_server_count() == 2
        added = await cluster.add_server(config=config())
        assert added is not None
        assert added.is_serving
        taken = config(bind_port=added.config.bind_port)
        assert await cluster.add_server(config=taken) is None
        servers = await cluster.get_servers()
        servers.clear()
        servers = await cluster.get_servers()
        assert len(servers) == 3
        with pytest.raises(ClientError, match="404"):
            await client.connect(url=f"https://127.0.0.1:{first.bind_port}/")
        stats = await cluster.get_cluster_stats()
        assert set(stats) == {
            "server_count",
            *(f"total_connections_{what}" for what in ("accepted", "rejected", "active")),
            "total_sessions_active",
        }
        assert (stats["server_count"], stats["total_connections_accepted"]) == (3, 1)
        assert await cluster.remove_server(host="127.0.0.1", port=added.config.bind_port)
        assert not added.is_serving
        assert not await cluster.remove_server(host="127.0.0.1", port=added.config.bind_port)
        await cluster.stop_all()
        assert not cluster.is_running
        assert not any(server.is_serving for server in servers)
        assert await cluster.get_cluster_stats() == {}
        assert await cluster.add_server(config=config()) is None
        await cluster.start_all()
        assert await cluster.get_server_count() == 3
    assert not cluster.is_running
    with pytest.raises(ServerError, match="not been activated"):
        await cluster.start_all()


async def test_one_that_does_not_start_closes_the_others(config: MakeConfig) -> None:
    good = config()
    async with WebTransportServer(config=config()) as server:
        await server.listen()
        cluster = ServerCluster(configs=[good, config(bind_port=server.config.bind_port)])
        with pytest.raises(ServerError, match=f":{server.config.bind_port}"):
            await cluster.__aenter__()
        assert not cluster.is_running
        async with WebTransportServer(config=good) as again:
            await again.listen()


async def test_every_server_has_the_request_handler(config: MakeConfig) -> None:
    async def answer(request: HttpRequest) -> None:
        await request.respond(204, end=True)

    cluster = ServerCluster(configs=[config()], request_handler=answer)
    async with cluster:
        await cluster.add_server(config=config())
        for server in await cluster.get_servers():
            address = server.local_address
            assert address is not None
            async with raw_client(address[1]) as peer:
                peer.send(peer.open(unidirectional=True), h3.control_stream(h3.SETTINGS_OF["15"]))
                stream = peer.open()
                peer.send(stream, h3.headers_frame(GET), fin=True)
                assert (await peer.response(stream))[":status"] == "204"


async def test_what_fails_while_stopping_is_told_together(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ServerCluster(configs=[config() for _ in range(3)]) as cluster:
        servers = await cluster.get_servers()
        for server in servers[:2]:
            close = server.close

            async def fail(close: Callable[[], Any] = close) -> None:
                await close()
                raise RuntimeError("on purpose")

            monkeypatch.setattr(server, "close", fail)
        with pytest.raises(ExceptionGroup) as caught:
            await cluster.stop_all()
        assert [str(error) for error in caught.value.exceptions] == ["on purpose"] * 2
        assert not any(server.is_serving for server in servers)
        monkeypatch.undo()
        await asyncio.gather(*(server.__aexit__(None, None, None) for server in servers))
