"""Datagrams by the thousand, and small things that must not keep large ones alive."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.support import raw_http3 as h3

from .conftest import Serve
from .target import MIB, Attacker
from .vectors import vector

UDP_SEGMENT = 103
"""Of Linux; Python has no name for it."""
PADDING = bytes(1_100)
TRAIN = 40


@vector("datagram flood")
async def test_datagrams_that_nobody_reads(serve: Serve) -> None:
    """10,000 of 1,000 bytes to a session that reads none: `max_incoming_datagrams` are kept, the
    oldest go. Memory: 8 MiB. Processor: 8 s."""
    target = await serve(max_incoming_datagrams=1_000)
    async with target.attacker() as attacker:
        session = await attacker.session()
        async with target.bounded(memory=8 * MIB, cpu=8):
            for _ in range(200):
                for _ in range(50):
                    attacker.peer.datagram(h3.datagram(session, bytes(1_000)))
                assert await attacker.pause()


async def in_a_train(attacker: Attacker, queue: Callable[[], None]) -> None:
    """What is queued leaves behind packets of padding, all of them in one train, which a receiver
    with GRO gets as one buffer of 45 kB."""
    peer = attacker.peer
    send, packets = peer._transmit, list[bytes]()
    peer._transmit = lambda data, _to: packets.append(data)
    # An attacker has no congestion control.
    peer.quic._loss._cc.congestion_window = 1 << 30
    for _ in range(TRAIN):
        peer.frames(PADDING)
    queue()
    peer.flush()
    peer._transmit = send
    assert len(packets) > TRAIN
    assert peer.socket is not None
    peer.socket.setsockopt(socket.SOL_UDP, UDP_SEGMENT, len(packets[0]))
    send(b"".join(packets), None)
    assert await attacker.pause()


@vector("small payloads")
async def test_small_datagrams_keep_nothing_large(serve: Serve) -> None:
    """150 datagrams of 16 bytes that wait to be read, each at the end of 45 kB: with those they
    would be 6.5 MiB. Memory: 4 MiB."""
    target = await serve(max_incoming_datagrams=1_000)
    async with target.attacker() as attacker:
        session = await attacker.session()
        async with target.bounded(memory=4 * MIB, cpu=5):
            for _ in range(150):
                data = h3.datagram(session, bytes(16))
                await in_a_train(attacker, lambda data=data: attacker.peer.datagram(data))


@vector("small payloads")
async def test_small_stream_chunks_keep_nothing_large(serve: Serve) -> None:
    """150 chunks of 10 bytes of a stream that nobody reads, likewise. Memory: 4 MiB."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session()
        stream = attacker.bidi(h3.bidi_header(session))
        async with target.bounded(memory=4 * MIB, cpu=5):
            for _ in range(150):
                await in_a_train(attacker, lambda: attacker.peer.send(stream, bytes(10)))
