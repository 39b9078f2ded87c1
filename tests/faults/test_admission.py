"""Who gets a place at a server: strangers without a proven address, neighbours, silent clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from pywebtransport._engine.addresses import network_of
from pywebtransport._engine.aioquic_admission import Admission
from pywebtransport._engine.base import EngineConnection, EngineListener
from pywebtransport._engine.select import get_engine
from pywebtransport.config import ServerConfig
from pywebtransport.constants import ErrorCodes
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate, make_certificate
from tests.support.raw_peer import PATIENCE, raw_client

CONNECTION_REFUSED = 0x02
Listen = Callable[..., Awaitable["Server"]]


class Server:
    listener: EngineListener

    def __init__(self) -> None:
        self.connections: list[EngineConnection] = []

    @property
    def port(self) -> int:
        return self.listener.local_address[1]


@pytest.fixture(params=["native", "aioquic"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def listen(engine: str, pair: Certificate) -> AsyncIterator[Listen]:
    async with AsyncExitStack() as stack:

        async def listen(host: str = "127.0.0.1", **options: Any) -> Server:
            config = ServerConfig(
                engine=engine,
                certfile=pair.certfile,
                keyfile=pair.keyfile,
                close_timeout=0.2,
                **options,
            )
            server = Server()
            server.listener = await get_engine(config).listen(
                config=config, host=host, port=0, on_connection=server.connections.append
            )
            stack.push_async_callback(server.listener.close)
            return server

        yield listen


@asynccontextmanager
async def strangers(port: int, count: int) -> AsyncIterator[None]:
    """First packets whose senders answer nothing, as those of forged addresses."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            peer = await stack.enter_async_context(raw_client(port, handshake=False))
            peer.vanish()
        yield


async def test_first_packets_of_strangers_take_no_place(listen: Listen) -> None:
    server = await listen(max_connections=50)
    async with strangers(server.port, 60), raw_client(server.port) as peer:
        assert peer.is_connected
        assert peer.closed is None


async def test_every_place_is_for_clients_that_are_there(listen: Listen) -> None:
    """At the limit and one past it, strangers or not."""
    server = await listen(max_connections=4)
    async with strangers(server.port, 10), AsyncExitStack() as stack:
        for _ in range(4):
            peer = await stack.enter_async_context(raw_client(server.port))
            assert peer.is_connected
        async with raw_client(server.port) as late:
            assert (await late.wait_closed()).code == CONNECTION_REFUSED
    assert len(server.connections) == 4


async def test_an_address_has_places_of_its_own(listen: Listen) -> None:
    server = await listen(host="", max_connections_per_address=2)
    async with raw_client(server.port) as first, raw_client(server.port):
        async with raw_client(server.port) as third:
            assert (await third.wait_closed()).code == CONNECTION_REFUSED
        async with raw_client(server.port, host="::1") as neighbour:
            assert neighbour.is_connected
        first.close()
        first.flush()
        async with asyncio.timeout(PATIENCE):
            while not await is_let_in(server.port):
                pass  # until the draining period of the first is over


async def is_let_in(port: int) -> bool:
    async with raw_client(port) as peer:
        return peer.closed is None


async def test_a_client_that_asks_for_nothing_is_sent_away(listen: Listen) -> None:
    server = await listen(first_session_timeout=0.3)
    async with raw_client(server.port) as idle, raw_client(server.port) as busy:
        for peer in (idle, busy):
            peer.send(peer.open(unidirectional=True), h3.control_stream(h3.SETTINGS_OF["15"]))
        busy.send(busy.open(), h3.connect_frame(token="webtransport-h3"))
        closed = await idle.wait_closed()
        assert (closed.code, closed.is_application) == (ErrorCodes.H3_NO_ERROR, True)
        assert closed.reason == "no session was requested within 0.3 s"
        assert busy.closed is None


def test_strangers_are_few_and_count_when_they_arrive() -> None:
    admission = Admission(max_connections=8, max_per_address=None, always_retry=False)
    for member in range(2):
        assert not admission.must_prove_address
        admission.enter(member, "192.0.2.1", is_proven=False)
    assert admission.must_prove_address
    for member in range(2, 10):
        assert admission.has_place("192.0.2.1")
        admission.enter(member, "192.0.2.1", is_proven=True)
    assert not admission.has_place("192.0.2.1")
    assert not admission.establish(0, "192.0.2.1"), "its place is taken"
    admission.leave(0)
    admission.leave(2)
    assert admission.establish(1, "192.0.2.1")


def test_an_ipv6_network_counts_as_one_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1:2:3")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8:0:2::1")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") != network_of("192.0.2.2")
    admission = Admission(max_connections=9, max_per_address=1, always_retry=False)
    admission.enter(0, "2001:db8::1", is_proven=True)
    assert not admission.has_place("2001:db8::2")
    admission.leave(0)
    assert admission.has_place("2001:db8::2")
