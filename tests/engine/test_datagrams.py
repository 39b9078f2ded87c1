"""Datagrams: size, order, bounded queues."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.exceptions import DatagramError

from .conftest import Connect
from .test_sessions import ENDS, other


@pytest.mark.parametrize("end", ENDS)
async def test_datagrams_of_every_size_arrive(connect: Connect, end: str) -> None:
    pair = await connect()
    session_id = await pair.session()
    sender, receiver = pair.end(end), pair.end(other(end))
    largest = sender.connection.max_datagram_size(session_id)
    assert 1000 <= largest <= 65535
    for size in (0, 1, 100, largest):
        assert sender.connection.send_datagram(session_id, bytes(size))
        assert await receiver.datagram(session_id) == bytes(size)


async def test_too_large_datagram_is_refused_and_blocks_nothing(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    largest = pair.client.connection.max_datagram_size(session_id)
    with pytest.raises(DatagramError) as caught:
        pair.client.connection.send_datagram(session_id, bytes(largest + 1))
    assert (caught.value.datagram_size, caught.value.max_size) == (largest + 1, largest)
    pair.client.connection.send_datagram(session_id, b"small")
    assert await pair.server.datagram(session_id) == b"small"


async def test_every_kind_of_buffer_is_taken(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    for data in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
        pair.client.connection.send_datagram(session_id, data)
        assert await pair.server.datagram(session_id) == b"abc"


async def test_several_are_taken_up_to_the_first_that_is_refused(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    connection = pair.client.connection
    largest = connection.max_datagram_size(session_id)
    kinds = [b"a", bytearray(b"b"), memoryview(b"xcx")[1:2], b"", bytes(largest)]
    assert connection.offer_datagrams(session_id, []) == 0
    assert connection.offer_datagrams(session_id, [*kinds, bytes(largest + 1), b"z"]) == 5
    with pytest.raises(DatagramError) as caught:
        connection.offer_datagrams(session_id, [bytes(largest + 1), b"z"])
    assert (caught.value.datagram_size, caught.value.max_size) == (largest + 1, largest)
    assert connection.offer_datagram(session_id, b"end")
    for data in (*kinds, b"end"):
        assert await pair.server.datagram(session_id) == bytes(data)


async def test_what_finds_no_room_waits_and_none_is_lost(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    client, count, offered = pair.client.connection, 20_000, 0
    numbers: list[bytes | bytearray | memoryview] = [n.to_bytes(64, "big") for n in range(count)]
    offered = client.offer_datagrams(session_id, numbers)
    assert 0 < offered < count
    assert not client.offer_datagram(session_id, numbers[offered])
    # Each is sent, or waits: nothing is lost between the places.
    figures = client.stats().extra
    assert figures["datagrams_sent"] + figures["datagrams_waiting"] == offered
    assert pair.client.of("datagrams_writable") == []
    received: list[bytes] = []
    while len(received) < count:
        received += pair.server.connection.receive_datagrams(session_id, count)
        if offered < count and pair.client.of("datagrams_writable"):
            await pair.client.next("datagrams_writable", session_id)
            offered += client.offer_datagrams(session_id, numbers[offered:])
        await asyncio.sleep(0)
    assert received == numbers
    assert client.stats().datagrams_dropped == 0


async def test_full_outgoing_queue_drops_the_oldest_and_counts(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    count, kept = 20_000, 0
    for number in range(count):
        kept += pair.client.connection.send_datagram(session_id, number.to_bytes(4, "big"))
    dropped = count - kept
    assert dropped > 0
    assert pair.client.connection.stats().datagrams_dropped == dropped
    first = int.from_bytes(await pair.server.datagram(session_id), "big")
    assert first > 0


async def test_full_incoming_queue_drops_the_oldest_and_counts(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    assert pair.server.connection.receive_datagram(session_id) is None
    last = 0
    while not pair.server.connection.stats().datagrams_dropped:
        for _ in range(100):
            last += 1
            pair.client.connection.send_datagram(session_id, last.to_bytes(4, "big"))
        # A stream's round trip says that the datagrams before it have been sent.
        stream_id = await pair.client.open(session_id)
        await pair.client.write(stream_id, b"", fin=True)
        await pair.server.next("stream_opened")
        await pair.server.read_all(stream_id)
        await pair.server.write(stream_id, b"", fin=True)
        await pair.client.read_all(stream_id)
        assert last < 1_000_000
    waiting = pair.server.connection.receive_datagrams(session_id, 10**6)
    numbers = [int.from_bytes(data, "big") for data in waiting]
    assert numbers == sorted(numbers)
    assert numbers[0] > 1
    assert pair.server.connection.receive_datagrams(session_id, 10) == []


async def test_datagrams_readable_is_told_once(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    assert pair.server.connection.receive_datagrams(session_id, 10) == []
    for _ in range(10):
        pair.client.connection.send_datagram(session_id, b"x")
    got = 0
    while got < 10:
        if taken := pair.server.connection.receive_datagrams(session_id, 3):
            got += len(taken)
        else:
            await pair.server.next("datagrams_readable", session_id)
    assert len(pair.server.of("datagrams_readable")) <= 10
