"""What both engines must agree on."""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pywebtransport._engine import addresses, rules
from pywebtransport._engine.addresses import SocketAddress, first_success
from pywebtransport._engine.base import Engine
from pywebtransport.config import ClientConfig
from pywebtransport.exceptions import CertificateError, ConnectionError, HandshakeError

from .conftest import Connect

PEER = ("192.0.2.1", 4433)


@pytest.mark.parametrize(
    ("max_connections", "expected"), [(1, 1), (3, 1), (50, 12), (4_000, 1_000), (10_000, 1_000)]
)
def test_retry_begins_at_a_quarter_of_the_connections(max_connections: int, expected: int):
    assert rules.retry_above(max_connections) == expected


@pytest.mark.parametrize(
    ("by", "code", "expected", "said"),
    [
        ("remote", 0x100 + 48, CertificateError, "does not accept our certificate"),
        ("transport", 0x100 + 48, CertificateError, "the certificate of 192.0.2.1:4433"),
        ("remote", 0x100 + 120, HandshakeError, "TLS handshake with 192.0.2.1:4433 failed"),
        ("transport", 0x100 + 255, HandshakeError, "TLS alert 255"),
    ],
)
def test_alerts(by: str, code: int, expected: type[Exception], said: str):
    error = rules.connect_error(PEER, code, "", by, "tls")
    assert type(error) is expected
    assert said in str(error)


def test_a_full_server_is_told_apart():
    error = rules.connect_error(PEER, 2, "", "remote", "quic")
    assert "takes no more connections" in str(error)


async def test_the_key_log_is_its_owners_and_is_announced_once(
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    path = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    with caplog.at_level(logging.WARNING):
        await connect()
        await connect()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "SERVER_TRAFFIC_SECRET_0" in path.read_text()
    said = [record for record in caplog.records if str(path) in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]


class Attempt:
    """A connection, or a failure, after a time."""

    def __init__(self) -> None:
        self.closed: list[int] = []

    def close(self, *, code: int, reason: str) -> None:
        self.closed.append(code)


def numbered(count: int) -> list[SocketAddress]:
    return [SocketAddress(socket.AF_INET, ("192.0.2.1", port)) for port in range(count)]


async def test_a_failed_address_makes_way_at_once():
    tried: list[int] = []

    async def attempt(address: SocketAddress) -> Attempt:
        tried.append(address.address[1])
        if len(tried) < 3:
            raise ConnectionError("nobody there")
        return Attempt()

    await first_success(attempt, numbered(5))
    assert tried == [0, 1, 2]


async def test_the_first_failure_is_told_when_all_fail():
    async def attempt(address: SocketAddress) -> Attempt:
        raise ConnectionError(f"not at {address.address[1]}")

    with pytest.raises(ConnectionError, match="not at 0"):
        await first_success(attempt, numbered(3))


async def test_a_slow_address_has_a_rival_and_is_cancelled():
    ended: list[str] = []

    async def attempt(address: SocketAddress) -> Attempt:
        if address.address[1] == 0:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("slow")
        return Attempt()

    await first_success(attempt, numbered(2))
    assert ended == ["slow"]


async def test_success_in_the_turn_of_a_cancellation_has_no_owner_and_is_closed():
    made: list[Attempt] = []
    go = asyncio.Event()

    async def attempt(address: SocketAddress) -> Attempt:
        await go.wait()
        made.append(Attempt())
        return made[-1]

    task = asyncio.ensure_future(first_success(attempt, numbered(2)))
    for _ in range(5):
        await asyncio.sleep(0)
    go.set()
    await asyncio.sleep(0)  # the attempt has succeeded, its caller does not know yet
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert [attempt.closed for attempt in made] == [[0x100]]


@pytest.mark.parametrize("host", ["", "*"])
@pytest.mark.parametrize("has_ipv6", [True, False])
async def test_every_address_is_one_socket(
    monkeypatch: pytest.MonkeyPatch, host: str, has_ipv6: bool
):
    monkeypatch.setattr(addresses, "_has_ipv6", lambda: has_ipv6)
    (only,) = await addresses.resolve_local(host, 4433)
    assert only.address[0] == ("::" if has_ipv6 else "0.0.0.0")


async def test_a_name_without_address_is_told_alike(
    engine: Engine, client_config: Callable[..., ClientConfig]
):
    with pytest.raises(ConnectionError, match=r"cannot resolve 'nowhere\.invalid': "):
        await engine.connect(config=client_config(), host="nowhere.invalid", port=1)


async def test_an_address_may_have_a_zone(
    engine: Engine, client_config: Callable[..., ClientConfig], server_config
):
    """That of the loopback interface, which every machine has."""
    host = f"::1%{socket.if_nametoindex('lo')}"
    (found,) = await addresses.resolve(host, 4433)
    assert (found.host, found.address[0]) == (host, "::1")
    listener = await engine.listen(
        config=server_config(), host=host, port=0, on_connection=lambda connection: None
    )
    try:
        connection = await engine.connect(
            config=client_config(),
            host="localhost",
            port=listener.local_address[1],
            remote=(host, listener.local_address[1]),
        )
        assert connection.remote_address is not None
        assert connection.remote_address[0] == "::1"
        connection.close(code=0x100, reason="")
        await connection.wait_closed()
    finally:
        await listener.close()


async def test_listening_on_every_address_reaches_ipv4(
    engine: Engine, client_config: Callable[..., ClientConfig], server_config
):
    listener = await engine.listen(
        config=server_config(), host="", port=0, on_connection=lambda connection: None
    )
    try:
        port = listener.local_address[1]
        connection = await engine.connect(
            config=client_config(), host="localhost", port=port, remote=("127.0.0.1", port)
        )
        connection.close(code=0, reason="")
        await connection.wait_closed()
    finally:
        await listener.close()
