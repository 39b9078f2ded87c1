"""What `stats()` says, with the members that W3C WebTransport names."""

from __future__ import annotations

import asyncio
from dataclasses import fields

import pytest

from pywebtransport import ServerConfig
from pywebtransport.datagram import WebTransportDatagramStats
from pywebtransport.exceptions import DatagramError

from .conftest import MakeSite
from .site import within

UNKNOWN = {"bytes_sent_overhead", "bytes_acknowledged", "at_send_capacity"}


async def test_a_stream_counts_what_was_written_and_what_was_read(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near = await pair.client.create_bidirectional_stream()
    await near.write(data=bytes(1000))
    far = await within(pair.server.accept_bidirectional_stream())
    await within(far.readexactly(n=400))
    assert far.stats().bytes_read == 400
    assert 400 <= far.stats().bytes_received <= 1000
    await far.write_all(data=bytes(7))
    assert (near.stats().bytes_written, near.stats().bytes_sent) == (1000, None)
    assert await within(near.read_all()) == bytes(7)
    await near.close()
    assert len(await within(far.read_all())) == 600
    ends = far.stats(), near.stats()
    assert [(each.bytes_read, each.bytes_received, each.bytes_written) for each in ends] == [
        (1000, 1000, 7),
        (7, 7, 1000),
    ]
    sending = await pair.server.create_unidirectional_stream()
    await sending.write_all(data=b"123")
    receiving = await within(pair.client.accept_unidirectional_stream())
    assert sending.stats().bytes_written == 3
    assert await within(receiving.read_all()) == b"123"
    assert (receiving.stats().bytes_received, receiving.stats().bytes_read) == (3, 3)


async def test_what_a_slow_reader_leaves_counts_as_written(site: MakeSite) -> None:
    """From the moment that the stream has taken it, as the application sees it."""
    windows = {"quic_stream_receive_window": 1 << 16}
    pair = await (await site(**windows)).pair()
    near, far = await pair.stream()
    await near.write(data=bytes(1 << 19), wait_flush=False)
    assert near.stats().bytes_written == (1 << 19) + 1
    await near.write(data=b"", end_stream=True, wait_flush=False)
    assert len(await within(far.read_all())) == 1 << 19
    assert near.stats().bytes_written == (1 << 19) + 1


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_session_tells_of_its_connection(site: MakeSite, engine: str, end: str) -> None:
    pair = await (await site()).pair()
    before = pair.end(end).stats()
    near, far = await pair.stream(end)
    await near.write_all(data=bytes(100_000))
    await within(far.read_all())
    session = pair.end(end)
    after = session.stats()
    assert after.bytes_sent >= before.bytes_sent + 100_000
    assert after.packets_sent > before.packets_sent
    assert after.packets_received > before.packets_received
    assert after.bytes_received > before.bytes_received
    assert (after.packets_lost == 0) == (after.bytes_lost == 0)
    assert after.min_rtt is not None
    assert 0 < after.min_rtt <= 2 * after.smoothed_rtt < 10
    assert after.estimated_send_rate
    assert (after.rtt_variation is None) == (engine == "native")
    unknown = {each.name for each in fields(after) if getattr(after, each.name) is None}
    assert unknown - {"rtt_variation"} == UNKNOWN
    await session.close()
    assert session.stats().packets_sent >= after.packets_sent


async def test_datagrams_say_why_they_did_not_arrive(site: MakeSite) -> None:
    pair = await (await site()).pair()
    assert pair.client.stats().datagrams == WebTransportDatagramStats(
        dropped_incoming=0, expired_incoming=0, expired_outgoing=0, lost_outgoing=0
    )
    transport = await pair.client.create_datagram_transport()
    with pytest.raises(DatagramError, match="expired"):
        await transport.send(b"late", ttl=0)
    # As many as no queue holds, and nobody reads them.
    sent = 0
    while not pair.server.stats().datagrams.dropped_incoming:
        await within(transport.send(bytes(100)))
        sent += 1
        if sent % 100 == 0:
            await asyncio.sleep(0.005)
        assert sent < 100_000
    assert transport.stats().expired_outgoing == 1
    assert pair.client.stats().datagrams.expired_outgoing == 1
    dropped = pair.server.stats().datagrams.dropped_incoming
    assert 0 < dropped <= sent
    receiver = await pair.server.create_datagram_transport()
    assert receiver.stats().dropped_incoming >= dropped


async def test_what_was_dropped_is_told_after_the_end_too(site: MakeSite) -> None:
    pair = await (await site()).pair()
    receiver = await pair.server.create_datagram_transport()
    sender = await pair.client.create_datagram_transport()
    limit = ServerConfig().max_incoming_datagrams
    for _ in range(2 * limit):
        await within(sender.send(bytes(100)))
    await pair.client.close()
    await within(pair.server.wait_closed())
    left = 0
    with pytest.raises(DatagramError):
        while True:
            await within(receiver.receive())
            left += 1
    # Of what came, and a few may be lost on the way.
    assert 0 < left <= limit
    assert limit // 2 < receiver.stats().dropped_incoming <= 2 * limit - left
