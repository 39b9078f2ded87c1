"""Connections: how they begin, who is let in, and how they end."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pywebtransport._engine.base import Engine
from pywebtransport.config import ClientConfig
from pywebtransport.constants import CONGESTION_CONTROL_ALGORITHMS
from pywebtransport.exceptions import (
    CertificateError,
    ConfigurationError,
    ConnectionError,
    HandshakeError,
    TimeoutError,
)
from tests.support.certificate import Certificate, make_certificate

from .conftest import Connect, Listen
from .observer import Observer, Pair
from .test_sessions import ENDS, check_echo, other

MakeClient = Callable[..., ClientConfig]


@pytest.fixture
def encrypted_key(certificate: Certificate, paths: Path) -> str:
    key = serialization.load_pem_private_key(Path(certificate.keyfile).read_bytes(), None)
    encrypted = paths / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return str(encrypted)


async def test_both_ends_know_the_addresses(connect: Connect) -> None:
    pair = await connect()
    client, server = pair.client.connection, pair.server.connection
    assert client.is_client and not server.is_client
    assert client.remote_address == pair.listener.local_address
    assert server.remote_address == client.local_address
    assert server.local_address == pair.listener.local_address
    addresses = client.local_address, client.remote_address, server.remote_address
    assert None not in addresses
    client.close(code=0x100, reason="")
    await client.wait_closed()
    await server.wait_closed()
    await pair.listener.close()
    assert (client.local_address, client.remote_address, server.remote_address) == addresses
    assert server.local_address == addresses[1]


@pytest.mark.parametrize("end", ENDS)
async def test_close_carries_code_and_reason(connect: Connect, end: str) -> None:
    pair = await connect()
    pair.end(end).connection.close(code=0x1234, reason="enough")
    await pair.end(end).connection.wait_closed()
    near = await pair.end(end).closed_with()
    far = await pair.end(other(end)).closed_with()
    assert (near.code, near.reason, near.by) == (0x1234, "enough", "local")
    assert (far.code, far.reason, far.by, far.is_application) == (0x1234, "enough", "remote", True)


@pytest.mark.parametrize("end", ENDS)
async def test_close_lets_the_peer_see_the_end_of_its_sessions(connect: Connect, end: str) -> None:
    pair = await connect()
    session_id = await pair.session()
    pair.end(end).connection.close_session(session_id, code=7, reason="last words")
    pair.end(end).connection.close(code=0x100, reason="")
    told = await pair.end(other(end)).next("session_closed")
    assert told == (session_id, 7, "last words", "remote")
    assert (await pair.end(other(end)).closed_with()).by == "remote"


async def test_close_ends_open_sessions_with_its_code(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    pair.server.connection.close(code=3, reason="going")
    assert await pair.client.next("session_closed") == (session_id, 3, "going", "remote")


async def test_server_leaves_after_the_last_session(connect: Connect) -> None:
    """A browser drops its socket without CONNECTION_CLOSE."""
    pair = await connect()
    session_id = await pair.session()
    pair.client.connection.close_session(session_id, code=0, reason="")
    info = await pair.server.closed_with()
    assert (info.code, info.by) == (0x100, "local")


async def test_peer_that_vanishes_is_noticed(connect: Connect, engine: Engine) -> None:
    pair = await connect(
        server={"connection_idle_timeout": 1.0, "keep_alive": False},
        client={"keep_alive": False},
    )
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"x")
    await pair.server.next("stream_opened")
    # Nobody says anything any more, which is all that a vanished peer does.
    info = await pair.server.closed_with()
    assert (info.by, info.is_application) == ("transport", False)
    assert pair.server.of("session_closed")[0][3] == "transport"
    assert pair.server.of("stream_reset", stream_id) == [(stream_id, None)]


async def test_keep_alive_outlives_the_idle_timeout(connect: Connect) -> None:
    pair = await connect(
        connection_idle_timeout=1.0, connection_keepalive_timeout=0.3, keep_alive=True
    )
    session_id = await pair.session()
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(2.0):
            await pair.client.next("closed")
    await check_echo(pair, session_id)


async def test_refused_connection_is_told_at_once(
    engine: Engine, client_config: MakeClient
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    async with asyncio.timeout(2):
        with pytest.raises(ConnectionError, match=f"127.0.0.1:{port}"):
            await engine.connect(config=client_config(), host="127.0.0.1", port=port)


async def test_silent_peer_is_a_timeout(engine: Engine, client_config: MakeClient) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError) as caught:
            await engine.connect(
                config=client_config(connect_timeout=0.5),
                host="127.0.0.1",
                port=silent.getsockname()[1],
            )
    assert caught.value.timeout_duration == 0.5


async def test_unknown_host_is_told_at_once(engine: Engine, client_config: MakeClient) -> None:
    with pytest.raises(ConnectionError, match=r"name\.invalid"):
        await engine.connect(config=client_config(), host="name.invalid", port=1)


async def test_certificate_of_another_name_is_refused(
    engine: Engine, listen: Listen, client_config: MakeClient
) -> None:
    server = await listen()
    with pytest.raises(CertificateError):
        await engine.connect(
            config=client_config(),
            host="example.org",
            port=server.port,
            remote=("127.0.0.1", server.port),
        )


async def test_certificate_of_an_unknown_authority_is_refused(
    engine: Engine, listen: Listen, client_config: MakeClient
) -> None:
    server = await listen()
    for verify_mode in (None, ssl.CERT_REQUIRED):
        with pytest.raises(CertificateError):
            await engine.connect(
                config=client_config(ca_certs=None, verify_mode=verify_mode),
                host="127.0.0.1",
                port=server.port,
            )


async def test_verification_can_be_turned_off(
    engine: Engine, listen: Listen, client_config: MakeClient
) -> None:
    server = await listen()
    config = client_config(ca_certs=None, verify_mode=ssl.CERT_NONE)
    connection = await engine.connect(config=config, host="127.0.0.1", port=server.port)
    connection.close(code=0x100, reason="")
    await connection.wait_closed()


async def test_certificate_can_be_pinned_by_its_hash(
    engine: Engine, listen: Listen, client_config: MakeClient, certificate: Certificate
) -> None:
    server = await listen()
    config = client_config(ca_certs=None, server_certificate_hashes=[certificate.sha256])
    connection = await engine.connect(config=config, host="127.0.0.1", port=server.port)
    connection.close(code=0x100, reason="")
    await connection.wait_closed()
    wrong = client_config(ca_certs=None, server_certificate_hashes=[hashlib.sha256(b"").digest()])
    with pytest.raises(CertificateError):
        await engine.connect(config=wrong, host="127.0.0.1", port=server.port)


async def test_peer_without_http3_fails_the_handshake(
    engine: Engine, listen: Listen, client_config: MakeClient
) -> None:
    server = await listen(alpn_protocols=["hq-interop"])
    async with asyncio.timeout(3):
        with pytest.raises(HandshakeError):
            await engine.connect(config=client_config(), host="localhost", port=server.port)


@pytest.mark.parametrize("field", ["certfile", "keyfile"])
async def test_missing_certificate_file_is_named(listen: Listen, field: str, paths: Path) -> None:
    missing = str(paths / "missing.pem")
    with pytest.raises(CertificateError, match=r"missing\.pem"):
        await listen(**{field: missing})


@pytest.mark.parametrize("field", ["certfile", "keyfile"])
async def test_unusable_certificate_file_is_named(listen: Listen, field: str, paths: Path) -> None:
    broken = paths / "broken.pem"
    broken.write_text("-----BEGIN NOTHING-----\n")
    with pytest.raises(CertificateError, match=r"broken\.pem"):
        await listen(**{field: str(broken)})


async def test_key_of_another_certificate_is_refused(listen: Listen, paths: Path) -> None:
    with pytest.raises(CertificateError):
        await listen(keyfile=make_certificate(paths).keyfile)


async def test_port_in_use_is_told(
    engine: Engine, listen: Listen, server_config: MakeClient
) -> None:
    server = await listen()
    with pytest.raises(OSError, match=str(server.port)):
        await engine.listen(
            config=server_config(),  # type: ignore[arg-type]
            host="127.0.0.1",
            port=server.port,
            on_connection=lambda connection: None,
        )


async def test_connections_over_the_limit_are_refused_at_once(
    engine: Engine, listen: Listen, client_config: MakeClient
) -> None:
    server = await listen(max_connections=1)
    first = await engine.connect(config=client_config(), host="127.0.0.1", port=server.port)
    async with asyncio.timeout(2):
        with pytest.raises(ConnectionError):
            await engine.connect(config=client_config(), host="127.0.0.1", port=server.port)
    pair = Pair(Observer(first), await server.accepted.get(), server.listener)
    await check_echo(pair, await pair.session())
    first.close(code=0x100, reason="")
    await first.wait_closed()


async def test_reloaded_certificate_serves_new_connections(
    engine: Engine, connect: Connect, client_config: MakeClient, paths: Path
) -> None:
    pair = await connect()
    session_id = await pair.session()
    fresh = make_certificate(paths)
    pair.listener.reload_certificate(certfile=fresh.certfile, keyfile=fresh.keyfile)
    connection = await engine.connect(
        config=client_config(ca_certs=fresh.certfile),
        host="localhost",
        port=pair.listener.local_address[1],
        remote=pair.listener.local_address,
    )
    connection.close(code=0x100, reason="")
    await connection.wait_closed()
    await check_echo(pair, session_id)
    with pytest.raises(CertificateError):
        pair.listener.reload_certificate(certfile="missing.pem", keyfile=fresh.keyfile)


@pytest.mark.parametrize("algorithm", CONGESTION_CONTROL_ALGORITHMS)
async def test_congestion_control_can_be_chosen(
    connect: Connect, engine_name: str, algorithm: str
) -> None:
    if (engine_name, algorithm) == ("aioquic", "bbr"):
        with pytest.raises(ConfigurationError, match="cubic and reno"):
            await connect(congestion_control_algorithm=algorithm)
        return
    pair = await connect(congestion_control_algorithm=algorithm)
    stream_id = await pair.client.open(await pair.session(), True)
    sending = asyncio.ensure_future(pair.client.write(stream_id, bytes(1_000_000), fin=True))
    await pair.server.next("stream_opened")
    assert await pair.server.read_all(stream_id) == bytes(1_000_000)
    await sending


async def test_retry_validates_the_address(connect: Connect) -> None:
    pair = await connect(server={"retry": True})
    await check_echo(pair, await pair.session())


async def test_listener_closes_its_connections(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    await pair.listener.close()
    assert await pair.client.next("session_closed") == (session_id, 0, "", "remote")
    assert (await pair.client.closed_with()).by == "remote"


async def test_garbage_is_survived(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.connect(pair.listener.local_address)
        for first in (0x00, 0x40, 0x7F, 0x80, 0xC0, 0xFF):
            for size in (0, 1, 7, 8, 20, 1199, 1200, 1472):
                attacker.send((bytes([first]) + bytes(range(256)) * 6)[:size])
        await check_echo(pair, session_id)


async def test_unknown_version_is_answered_with_ours(connect: Connect) -> None:
    pair = await connect()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(pair.listener.local_address)
        packet = b"\xc0\x1a\x2a\x3a\x4a\x08" + b"d" * 8 + b"\x08" + b"s" * 8
        client.send(packet.ljust(1200, b"\0"))
        async with asyncio.timeout(2):
            answer = await asyncio.get_running_loop().sock_recv(client, 2048)
    # RFC 9000 §17.2.1: version 0, the ids swapped, then the versions.
    assert answer[0] & 0x80
    assert answer[1:23] == b"\0\0\0\0" + b"\x08" + b"s" * 8 + b"\x08" + b"d" * 8
    versions = {answer[at : at + 4] for at in range(23, len(answer), 4)}
    assert b"\0\0\0\1" in versions


async def test_exporter_agrees_on_both_ends(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    results = {
        (end.connection.export_keying_material(session_id, label, b"context", 32))
        for end in (pair.client, pair.server)
        for label in (b"one", b"two")
    }
    assert len(results) == 2
    assert all(len(result) == 32 for result in results)


async def test_key_log_has_the_secrets(
    connect: Connect, paths: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = paths / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    await connect()
    labels = {line.split()[0] for line in log.read_text().splitlines()}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels


async def test_stats_count(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    await check_echo(pair, session_id)
    for end in (pair.client, pair.server):
        stats = end.connection.stats()
        assert stats.packets_sent > 2
        assert stats.packets_received > 2
        assert stats.bytes_sent > 1200
        assert stats.bytes_received > 1200
        assert 0 < stats.rtt < 1
        assert stats.cwnd > 0


@pytest.mark.parametrize("end", ENDS)
async def test_bytes_are_in_flight_until_the_peer_has_them(connect: Connect, end: str) -> None:
    pair = await connect()
    session_id = await pair.session()
    near, far = pair.end(end), pair.end(other(end))
    stream_id = await near.open(session_id, True)
    assert near.connection.stream_write(stream_id, bytes(100_000), True) == 100_000
    async with asyncio.timeout(5):
        while (stats := near.connection.stats()).bytes_in_flight < 1200:
            assert stats.cwnd > 0
            await asyncio.sleep(0)
        await far.next("stream_opened")
        assert len(await far.read_all(stream_id)) == 100_000
        while (stats := near.connection.stats()).bytes_in_flight:
            assert stats.bytes_sent > 100_000
            await asyncio.sleep(0)


async def test_encrypted_client_key_is_refused_by_name(
    engine: Engine,
    client_config: MakeClient,
    certificate: Certificate,
    encrypted_key: str,
) -> None:
    config = client_config(certfile=certificate.certfile, keyfile=encrypted_key)
    with pytest.raises(CertificateError, match=r"encrypted\.pem"):
        await engine.connect(config=config, host="127.0.0.1", port=1)
