"""Nobody there, somebody else there, files and ports that cannot be used: what connecting says."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import pytest
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration

from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportServer
from pywebtransport.exceptions import CertificateError, ConnectionError, ServerError

from .conftest import Lab, free_port
from .relay import Path, relay_to
from .test_paths import blob, exchange


def client_of(engine: str) -> WebTransportClient:
    return WebTransportClient(config=ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE))


async def refusal(engine: str, port: int, timeout: float) -> tuple[ConnectionError, float]:
    """How a connection to this port fails, and after how many seconds."""
    loop = asyncio.get_running_loop()
    async with client_of(engine) as client:
        started = loop.time()
        with pytest.raises(ConnectionError) as caught:
            await client.connect(url=f"https://127.0.0.1:{port}/", timeout=timeout)
        took = loop.time() - started
    print(f"{engine}: {caught.value} after {took:.3f} s")
    return caught.value, took


async def test_closed_port_is_told_at_once(engine: str) -> None:
    error, took = await refusal(engine, port := free_port(), 10)
    assert took < 5, "waits for the timeout"
    assert str(port) in str(error)


async def test_packets_that_cannot_leave_are_told_at_once(engine: str) -> None:
    """No system lets a socket broadcast that has not asked for it."""
    loop = asyncio.get_running_loop()
    async with client_of(engine) as client:
        started = loop.time()
        with pytest.raises(ConnectionError, match="Permission denied"):
            await client.connect(url="https://255.255.255.255/", timeout=10)
        assert loop.time() - started < 5, "waits for the timeout"


async def test_silence_is_told_after_the_timeout(engine: str) -> None:
    async with relay_to(("127.0.0.1", free_port()), Path()) as relay:
        relay.blackhole = True
        _, took = await refusal(engine, relay.address[1], 0.5)
    assert 0.4 < took < 2


async def test_server_is_reached_when_the_silence_ends(lab: Lab) -> None:
    async with lab.serve(), relay_to(lab.address, Path()) as relay, client_of(lab.engine) as client:
        relay.blackhole = True
        url = f"https://127.0.0.1:{relay.address[1]}/lab"
        task = asyncio.ensure_future(client.connect(url=url, timeout=20))
        # The first flight is lost, and what follows it for a while.
        await asyncio.sleep(0.5)
        assert not task.done()
        relay.blackhole = False
        await exchange(await task, b"late")


async def test_a_server_sees_no_ping_before_the_client_hello(
    engine: str, certificate: tuple[str, str]
) -> None:
    """aioquic refuses what begins so; the silence ends when the next PING could be due."""
    lab = Lab("aioquic", certificate)
    async with lab.serve(), relay_to(lab.address, Path()) as relay, client_of(engine) as client:
        relay.blackhole = True
        url = f"https://127.0.0.1:{relay.address[1]}/lab"
        task = asyncio.ensure_future(client.connect(url=url, timeout=20))
        await asyncio.sleep(1.45)
        relay.blackhole = False
        await exchange(await task, b"late")


Answer = Callable[[bytes], list[bytes]]
NOISE = random.Random(11)


def version_negotiation(packet: bytes, versions: bytes) -> bytes:
    """RFC 9000 §17.2.1, with the connection ids of a client's first packet."""
    destination = packet[6 : 6 + packet[5]]
    at = 6 + packet[5]
    source = packet[at + 1 : at + 1 + packet[at]]
    ids = bytes([len(source)]) + source + bytes([len(destination)]) + destination
    return b"\x80" + bytes(4) + ids + versions


STRANGERS: dict[str, Answer] = {
    "garbage": lambda packet: [NOISE.randbytes(size) for size in (1, 20, 1200, 9000)],
    "echo": lambda packet: [packet],
    "truncated": lambda packet: [packet[:size] for size in (0, 1, 6, 20, 1199)],
    "coalesced": lambda packet: [packet + packet, packet[:600] * 2],
    "other-versions": lambda packet: [version_negotiation(packet, b"\xff\x00\x00\x01")],
    "own-version": lambda packet: [version_negotiation(packet, packet[1:5])],
    "no-versions": lambda packet: [version_negotiation(packet, b"")],
}


@asynccontextmanager
async def stranger(answer: Answer) -> AsyncIterator[int]:
    """A UDP socket that answers each packet with something."""

    class Protocol(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            for packet in answer(data):
                self.transport.sendto(packet, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@pytest.mark.parametrize("name", STRANGERS)
async def test_stranger_is_no_server(engine: str, name: str) -> None:
    async with stranger(STRANGERS[name]) as port:
        _, took = await refusal(engine, port, 0.5)
    assert took < 2


@pytest.mark.parametrize("alpn", ["hq-interop", "h3"])
async def test_quic_server_without_http3(
    engine: str, certificate: tuple[str, str], alpn: str
) -> None:
    """One that agrees on no protocol, and one that promises HTTP/3 and never speaks it."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[alpn])
    configuration.load_cert_chain(*certificate)
    server = await serve(
        "127.0.0.1",
        port := free_port(),
        configuration=configuration,
        create_protocol=QuicConnectionProtocol,
        # Without a handler aioquic makes writers that warn when nobody closes them.
        stream_handler=lambda reader, writer: writer.close(),
    )
    try:
        _, took = await refusal(engine, port, 0.7)
    finally:
        server.close()
    assert took < 2
    if alpn != "h3":
        assert took < 0.5, "TLS has told at once"


async def test_port_in_use(engine: str, certificate: tuple[str, str]) -> None:
    config = ServerConfig(engine=engine, certfile=certificate[0], keyfile=certificate[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with WebTransportServer(config=config) as server:
            with pytest.raises(ServerError, match=f"127.0.0.1:{port}"):
                await server.listen(host="127.0.0.1", port=port)
            taken.close()
            await server.listen(host="127.0.0.1", port=port)
            assert server.is_serving


@pytest.fixture
def gone(certificate: tuple[str, str], tmp_path: FilePath) -> FilePath:
    path = tmp_path / "gone.pem"
    path.write_bytes(FilePath(certificate[0]).read_bytes())
    return path


async def test_missing_and_broken_certificates(
    engine: str, certificate: tuple[str, str], tmp_path: FilePath, gone: FilePath
) -> None:
    with pytest.raises(CertificateError, match="nowhere"):
        ServerConfig(engine=engine, certfile="nowhere.pem", keyfile=certificate[1])
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for certfile, keyfile in ((str(broken), certificate[1]), (certificate[0], str(broken))):
        config = ServerConfig(engine=engine, certfile=certfile, keyfile=keyfile)
        async with WebTransportServer(config=config) as server:
            with pytest.raises(ServerError):
                await server.listen(host="127.0.0.1", port=free_port())
            assert not server.is_serving
    config = ServerConfig(engine=engine, certfile=str(gone), keyfile=certificate[1])
    os.unlink(gone)
    async with WebTransportServer(config=config) as server:
        with pytest.raises(ServerError, match=r"gone\.pem"):
            await server.listen(host="127.0.0.1", port=free_port())


@pytest.mark.parametrize("kind", ["full", "missing-folder", "good"])
async def test_key_log(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: FilePath, kind: str
) -> None:
    """A key log that cannot be written never stands in the way of a connection."""
    log = {"full": FilePath("/dev/full"), "missing-folder": tmp_path / "no" / "log"}.get(
        kind, tmp_path / "log"
    )
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    async with lab.serve() as server, server.client(Path()) as (session, _):
        await exchange(session, blob(10_000, 5))
    if kind == "good":
        assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()
