"""Streams of a higher order send first, where the engine has orders."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.session import WebTransportSession

from .conftest import MakeSite
from .site import ENDS, Pair, within

SIZE = 8 << 20
"""More than is on its way at once."""


async def finish_order(pair: Pair, sender: str, orders: list[int]) -> list[int]:
    """Streams of these orders, written at the same moment: which arrives whole first."""
    near: WebTransportSession = pair.end(sender)
    far: WebTransportSession = pair.other(sender)
    arrived: list[int] = []

    async def receive() -> None:
        stream = await far.accept_unidirectional_stream()
        name = int((await stream.readline()).decode())
        while await stream.read(size=1 << 18):
            pass
        arrived.append(name)

    receiving = [asyncio.create_task(receive()) for _ in orders]
    streams = [await near.create_unidirectional_stream(send_order=order) for order in orders]
    assert [stream.send_order for stream in streams] == orders
    for stream, order in zip(streams, orders, strict=True):
        await stream.write(data=b"%d\n" % order)
    await asyncio.gather(*(stream.write_all(data=bytes(SIZE)) for stream in streams), *receiving)
    return arrived


@pytest.mark.parametrize("engine", ["native"], indirect=True)
@pytest.mark.parametrize("sender", ENDS)
async def test_the_highest_order_arrives_first(site: MakeSite, sender: str) -> None:
    # Windows that take all of it: what is left to decide is what goes into the next packet.
    windows = {
        "quic_send_window": 64 << 20,
        "quic_receive_window": 64 << 20,
        "quic_stream_receive_window": 16 << 20,
    }
    pair = await (await site(**windows)).pair()
    assert await within(finish_order(pair, sender, [0, 5, -3]), 40) == [5, 0, -3]


async def test_orders_are_taken_by_every_engine(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    assert near.send_order == 0
    near.send_order = 7
    assert near.send_order == 7
    await near.write_all(data=b"request")
    assert await within(far.read_all()) == b"request"
    near.send_order = 8  # Its half has ended: nothing happens.
    for wrong in (1 << 21, -(1 << 21)):
        with pytest.raises(ValueError, match="send_order must be an integer in"):
            near.send_order = wrong
    late = await pair.client.create_bidirectional_stream(send_order=-1)
    assert late.send_order == -1
