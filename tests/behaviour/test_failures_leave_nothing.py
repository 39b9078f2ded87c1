"""Pools, load balancers and clients whose every attempt fails: the documented error, then nothing.

Nothing means no task, no socket, and no object of the library or of aioquic more than before.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.client import ClientFleet, ReconnectingClient, WebTransportBrowser
from pywebtransport.connection import ConnectionLoadBalancer, WebTransportConnection
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    SessionError,
)
from pywebtransport.pool import ConnectionPool, SessionPool, StreamPool
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.laboratory import free_port

from .conftest import MakeSite
from .site import Site, at_rest, within

ROUNDS = 5
SECONDS_TO_GO = 5
OURS = ("pywebtransport", "aioquic")


def existing() -> Counter[str]:
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    found = Counter(
        kind.__qualname__ for kind in kinds if str(kind.__module__).split(".")[0] in OURS
    )
    found["tasks"] = len(asyncio.all_tasks())
    found["files"] = len(os.listdir("/proc/self/fd"))
    # An emitter makes these when something is recorded, and the site's own are as many as before.
    for kind in ("Event", "EventHandler"):
        found.pop(kind, None)
    return found


async def leaves_nothing(attempt: Callable[[], Awaitable[Any]]) -> None:
    """The first attempt may load and fill what stays; the others may not.

    A server keeps a closed connection a moment for its last words, and a client its socket for the
    next connection, so what is left gets the time to go.
    """
    await attempt()
    settled = await at_rest(existing)
    for _ in range(ROUNDS):
        await attempt()
    try:
        async with asyncio.timeout(SECONDS_TO_GO):
            # Nobody announces what is freed.
            while left := existing() - settled:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"left after {ROUNDS} more attempts: {left}") from None


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield nobody.getsockname()[1]


@pytest.fixture(autouse=True)
def no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Records that pytest keeps would keep the exceptions in them."""
    caplog.set_level(logging.CRITICAL, "pywebtransport")


def port_of(site: Site) -> int:
    return int(site.url.rsplit(":", 1)[1].rstrip("/"))


@pytest.mark.parametrize("failure", ["refused", "silent", "untrusted", "unsendable"])
async def test_connection_pool_whose_factory_fails(site: MakeSite, failure: str) -> None:
    running = await site()
    config, error = running.client_config, ConnectionError
    port = port_of(running)
    async with silent() as nobody:
        if failure == "refused":
            port = free_port()
        elif failure == "silent":
            port, config = nobody, config.update(connect_timeout=0.1)
        elif failure == "untrusted":
            config = ClientConfig(engine=config.engine, connect_timeout=5.0)
        else:
            config, error = config.update(headers={"x": "a\r\nb"}), ConfigurationError

        async def attempt() -> None:
            async with ConnectionPool(
                config=config, host="127.0.0.1", port=port, max_size=2
            ) as pool:
                results = await asyncio.gather(
                    *(pool.acquire() for _ in range(4)), return_exceptions=True
                )
                assert [type(result) for result in results] == [error] * 4, results

        await within(leaves_nothing(attempt), 30)


async def test_session_pool_whose_sessions_are_refused(site: MakeSite) -> None:
    running = await site()

    async def nobody(session: Any) -> bool:
        return False

    running.app.add_middleware(middleware=nobody)

    async def attempt() -> None:
        async with SessionPool(client=running.client, url=running.url, max_size=1) as pool:
            for _ in range(2):
                with pytest.raises(ClientError, match="HTTP status 403"):
                    async with pool.get():
                        raise AssertionError("not reached")

    await within(leaves_nothing(attempt), 30)
    assert (await running.client.diagnostics()).connection_states == {}


async def test_sessions_that_the_server_ends_take_their_connections_along(site: MakeSite) -> None:
    """A server that keeps the connection: it is the client's to close."""
    running = await site()
    url = f"{running.url}kept"

    @running.app.route(path="/kept")
    async def kept(session: WebTransportSession) -> None:
        await session.close(close_connection=False)
        assert session.connection is not None
        await session.connection.wait_closed()

    async def attempt() -> None:
        async with SessionPool(client=running.client, url=url, max_size=1) as pool:
            for _ in range(2):
                async with pool.get() as session:
                    await session.wait_closed()
        async with WebTransportBrowser(client=running.client) as browser:
            for _ in range(2):
                await (await browser.navigate(url=url)).wait_closed()
        reconnecting = ReconnectingClient(url=url, client=running.client)
        lost: asyncio.Queue[Event] = asyncio.Queue()
        reconnecting.on(event_type=EventType.CONNECTION_LOST, handler=lost.put_nowait)
        async with reconnecting:
            for _ in range(2):
                await lost.get()

    await within(leaves_nothing(attempt), 30)
    assert (await running.client.diagnostics()).connection_states == {}


async def test_stream_pool_of_a_session_that_has_ended(site: MakeSite) -> None:
    pair = await (await site()).pair()
    manager = pair.client.stream_manager
    assert manager is not None
    pool = StreamPool(stream_manager=manager, max_size=2)
    async with pool.get() as stream:
        await stream.write(data=b"x")
    assert await pool.acquire() is stream
    assert len(manager) == 1
    await pair.client.close()
    await pool.release(stream)
    for _ in range(3):
        with pytest.raises(SessionError, match="closed"):
            await pool.acquire()
    await pool.close()


async def test_load_balancer_whose_targets_all_fail(site: MakeSite) -> None:
    config = (await site()).client_config

    async def check(**options: Any) -> bool:
        return False

    async def attempt() -> None:
        async with ConnectionLoadBalancer(
            targets=[("127.0.0.1", free_port()) for _ in range(3)],
            connection_factory=WebTransportConnection.create_client,
            health_checker=check,
            health_check_interval=0.001,
        ) as balancing:
            for _ in range(3):
                with pytest.raises(ConnectionError, match="refused"):
                    await balancing.get_connection(config=config)
            with pytest.raises(ConnectionError, match="all 3 targets have failed"):
                await balancing.get_connection(config=config)

    await within(leaves_nothing(attempt), 30)


async def test_load_balancer_shares_real_connections(site: MakeSite) -> None:
    running = await site()

    async def check(**options: Any) -> bool:
        return False

    async def attempt() -> None:
        async with ConnectionLoadBalancer(
            targets=[("127.0.0.1", port_of(running))],
            connection_factory=WebTransportConnection.create_client,
            health_checker=check,
        ) as balancing:
            get = balancing.get_connection
            first, second = await asyncio.gather(
                get(config=running.client_config), get(config=running.client_config)
            )
            assert first is second
            await first.wait_for_ready_session()
        assert first.is_closed
        await within(running.sessions.get())

    await within(leaves_nothing(attempt), 30)


async def test_fleet_and_reconnecting_client_that_reach_nobody(site: MakeSite) -> None:
    config = (await site()).client_config.update(max_retries=2, retry_delay=0.001)

    async def attempt() -> None:
        url = f"https://127.0.0.1:{free_port()}/"
        async with ClientFleet(clients=[WebTransportClient(config=config)] * 2) as fleet:
            assert await fleet.connect_all(url=url) == []
        async with WebTransportClient(config=config) as client:
            reconnecting = ReconnectingClient(url=url, client=client)
            failed = asyncio.create_task(
                reconnecting.wait_for(event_type=EventType.CONNECTION_FAILED)
            )
            async with reconnecting:
                await failed

    await within(leaves_nothing(attempt), 30)
