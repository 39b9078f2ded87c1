"""Clients: connecting, what can go wrong, and the classes around one."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aioquic.asyncio import serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport._native import frame_encode, frame_parse_many, section_decode, section_encode
from pywebtransport.client import (
    ClientDiagnostics,
    ClientFleet,
    ClientStats,
    ReconnectingClient,
    WebTransportBrowser,
)
from pywebtransport.client.proxy import perform_proxy_handshake
from pywebtransport.client.utils import parse_webtransport_url, validate_url
from pywebtransport.config import ProxyConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    HandshakeError,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.types import ConnectionState, EventType
from tests.support.certificate import Certificate, make_certificate
from tests.support.laboratory import free_port


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


class Server:
    """Keeps its sessions until they are closed, and what was asked of it."""

    def __init__(self, certificate: Certificate, **options: Any) -> None:
        self.port = free_port()
        self.app = ServerApp(
            config=ServerConfig(
                certfile=certificate.certfile,
                keyfile=certificate.keyfile,
                bind_host="127.0.0.1",
                bind_port=self.port,
                **options,
            )
        )
        self.sessions: list[WebTransportSession] = []
        self.app.route(path="/x")(self.keep)
        self.app.pattern_route(pattern="/p/.*")(self.keep)

    def url(self, path: str = "/x") -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    async def keep(self, session: WebTransportSession) -> None:
        self.sessions.append(session)
        await session.wait_closed()

    async def __aenter__(self) -> Server:
        await self.app.__aenter__()
        await self.app.server.listen()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.app.__aexit__(None, None, None)


@pytest.fixture
async def server(certificate: Certificate) -> AsyncIterator[Server]:
    async with Server(certificate, wt_available_protocols=["b"]) as server:
        yield server


@pytest.fixture
async def client(certificate: Certificate) -> AsyncIterator[WebTransportClient]:
    async with WebTransportClient(config=trusting(certificate)) as client:
        yield client


def trusting(certificate: Certificate, **options: Any) -> ClientConfig:
    return ClientConfig(ca_certs=certificate.certfile, **options)


# URLs.


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.org", ("example.org", 443, "/")),
        ("https://example.org:4433/a/b?c=d#e", ("example.org", 4433, "/a/b?c=d")),
        ("https://[::1]:1/x", ("::1", 1, "/x")),
        ("HTTPS://Example.org/?q", ("example.org", 443, "/?q")),
        ("https://bücher.example/", ("xn--bcher-kva.example", 443, "/")),
        ("https://a_b.example/ü?ö=%20#ä", ("a_b.example", 443, "/%C3%BC?%C3%B6=%20")),
        ("https://h/~a;b=c,d'(e)*[f]|^", ("h", 443, "/~a;b=c,d'(e)*%5Bf%5D%7C%5E")),
    ],
)
def test_urls(url: str, parts: tuple[str, int, str]) -> None:
    assert parse_webtransport_url(url=url) == parts
    assert validate_url(url=url)


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.org", "http://example.org", "wss://example.org", "https://", "https:///x"),
        *("https://example.org:port", "https://example.org:0", "https://example.org:65536"),
        *("https://user:secret@example.org", "https://example.org/a b", "https://[::1/x"),
    ],
)
async def test_bad_urls_are_named_with_the_rule(url: str, client: WebTransportClient) -> None:
    assert not validate_url(url=url)
    with pytest.raises(ConfigurationError) as caught:
        await client.connect(url=url)
    assert repr(url.replace("user:secret", "***")) in str(caught.value)
    assert caught.value.config_value == url.replace("user:secret", "***")
    assert (await client.diagnostics()).stats.connections_attempted == 0


# Connecting.


async def test_request_carries_the_headers_of_every_source(
    server: Server, certificate: Certificate
) -> None:
    config = trusting(certificate, headers={"X-Config": "1", "x-both": "config"})
    async with WebTransportClient(config=config) as client:
        client.set_default_headers(headers={"x-default": "2", "x-both": "default"})
        await client.connect(url=server.url(), headers={"X-Call": "3", "x-both": "call"})
        headers = server.sessions[0].headers
        assert headers["user-agent"].startswith("pywebtransport/")
        assert (headers["x-config"], headers["x-default"], headers["x-call"]) == ("1", "2", "3")
        assert headers["x-both"] == "call"
        assert headers[":authority"] == f"127.0.0.1:{server.port}"
        defaults = {"x-other": "4"}
        client.set_default_headers(headers=defaults)
        defaults["x-other"] = "changed later"
        await client.connect(url=server.url(), headers={"host": "other.example"})
        headers = server.sessions[1].headers
        assert headers[":authority"] == "other.example"
        assert (headers["x-other"], headers["x-both"]) == ("4", "config")
        assert "x-default" not in headers


async def test_name_is_verified(server: Server, certificate: Certificate) -> None:
    """The certificate is trusted, but is not for this name."""
    config = trusting(certificate, connect_timeout=5.0)
    with pytest.raises(ConnectionError) as caught:
        await WebTransportConnection.create_client(
            config=config, host="example.org", port=443, proxy_addr=("127.0.0.1", server.port)
        )
    print(caught.value)
    assert caught.value.__cause__ is not None


async def test_unknown_authority_is_refused(server: Server) -> None:
    async with WebTransportClient() as client:
        with pytest.raises(ConnectionError) as caught:
            await client.connect(url=server.url(), timeout=5.0)
        print(caught.value)
        stats = (await client.diagnostics()).stats
        assert (stats.connections_attempted, stats.connections_failed) == (1, 1)


async def test_refused_connection_is_told_at_once(client: WebTransportClient) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionError) as caught:
        await client.connect(url=f"https://127.0.0.1:{free_port()}/")
    print(caught.value)
    assert asyncio.get_running_loop().time() - started < 3


async def test_silence_ends_in_time(client: WebTransportClient) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError, match=f"{port}"):
            await client.connect(url=f"https://127.0.0.1:{port}/", timeout=0.3)
        assert 0.2 < asyncio.get_running_loop().time() - started < 3
        diagnostics = await client.diagnostics()
        assert diagnostics.connection_states == {}


async def test_peer_that_is_not_http3_is_told_at_once(
    client: WebTransportClient, certificate: Certificate
) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["other"])
    configuration.load_cert_chain(certificate.certfile, certificate.keyfile)
    port = free_port()
    other = await serve("127.0.0.1", port, configuration=configuration)
    try:
        with pytest.raises(ConnectionError) as caught:
            await client.connect(url=f"https://127.0.0.1:{port}/", timeout=5.0)
        print(caught.value)
        assert isinstance(caught.value.__cause__, HandshakeError)
    finally:
        other.close()


async def test_other_status_is_a_client_error(server: Server, client: WebTransportClient) -> None:
    with pytest.raises(ClientError, match="HTTP status 404") as caught:
        await client.connect(url=server.url("/nowhere"))
    assert caught.value.target_url == server.url("/nowhere")
    await asyncio.sleep(0)
    assert (await client.diagnostics()).connection_states == {}


async def test_closed_and_unentered_clients_refuse() -> None:
    client = WebTransportClient()
    with pytest.raises(ClientError, match="not been activated"):
        await client.connect(url="https://example.org")
    async with client:
        assert not client.is_closed
    assert client.is_closed
    await client.close()
    with pytest.raises(ClientError, match="closed"):
        await client.connect(url="https://example.org")
    with pytest.raises(ClientError, match="closed"):
        await client.__aenter__()


async def test_leaving_closes_every_session_and_tells_it(
    server: Server, certificate: Certificate
) -> None:
    told: list[Event] = []
    async with WebTransportClient(config=trusting(certificate)) as client:
        sessions = [await client.connect(url=server.url()) for _ in range(3)]
        for session in sessions:
            session.on(event_type=EventType.SESSION_CLOSED, handler=told.append)
            assert session.connection is not None
            session.connection.on(event_type=EventType.CONNECTION_CLOSED, handler=told.append)
        diagnostics = await client.diagnostics()
        assert diagnostics.connection_states == {ConnectionState.CONNECTED: 3}
        assert diagnostics.stats.success_rate == 1.0
        assert 0 < diagnostics.stats.min_connect_time <= diagnostics.stats.avg_connect_time
    assert all(session.is_closed for session in sessions)
    assert len(told) == 6


async def test_optimistic_session(server: Server, client: WebTransportClient) -> None:
    session = await client.connect_optimistic(url=server.url(), wt_available_protocols=["a", "b"])
    stream = await session.create_bidirectional_stream()
    assert session.is_ready
    assert session.wt_protocol == "b"
    await stream.abort()


async def test_cancelled_connect_leaves_no_connection(certificate: Certificate) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        async with WebTransportClient(config=trusting(certificate)) as client:
            connecting = asyncio.create_task(
                client.connect(url=f"https://127.0.0.1:{silent.getsockname()[1]}/")
            )
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_recv(silent, 2048)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert (await client.diagnostics()).stats.connections_failed == 1


async def test_factories_are_used(server: Server, certificate: Certificate) -> None:
    calls: list[dict[str, Any]] = []

    async def make_connection(**options: Any) -> WebTransportConnection:
        calls.append(options)
        return await WebTransportConnection.create_client(**options)

    async def make_session(**options: Any) -> WebTransportSession:
        calls.append(dict(options))
        return WebTransportSession(options.pop("connection"), **options)

    async with WebTransportClient(
        config=trusting(certificate),
        connection_factory=make_connection,
        session_factory=make_session,
    ) as client:
        session = await client.connect(url=server.url())
        assert session.is_ready
        assert set(calls[0]) == {"config", "host", "port", "path", "proxy_addr"}
        assert set(calls[1]) == {
            *("connection", "session_id", "max_streams", "max_incoming_streams"),
            "stream_cleanup_interval",
        }


async def test_failing_factories_are_wrapped(server: Server, certificate: Certificate) -> None:
    async def fail(**options: Any) -> Any:
        raise RuntimeError("on purpose")

    config = trusting(certificate)
    async with WebTransportClient(config=config, connection_factory=fail) as client:
        with pytest.raises(ClientError, match="on purpose"):
            await client.connect(url=server.url())
        assert (await client.diagnostics()).stats.connections_failed == 1
    async with WebTransportClient(config=config, session_factory=fail) as client:
        before = await client.diagnostics()
        with pytest.raises(ClientError, match="on purpose") as caught:
            await client.connect(url=server.url())
        assert caught.value.target_url == server.url()
        diagnostics = await client.diagnostics()
        stats = diagnostics.stats
        assert (stats.connections_attempted, stats.connections_failed) == (1, 1)
        assert (stats.connections_successful, stats.total_connect_time) == (0, 0.0)
        assert diagnostics.connection_states == {}
        assert before.stats.connections_attempted == 0, "a snapshot"


async def test_request_that_cannot_be_sent(server: Server, client: WebTransportClient) -> None:
    with pytest.raises(ClientError, match="NUL, CR or LF"):
        await client.connect(url=server.url(), headers={"x": "a\r\nb"})
    with pytest.raises(ConfigurationError, match="invalid character"):
        await WebTransportConnection.create_client(
            config=client.config.update(headers={"bad name": "x"}),
            host="127.0.0.1",
            port=server.port,
        )
    assert (await client.diagnostics()).connection_states == {}


async def test_closing_while_it_connects(certificate: Certificate) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        config = trusting(certificate, connect_timeout=0.3)
        async with WebTransportClient(config=config) as client:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
            connecting = asyncio.create_task(client.connect(url=url))
            await asyncio.sleep(0)
        with pytest.raises(ConnectionError, match=r"0\.3 s"):
            await connecting
        with pytest.raises(ClientError, match="closed"):
            await client.connect(url=url)


async def test_session_that_is_accepted_and_closed_at_once_is_given_out(
    certificate: Certificate,
) -> None:
    server = Server(certificate)

    @server.app.route(path="/at-once")
    async def at_once(session: WebTransportSession) -> None:
        return

    async with server, WebTransportClient(config=trusting(certificate)) as client:
        for _ in range(5):
            session = await client.connect(url=server.url("/at-once"))
            await session.wait_closed()
            assert session.is_closed


def test_stats() -> None:
    stats = ClientStats()
    assert (stats.success_rate, stats.avg_connect_time) == (1.0, 0.0)
    assert stats.to_dict()["performance"]["min_connect_time"] == 0.0
    stats.connections_attempted, stats.connections_successful = 20, 10
    stats.total_connect_time = 60.0
    assert stats.to_dict()["connections"]["success_rate"] == 0.5
    assert stats.to_dict() == {
        "created_at": stats.created_at,
        "uptime": pytest.approx(0, abs=60),
        "connections": {"attempted": 20, "successful": 10, "failed": 0, "success_rate": 0.5},
        "performance": {
            "avg_connect_time": 6.0,
            "min_connect_time": 0.0,
            "max_connect_time": 0.0,
        },
    }


@pytest.mark.parametrize(
    ("figures", "issues"),
    [
        ({"connections_attempted": 10, "connections_successful": 0}, []),
        ({"connections_attempted": 20, "connections_successful": 18}, []),
        (
            {"connections_attempted": 11, "connections_successful": 9},
            ["Low connection success rate: 82%"],
        ),
        ({"connections_successful": 2, "total_connect_time": 10.0}, []),
        (
            {"connections_successful": 2, "total_connect_time": 10.1},
            ["Slow average connect time: 5.05s"],
        ),
    ],
)
def test_issues(figures: dict[str, Any], issues: list[str]) -> None:
    stats = ClientStats(**figures)
    assert ClientDiagnostics(stats=stats, connection_states={}).issues == issues


# Several clients.


async def test_fleet(server: Server, certificate: Certificate) -> None:
    with pytest.raises(ValueError, match="at least one"):
        ClientFleet(clients=[])
    members = [WebTransportClient(config=trusting(certificate)) for _ in range(2)]
    # One that trusts nobody, so that it cannot connect.
    members.append(WebTransportClient(config=ClientConfig(connect_timeout=5.0)))
    fleet = ClientFleet(clients=members)
    with pytest.raises(ClientError, match="not been activated"):
        await fleet.connect_all(url=server.url())
    async with fleet:
        assert [await fleet.get_client() for _ in range(4)] == [*members, members[0]]
        sessions = await fleet.connect_all(url=server.url())
        assert len(sessions) == 2
        assert all(session.is_ready for session in sessions)
    assert fleet.get_client_count() == 0
    assert all(member.is_closed for member in members)
    with pytest.raises(ClientError, match="no clients"):
        await fleet.get_client()


# One that reconnects.


async def test_reconnecting(server: Server, certificate: Certificate) -> None:
    told: asyncio.Queue[Event] = asyncio.Queue()
    async with WebTransportClient(config=trusting(certificate)) as client:
        reconnecting = ReconnectingClient(url=server.url(), client=client)
        assert await reconnecting.get_session(wait_timeout=0.01) is None
        reconnecting.on_any(handler=told.put_nowait)
        async with reconnecting:
            first = await reconnecting.get_session()
            assert first is not None
            assert reconnecting.is_connected
            event = await told.get()
            assert event.data == {"session": first, "attempt": 1}
            await server.sessions[0].close()
            lost = await told.get()
            assert (lost.type, lost.data) == (EventType.CONNECTION_LOST, {"url": server.url()})
            again = await told.get()
            assert again.data is not None
            assert again.data["attempt"] == 2
            second = await reconnecting.get_session()
            assert second is not None
            assert second is not first
        assert second.is_closed
        assert not reconnecting.is_connected
        assert await reconnecting.get_session() is None
        with pytest.raises(ClientError, match="closed"):
            await reconnecting.__aenter__()


async def test_reconnecting_gives_up(certificate: Certificate) -> None:
    config = trusting(certificate, max_retries=2, retry_delay=0.01, connect_timeout=2.0)
    told: asyncio.Queue[Event] = asyncio.Queue()
    async with WebTransportClient(config=config) as client:
        reconnecting = ReconnectingClient(url=f"https://127.0.0.1:{free_port()}/", client=client)
        reconnecting.on(event_type=EventType.CONNECTION_FAILED, handler=told.put_nowait)
        async with reconnecting:
            event = await told.get()
            assert event.data is not None
            assert event.data["reason"] == "max_retries_exceeded"
            assert isinstance(event.data["last_error"], ConnectionError)
            assert await reconnecting.get_session() is None
        assert (await client.diagnostics()).stats.connections_attempted == 3


# One with a history.


async def test_browser(server: Server, client: WebTransportClient) -> None:
    browser = WebTransportBrowser(client=client)
    with pytest.raises(ClientError, match="not been activated"):
        await browser.navigate(url=server.url())
    urls = [server.url(f"/p/{name}") for name in "abc"]
    async with browser:
        assert browser.current_session is None
        assert await browser.back() is await browser.forward() is await browser.refresh() is None
        first = await browser.navigate(url=urls[0])
        assert await browser.navigate(url=urls[0]) is first
        await browser.navigate(url=urls[1])
        await first.wait_closed()
        await browser.navigate(url=urls[2])
        back = await browser.back()
        assert back is not None
        assert back.path == "/p/b"
        forward = await browser.forward()
        assert forward is not None
        assert forward.path == "/p/c"
        assert await browser.forward() is None
        refreshed = await browser.refresh()
        assert refreshed is not None
        assert refreshed is not forward
        await browser.back()
        await browser.back()
        await browser.navigate(url=urls[2])
        assert await browser.get_history() == [urls[0], urls[2]]
        current = browser.current_session
        with pytest.raises(ClientError, match="404"):
            await browser.navigate(url=server.url("/nowhere"))
        assert browser.current_session is current
    assert current is not None
    assert current.is_closed


# Through a proxy.


class Proxy(QuicConnectionProtocol):
    """Answers CONNECT with a status."""

    status = 200
    seen: ClassVar[list[dict[bytes, bytes]]] = []

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.stream_id == 0:
            (kind, payload), *_ = frame_parse_many(event.data)
            assert kind == 1
            self.seen.append(dict(section_decode(payload)))
            section = section_encode([(b":status", str(self.status).encode())])
            self._quic.send_stream_data(0, frame_encode(1, section))
            self.transmit()


@asynccontextmanager
async def proxy(certificate: Certificate, status: int) -> AsyncIterator[int]:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(certificate.certfile, certificate.keyfile)
    port = free_port()
    protocol = type("Answering", (Proxy,), {"status": status, "seen": []})
    server = await serve("127.0.0.1", port, configuration=configuration, create_protocol=protocol)
    Proxy.seen = protocol.seen
    try:
        yield port
    finally:
        server.close()


async def test_proxy_handshake(certificate: Certificate) -> None:
    async with proxy(certificate, 200) as port:
        config = trusting(
            certificate,
            proxy=ProxyConfig(url=f"https://127.0.0.1:{port}", headers={"X-Key": "1"}),
        )
        address = await perform_proxy_handshake(
            config=config, target_host="example.org", target_port=443
        )
        assert address == ("127.0.0.1", port)
        assert Proxy.seen[0][b":method"] == b"CONNECT"
        assert Proxy.seen[0][b":authority"] == b"example.org:443"
        assert Proxy.seen[0][b"x-key"] == b"1"
        assert b":protocol" not in Proxy.seen[0]


async def test_proxy_that_refuses(certificate: Certificate) -> None:
    async with proxy(certificate, 407) as port:
        config = trusting(certificate, proxy=ProxyConfig(url=f"https://127.0.0.1:{port}"))
        with pytest.raises(HandshakeError, match="Proxy returned status 407"):
            await perform_proxy_handshake(config=config, target_host="a", target_port=1)
        async with WebTransportClient(config=config) as client:
            with pytest.raises(ClientError, match="Proxy returned status 407"):
                await client.connect(url="https://example.org")


@pytest.mark.parametrize("url", ["", "https://proxy", "https://:1", "https://proxy:x"])
async def test_bad_proxy_urls(url: str) -> None:
    config = ClientConfig(verify_mode=ssl.CERT_NONE, proxy=ProxyConfig(url=url))
    with pytest.raises(ConfigurationError):
        await perform_proxy_handshake(config=config, target_host="a", target_port=1)


async def test_silent_proxy_times_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        config = ClientConfig(proxy=ProxyConfig(url=url, connect_timeout=0.2))
        with pytest.raises(asyncio.TimeoutError, match=r"proxy 127\.0\.0\.1:.* 0\.2 s"):
            await perform_proxy_handshake(config=config, target_host="a", target_port=1)
        async with WebTransportClient(config=config) as client:
            with pytest.raises(ConnectionError, match=r"the proxy .* within 0\.2 s"):
                await client.connect(url="https://example.org")
