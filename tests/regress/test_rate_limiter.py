"""The rate limiter says 429 and when to come back, counts networks, and cannot be washed out."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ClientError, MiddlewareRejected
from pywebtransport.server import create_rate_limit_middleware
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port


class Request:
    def __init__(self, host: str) -> None:
        self.remote_address = (host, 1)


async def is_let_on(limiter: Any, host: str) -> bool:
    try:
        return bool(await limiter(session=Request(host)))
    except MiddlewareRejected as rejected:
        assert rejected.status_code == 429
        return False


@pytest.mark.parametrize(
    ("hosts", "others"),
    [
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"], ["2001:db8:0:1::1"]),
        (["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], ["192.0.2.2", "::ffff:192.0.2.3"]),
        (["fe80::1%eth0", "fe80::2%eth0", "fe80::3"], ["fe80:0:0:1::1"]),
        (["unix", "unix", "unix"], ["pipe"]),
    ],
)
async def test_who_is_one_client(hosts: list[str], others: list[str]) -> None:
    async with create_rate_limit_middleware(max_requests=2) as limiter:
        assert [await is_let_on(limiter, host) for host in hosts] == [True, True, False]
        for other in others:
            assert await is_let_on(limiter, other)


async def test_strangers_do_not_wash_a_refusal_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    async with create_rate_limit_middleware(
        max_requests=1, window_seconds=60, max_tracked_ips=3
    ) as limiter:
        assert [await is_let_on(limiter, "192.0.2.1") for _ in range(2)] == [True, False]
        for number in range(10):
            assert await is_let_on(limiter, f"198.51.100.{number}")
        assert not await is_let_on(limiter, "192.0.2.1")
        assert len(limiter._requests) + len(limiter._refused) == 3
        for number in (8, 9):
            assert not await is_let_on(limiter, f"198.51.100.{number}")
        assert await is_let_on(limiter, "203.0.113.1"), "all that are remembered are refused"
        assert len(limiter._requests) + len(limiter._refused) == 3
        now += 61
        assert [await is_let_on(limiter, "192.0.2.1") for _ in range(2)] == [True, False]


async def test_refusals_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with create_rate_limit_middleware(max_requests=1) as limiter:
        for _ in range(100):
            await is_let_on(limiter, "192.0.2.1")
    assert len(caplog.records) == 1


async def test_the_answer_says_when_to_come_back(engine: str, certificate: Certificate) -> None:
    port = free_port()
    app = ServerApp(
        config=ServerConfig(
            engine=engine,
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            bind_host="127.0.0.1",
            bind_port=port,
        )
    )
    app.add_middleware(middleware=create_rate_limit_middleware(max_requests=1))

    @app.route(path="/")
    async def serve(session: WebTransportSession) -> None:
        await session.wait_closed()

    config = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with app, WebTransportClient(config=config) as client:
        await app.server.listen()
        url = f"https://127.0.0.1:{port}/"
        assert (await client.connect(url=url)).is_ready
        with pytest.raises(ClientError, match="HTTP status 429"):
            await client.connect(url=url)
