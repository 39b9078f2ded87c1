"""Datagrams by the thousand, and small things that must not keep large ones alive."""

from __future__ import annotations

import asyncio

from tests.support import raw_http3 as h3

from .conftest import Serve
from .target import MIB
from .vectors import vector


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


@vector("small payloads")
async def test_small_datagrams_keep_nothing_large(serve: Serve) -> None:
    """900 datagrams of 16 bytes that wait to be read, each received by itself: 60 kB a batch would
    be 50 MiB. Memory: 6 MiB."""
    target = await serve(max_incoming_datagrams=1_000)
    async with target.attacker() as attacker:
        session = await attacker.session()
        async with target.bounded(memory=6 * MIB, cpu=5):
            for _ in range(900):
                attacker.peer.datagram(h3.datagram(session, bytes(16)))
                assert await attacker.pause()


@vector("small payloads")
async def test_small_stream_chunks_keep_nothing_large(serve: Serve) -> None:
    """900 chunks of 10 bytes that wait to be read, each received by itself. Memory: 6 MiB."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session()
        stream = attacker.bidi(h3.bidi_header(session))
        async with target.bounded(memory=6 * MIB, cpu=5):
            for _ in range(900):
                attacker.peer.send(stream, bytes(10))
                assert await attacker.taken(stream)
                await asyncio.sleep(0)
