"""What anybody can send who has not even shaken hands."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port
from tests.support.raw_initial import (
    crypto_frame,
    frames_of,
    initial,
    random_id,
    source_of,
)
from tests.support.raw_peer import PATIENCE, RawPeer, raw_client

from .conftest import Serve
from .target import MIB, Target
from .vectors import vector

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
"""Of Linux; Python has no names for them."""


@contextmanager
def stranger(port: int) -> Iterator[socket.socket]:
    """A socket that says anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        sender.setblocking(False)
        yield sender


async def flood(sender: socket.socket, packets: list[bytes]) -> None:
    """All of them, no faster than a socket's buffer is read."""
    for at, packet in enumerate(packets):
        try:
            sender.send(packet)
        except OSError:
            await asyncio.sleep(0.001)
        if at % 20 == 19:
            await asyncio.sleep(0.001)


async def first_flight() -> tuple[bytes, bytes]:
    """The source id and the frames of a real client's first packet."""
    sent: asyncio.Queue[bytes] = asyncio.Queue()

    class Catch(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            sent.put_nowait(data)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Catch, local_addr=("127.0.0.1", 0))
    async with (
        raw_client(transport.get_extra_info("sockname")[1], handshake=False),
        asyncio.timeout(PATIENCE),
    ):
        first = await sent.get()
    transport.close()
    return source_of(first), frames_of(first)


@vector("CVE-2026-14456")
async def test_first_flights_without_end(serve: Serve) -> None:
    """3,000 good ClientHellos from one socket that answers nothing, to a server of at most 100
    connections. Memory: 24 MiB. Processor: 20 s."""
    target = await serve(max_connections=100)
    source, frames = await first_flight()
    packets = [initial(random_id(), frames, source_id=source) for _ in range(3_000)]
    with stranger(target.port) as sender:
        async with target.bounded(memory=24 * MIB, cpu=20):
            await flood(sender, packets)


@vector("CVE-2025-54939")
async def test_first_flights_with_garbage(serve: Serve) -> None:
    """3,500 datagrams, Initial packets that are cut, with garbage inside or behind, to a server of
    at most 100 connections. Memory: 12 MiB. Processor: 8 s."""
    target = await serve(max_connections=100)
    packets = []
    for _ in range(3_000):
        packet = bytearray(initial(random_id(), b"\x01"))
        # The length says less than there is: what follows is another packet, of nothing.
        packets.append(bytes(packet[:600]) + os.urandom(700))
    packets += [initial(random_id(), os.urandom(300)) + os.urandom(200) for _ in range(500)]
    with stranger(target.port) as sender:
        async with target.bounded(memory=12 * MIB, cpu=8):
            await flood(sender, packets)


@vector("aioquic-501")
async def test_handshake_data_far_away(serve: Serve) -> None:
    """2,000 Initial packets of one connection whose CRYPTO data has gaps, and 200 of others with
    a gap of a gigabyte, to a server of at most 100 connections. Memory: 12 MiB. Processor: 8 s."""
    target = await serve(max_connections=100)
    destination = random_id()
    packets = [
        initial(destination, crypto_frame(2_000 * at + 1, bytes(900)), number=at)
        for at in range(2_000)
    ]
    packets += [
        initial(random_id(), crypto_frame(1 << 30, bytes(900)), number=0) for _ in range(200)
    ]
    with stranger(target.port) as sender:
        async with target.bounded(memory=12 * MIB, cpu=8):
            await flood(sender, packets)


@vector("CVE-2026-31812")
async def test_transport_parameters_cut_short(serve: Serve) -> None:
    """Each parameter that is a number, with half a number in it: the handshake fails with
    TRANSPORT_PARAMETER_ERROR, the server goes on."""
    target = await serve()
    for number in (0x03, 0x0A, 0x0B, 0x0E, 0x20):
        for value in (b"", b"\x40", b"\xc0\0\0"):
            parameters = [(number, value)]
            async with raw_client(
                target.port, handshake=False, transport_parameters=parameters
            ) as peer:
                await peer.until(lambda peer=peer: peer.closed)
    assert await target.probe() < 1


@vector("CVE-2024-45311")
async def test_a_first_flight_again_after_retry(serve: Serve) -> None:
    """Every packet of a client comes twice, before and after its Retry; the handshake completes,
    and the server goes on."""
    target = await serve(retry=True)
    for _ in range(3):
        async with doubled(target) as peer:
            await peer.until(lambda peer=peer: peer.is_connected or peer.closed)
            assert peer.is_connected
    assert await target.probe() < 1


@asynccontextmanager
async def doubled(target: Target) -> AsyncIterator[RawPeer]:
    async with raw_client(target.port, handshake=False) as peer:
        send = peer._transmit

        def twice(data: bytes, address: Any) -> None:
            send(data, address)
            send(data, address)

        peer._transmit = twice
        yield peer


@vector("CVE-2026-11352")
async def test_empty_datagrams(serve: Serve) -> None:
    """20,000 UDP datagrams of no bytes. Memory: 4 MiB. Processor: 4 s. An echo: 1 s."""
    target = await serve()
    with stranger(target.port) as sender:
        async with target.bounded(memory=4 * MIB, cpu=4, stall=1):
            await flood(sender, [b""] * 20_000)


@vector("no request")
async def test_connections_that_ask_for_nothing(serve: Serve) -> None:
    """20 clients that keep their connections alive with PING and never ask for a session are
    disconnected after `first_session_timeout`. Memory: 8 MiB."""
    target = await serve(first_session_timeout=0.5)
    async with target.bounded(memory=8 * MIB, cpu=5):

        async def ping_only() -> None:
            async with target.attacker() as attacker:
                # A round trip takes a moment, so that these are some thousands.
                async with asyncio.timeout(5):
                    while await attacker.pause():
                        pass

        await asyncio.gather(*(ping_only() for _ in range(20)))


def udp_from_port_0(port: int, payload: bytes) -> bytes:
    """An IPv4 packet; the kernel fills in its checksum, UDP's 0 says that there is none."""
    udp = struct.pack("!HHHH", 0, port, 8 + len(payload), 0) + payload
    total = 20 + len(udp)
    local = socket.inet_aton("127.0.0.1")
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0, 64, 17, 0, local, local) + udp


@vector("port 0")
async def test_packets_from_port_0(serve: Serve) -> None:
    """2,000 first packets that cannot be answered. Memory: 12 MiB. Processor: 5 s. Writing such a
    packet needs a raw socket, and that the privilege; without it nobody here could send one."""
    target = await serve()
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, pytest.raises(OSError):
            plain.sendto(b"", ("127.0.0.1", 0))
        return
    # A version nobody speaks: the server would answer with those it does.
    unknown = bytes([0xC3]) + b"\x1a\x2a\x3a\x4a" + bytes([8]) + random_id() + bytes(1_200)
    source, frames = await first_flight()
    with raw:
        async with target.bounded(memory=12 * MIB, cpu=5, stall=1):
            for at in range(2_000):
                good = at % 20 == 0
                packet = initial(random_id(), frames, source_id=source) if good else unknown
                raw.sendto(udp_from_port_0(target.port, packet), ("127.0.0.1", 0))
                if at % 20 == 19:
                    await asyncio.sleep(0.001)


def udp_sockets(port: int) -> list[socket.socket]:
    """Copies of this process's UDP sockets on a port."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            copy = socket.socket(fileno=os.dup(int(name)))
            if copy.type == socket.SOCK_DGRAM and copy.getsockname()[1] == port:
                found.append(copy)
            else:
                copy.close()
    return found


@vector("CVE-2024-53259")
async def test_path_mtu_is_not_what_icmp_says(engine: str, certificate: Certificate) -> None:
    """Whoever can guess a port can forge a packet-too-big. The kernel is told to leave packet
    sizes to QUIC's own probes (RFC 8899) and to ignore what ICMP says of them."""
    site = ServerApp(
        config=ServerConfig(
            engine=engine,
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            bind_host="127.0.0.1",
            bind_port=free_port(),
        )
    )
    async with site:
        await site.server.listen()
        address = site.server.local_address
        assert address is not None
        sockets = udp_sockets(address[1])
        assert sockets
        for copy in sockets:
            with copy:
                assert copy.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_PROBE
