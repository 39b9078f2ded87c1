"""Datagrams and streams share a connection: neither takes it all."""

from __future__ import annotations

import asyncio
from typing import Any

from .conftest import MakeSite
from .site import Pair, within

SLICE = 0.25
"""Seconds; here time itself is the subject."""
ROUNDS = 4
"""Of one slice without and one with a flood, so that both see the same load of the machine."""
TRIES = 3


async def write_all_day(stream: Any) -> None:
    block = bytes(64 * 1024)
    while True:
        await stream.write(data=block)


async def flood(transport: Any) -> None:
    block = bytes(1000)
    while True:
        for _ in range(100):
            await transport.send(data=block)
        await asyncio.sleep(0)


async def received_in_a_slice(far: Any) -> int:
    """Stream bytes that the far end gets to read."""
    loop = asyncio.get_running_loop()
    end, received = loop.time() + SLICE, 0
    while loop.time() < end:
        received += len(await within(far.read(size=-1)))
    return received


async def shares(pair: Pair) -> tuple[int, int, int]:
    """Stream bytes alone, stream bytes beside a flood, datagrams that arrived in it."""
    near, far = await pair.stream()
    transport = await pair.client.create_datagram_transport()
    receiver = await pair.server.create_datagram_transport()
    writing = asyncio.ensure_future(write_all_day(near))
    alone = beside = 0
    try:
        await received_in_a_slice(far)
        before = receiver.datagrams_received
        for _ in range(ROUNDS):
            alone += await received_in_a_slice(far)
            flooding = asyncio.ensure_future(flood(transport))
            try:
                beside += await received_in_a_slice(far)
                assert not flooding.done(), flooding
            finally:
                flooding.cancel()
                await asyncio.wait([flooding])
            while await receiver.try_receive() is not None:
                pass
        assert not writing.done()
        return alone, beside, receiver.datagrams_received - before
    finally:
        writing.cancel()
        await asyncio.wait([writing])


async def test_a_flood_leaves_streams_a_third(site: MakeSite, engine: str) -> None:
    tried = []
    for _ in range(TRIES):
        alone, beside, datagrams = await shares(await (await site()).pair())
        print(f"{engine}: {beside / alone:.2f} of {alone} bytes beside {datagrams} datagrams")
        tried.append((alone, beside, datagrams))
        if beside * 3 >= alone and datagrams > 100:
            return
    raise AssertionError(f"stream bytes alone, beside a flood, and its datagrams: {tried}")


async def test_a_reader_who_keeps_reading_loses_nothing(site: MakeSite, engine: str) -> None:
    """However fast they are sent: senders wait, and the network is read as fast as the reader."""
    pair = await (await site()).pair()
    transport = await pair.client.create_datagram_transport()
    receiver = await pair.server.create_datagram_transport()
    block = [bytes(64)] * 128
    total = len(block) * (400 if engine == "native" else 80)

    async def read() -> None:
        for _ in range(total):
            await receiver.receive(timeout=5)

    reading = asyncio.ensure_future(read())
    for _ in range(total // len(block)):
        await transport.send_datagrams(block)
        await asyncio.sleep(0)
    await asyncio.wait([reading])
    lost = total - receiver.datagrams_received
    places = transport.diagnostics.stats.send_drops, receiver.diagnostics.stats.receive_drops
    print(f"{engine}: {lost} of {total} lost, dropped by sender and receiver: {places}")
    assert lost * 100 < total
