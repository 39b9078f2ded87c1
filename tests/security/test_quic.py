"""QUIC frames that only an attacker sends, in packets that are encrypted as they should be."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import pytest
from aioquic.quic.connection import EPOCHS

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import WebTransportError
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_initial import destination_of, initial, source_of
from tests.support.raw_peer import RawPeer

from .conftest import Serve
from .target import MIB, Attacker
from .vectors import vector

PING, ACK, RETIRE_CONNECTION_ID, PATH_CHALLENGE, NEW_CONNECTION_ID, CRYPTO = (
    *(0x01, 0x02, 0x19, 0x1A, 0x18, 0x06),
)
HANDSHAKE_DONE = b"\x1e"
STREAM_WITH_OFFSET = 0x0E
PROTOCOL_VIOLATION = 0x0A
CRYPTO_BUFFER_EXCEEDED = 0x0D


def deaf(peer: RawPeer, frame_type: int) -> None:
    """The peer reads frames of one varint and thinks nothing of them."""
    handlers = cast(dict[int, Any], peer.quic.__dict__["_QuicConnection__frame_handlers"])
    handlers[frame_type] = (lambda context, kind, buf: buf.pull_uint_var(), EPOCHS("01"))


async def flood(attacker: Attacker, payloads: list[bytes]) -> None:
    """Packets of these frames, until the server has had enough."""
    for at, payload in enumerate(payloads):
        attacker.peer.frames(payload)
        if at % 20 == 19 and not await attacker.pause():
            return


@vector("CVE-2023-49295")
async def test_path_challenges(serve: Serve) -> None:
    """24,000 PATH_CHALLENGE frames in 200 packets. Memory: 6 MiB. Processor: 3 s."""
    target = await serve()
    async with target.attacker() as attacker:
        await attacker.session()
        challenges = [
            b"".join(bytes([PATH_CHALLENGE]) + os.urandom(8) for _ in range(120))
            for _ in range(200)
        ]
        async with target.bounded(memory=6 * MIB, cpu=3):
            await flood(attacker, challenges)


@vector("CVE-2024-22189", "CVE-2024-1410", "CVE-2025-7054")
async def test_connection_ids_that_retire_each_other(serve: Serve) -> None:
    """4,000 NEW_CONNECTION_ID, each retiring all before it, to a server whose answers are never
    acknowledged. Memory: 6 MiB. Processor: 3 s."""
    target = await serve()
    async with target.attacker() as attacker:
        await attacker.session()
        deaf(attacker.peer, RETIRE_CONNECTION_ID)
        number = 100
        packets = []
        for _ in range(200):
            packet = b""
            for _ in range(20):
                number += 1
                ids = h3.varint(number) * 2 + b"\x08" + os.urandom(8)
                packet += bytes([NEW_CONNECTION_ID]) + ids + os.urandom(16)
            packets.append(packet)
        async with target.bounded(memory=6 * MIB, cpu=3):
            for packet in packets:
                attacker.peer.frames(packet)
                attacker.peer.flush()
                await asyncio.sleep(0)
            # Nothing of what the server says is read from here on.
            await asyncio.sleep(0.2)


@vector("CVE-2025-4820", "CVE-2025-4821")
async def test_acks_for_packets_never_sent(serve: Serve) -> None:
    """Acknowledging the future ends the connection with PROTOCOL_VIOLATION (RFC 9000 §13.1), or
    counts for nothing. Memory: 24 MiB, though a gibibyte waits to be sent. Processor: 3 s."""
    target = await serve()
    async with (
        target.bounded(memory=24 * MIB, cpu=3),
        target.attacker(gives_credit=False, max_data=200_000) as attacker,
    ):
        await attacker.session("/pour")
        for largest in range(10_000, 10_100):
            ack = h3.varint(largest) + h3.varint(0) + h3.varint(0) + h3.varint(largest)
            attacker.peer.frames(bytes([ACK]) + ack)
            attacker.peer.flush()
            await asyncio.sleep(0)
        if not await attacker.pause():
            assert attacker.peer.closed is not None
            assert attacker.peer.closed.code == PROTOCOL_VIOLATION, attacker.peer.closed


@vector("aioquic-549")
async def test_packet_numbers_with_gaps(serve: Serve) -> None:
    """4,000 packets, every second number: the ranges to acknowledge never fit into a packet, and
    the server goes on. Memory: 6 MiB. Processor: 8 s."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session("/echo")
        async with target.bounded(memory=6 * MIB, cpu=8):
            for at in range(4_000):
                attacker.peer.frames(bytes([PING]))
                attacker.peer.flush()
                attacker.peer.quic._packet_number += 1
                if at % 100 == 0:
                    await asyncio.sleep(0)
            assert await attacker.pause()
        stream = attacker.bidi(h3.bidi_header(session) + b"still here", fin=True)
        await attacker.peer.until(lambda: attacker.peer.streams[stream].fin)


@vector("stream gaps")
async def test_every_second_byte_of_a_stream(serve: Serve) -> None:
    """20,000 frames of one byte, none beside another: more than 1,024 pieces of a stream that wait
    for others end the connection. Memory: 12 MiB. Processor: 8 s."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session()
        stream = attacker.bidi(h3.bidi_header(session))
        await attacker.taken(stream)
        packets = [
            b"".join(
                bytes([STREAM_WITH_OFFSET])
                + h3.varint(stream)
                + h3.varint(1_000 + 2 * (100 * packet + at))
                + b"\x01x"
                for at in range(100)
            )
            for packet in range(200)
        ]
        async with target.bounded(memory=12 * MIB, cpu=8):
            await flood(attacker, packets)
        print(f"{target.engine}: {attacker.peer.closed}")
        assert attacker.peer.closed is not None


@vector("aioquic-501")
async def test_crypto_data_far_away(serve: Serve) -> None:
    """CRYPTO frames at 4 KiB, 1 MiB, 1 GiB and beyond, 100 bytes each: CRYPTO_BUFFER_EXCEEDED at
    the latest past what a server buffers. Memory: 6 MiB. Processor: 3 s."""
    target = await serve()
    async with target.bounded(memory=6 * MIB, cpu=3):
        for start in (4 << 10, 1 << 20, 1 << 30):
            async with target.attacker() as attacker:
                await attacker.session()
                frames = [
                    bytes([CRYPTO]) + h3.varint(start + 200 * at) + h3.varint(100) + bytes(100)
                    for at in range(2_000)
                ]
                packets = [b"".join(frames[at : at + 9]) for at in range(0, len(frames), 9)]
                await flood(attacker, packets)
                if attacker.peer.closed is not None:
                    assert attacker.peer.closed.code == CRYPTO_BUFFER_EXCEEDED


@vector("CVE-2025-59530")
async def test_handshake_done_before_the_handshake(engine: str, certificate: Certificate) -> None:
    """Our client gets it in the server's first packet: the connection fails, at once or when its
    time is over, and the client goes on. Time: 3 s."""

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            if data[0] & 0xF0 == 0xC0:
                answer = initial(
                    source_of(data), HANDSHAKE_DONE, by_server=True, key_id=destination_of(data)
                )
                self.transport.sendto(answer, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile, connect_timeout=1)
    try:
        async with asyncio.timeout(3), WebTransportClient(config=config) as client:
            for _ in range(2):
                with pytest.raises(WebTransportError):
                    await client.connect(url=f"https://127.0.0.1:{port}/")
    finally:
        transport.close()
