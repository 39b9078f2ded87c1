"""Sessions of one client that share a connection, when it is asked for (`allow_pooling`)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import ClientError, ConfigurationError
from pywebtransport.session import WebTransportSession
from pywebtransport.types import ConnectionState, EventType, SessionState
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import RawServer

from .conftest import MakeSite
from .site import Site, within

SHARING: dict[str, Any] = {"client": {"allow_pooling": True}}
SERVER = h3.SETTINGS_OF["15"] | {h3.ENABLE_CONNECT_PROTOCOL: 1}
ONE_SESSION = SERVER
SEVERAL = SERVER | dict.fromkeys(
    (h3.WT_INITIAL_MAX_DATA, h3.WT_INITIAL_MAX_STREAMS_UNI, h3.WT_INITIAL_MAX_STREAMS_BIDI), 1 << 20
)


async def connect(site: Site, path: str = "", **options: Any) -> WebTransportSession:
    session = await site.client.connect(url=site.url + path, **options)
    await within(site.sessions.get())
    return session


async def test_sessions_of_an_origin_share_a_connection(site: MakeSite) -> None:
    running = await site(**SHARING)
    first = await connect(running, "a", headers={"x-who": "first"})
    second = await connect(running, "b", headers={"x-who": "second"})
    assert second.connection is first.connection
    assert (first.path, second.path) == ("/a", "/b")
    assert second.headers["x-who"] == "second"


async def test_nobody_shares_unless_asked(site: MakeSite) -> None:
    running = await site()
    assert (await connect(running)).connection is not (await connect(running)).connection


async def test_those_that_come_at_once_wait_for_one_connection(site: MakeSite) -> None:
    running = await site(**SHARING)
    sessions = await asyncio.gather(*(connect(running, f"{i}") for i in range(8)))
    assert len({id(session.connection) for session in sessions}) == 1
    assert len({session.session_id for session in sessions}) == 8


async def test_the_connection_ends_with_its_last_session(site: MakeSite) -> None:
    running = await site(**SHARING)
    first, second = await connect(running), await connect(running)
    connection = first.connection
    await first.close()
    assert connection.state == ConnectionState.CONNECTED
    third = await connect(running)
    assert third.connection is connection
    await second.close()
    await third.close()
    await within(connection.wait_closed())
    fourth = await connect(running)
    assert fourth.connection is not connection


async def test_sessions_that_the_server_ends_end_the_connection(site: MakeSite) -> None:
    running = await site(**SHARING)
    client = await running.client.connect(url=running.url)
    server = await within(running.sessions.get())
    await server.close(code=3, reason="over", close_connection=False)
    await within(client.connection.wait_closed())


async def test_a_draining_connection_is_not_shared(site: MakeSite) -> None:
    running = await site(**SHARING)
    first = await running.client.connect(url=running.url)
    server = await within(running.sessions.get())
    server.connection._begin_drain()
    await within(first.wait_for(event_type=EventType.SESSION_DRAINING))
    assert first.state == SessionState.DRAINING
    second = await connect(running)
    assert second.connection is not first.connection
    assert first.connection.state == ConnectionState.CONNECTED


async def test_finding_a_connection_looks_at_none_of_its_sessions(
    site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each of 10,000 sessions would cost more than the one before."""
    running = await site(**SHARING)
    looks = 0
    state = WebTransportSession.state
    assert isinstance(state, property) and state.fget is not None
    read = state.fget

    def counted(session: WebTransportSession) -> Any:
        nonlocal looks
        looks += 1
        return read(session)

    monkeypatch.setattr(WebTransportSession, "state", property(counted))
    costs = []
    for _ in range(8):
        before = looks
        await connect(running)
        costs.append(looks - before)
    assert costs[7] == costs[1]


async def test_where_one_session_is_allowed_each_has_its_connection(
    engine: str, certificate: Certificate
) -> None:
    """By SETTINGS: nothing is asked of the server in vain."""
    async with RawServer(certificate) as server, sharing(engine, certificate) as client:
        sessions = []
        for number in range(2):
            task = asyncio.ensure_future(client.connect(url=f"https://127.0.0.1:{server.port}/"))
            peer = await server.accept()
            peer.send(peer.open(unidirectional=True), h3.control_stream(ONE_SESSION))
            session_id, _ = await peer.request()
            peer.send(session_id, h3.response_frame(200))
            sessions.append(await within(task))
            assert len(server.peers) == number + 1
            assert server.peers[0].uni(h3.CONTROL)
        asked = [
            [i for i in peer.streams if peer.streams[i].data[:1] == b"\1"] for peer in server.peers
        ]
        assert asked == [[0], [0]]


async def test_a_full_connection_makes_way_for_another(
    engine: str, certificate: Certificate
) -> None:
    """The server resets the second request with H3_REQUEST_REJECTED."""
    async with RawServer(certificate) as server, sharing(engine, certificate) as client:
        url = f"https://127.0.0.1:{server.port}/"
        task = asyncio.ensure_future(client.connect(url=url))
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), h3.control_stream(SEVERAL))
        peer.send((await peer.request())[0], h3.response_frame(200))
        first = await within(task)

        task = asyncio.ensure_future(client.connect(url=url))
        refused, _ = await peer.request()
        peer.reset(refused, 0x10B)
        other = await server.accept()
        other.send(other.open(unidirectional=True), h3.control_stream(SEVERAL))
        other.send((await other.request())[0], h3.response_frame(200))
        second = await within(task)
        assert second.connection is not first.connection
        assert first.is_ready


async def test_an_answer_is_no_reason_to_ask_elsewhere(
    engine: str, certificate: Certificate
) -> None:
    async with RawServer(certificate) as server, sharing(engine, certificate) as client:
        url = f"https://127.0.0.1:{server.port}/"
        task = asyncio.ensure_future(client.connect(url=url))
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), h3.control_stream(SEVERAL))
        peer.send((await peer.request())[0], h3.response_frame(200))
        await within(task)
        task = asyncio.ensure_future(client.connect(url=url))
        peer.send((await peer.request())[0], h3.response_frame(404), fin=True)
        with pytest.raises(ClientError, match="HTTP status 404"):
            await within(task)
        assert len(server.peers) == 1


def sharing(engine: str, certificate: Certificate) -> WebTransportClient:
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile, allow_pooling=True)
    return WebTransportClient(config=config)


def test_a_pinned_connection_is_not_shared() -> None:
    with pytest.raises(ConfigurationError, match="is not shared") as caught:
        ClientConfig(allow_pooling=True, server_certificate_hashes=["00" * 32])
    assert caught.value.config_key == "allow_pooling"
