"""Datagrams: bounded in both directions, the oldest goes, and every loss on our side is counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport.datagram import WebTransportDatagramTransport
from pywebtransport.exceptions import DatagramError, TimeoutError

from .conftest import MakeSite
from .site import ENDS, Pair, at_rest, within

LIMIT = 16


async def transports(
    pair: Pair, sender: str
) -> tuple[WebTransportDatagramTransport, WebTransportDatagramTransport]:
    return (
        await pair.end(sender).create_datagram_transport(),
        await pair.other(sender).create_datagram_transport(),
    )


async def drain(transport: WebTransportDatagramTransport) -> list[bytes]:
    """What has arrived, and what still arrives."""
    found: list[bytes] = []
    try:
        while True:
            found.append(await transport.receive(timeout=0.3))
    except TimeoutError:
        return found


@pytest.mark.parametrize("sender", ENDS)
async def test_content_and_kinds(site: MakeSite, sender: str) -> None:
    pair = await (await site()).pair()
    out, into = await transports(pair, sender)
    kinds: list[Any] = [b"", b"x", bytearray(b"array"), memoryview(b"view"), "text é"]
    for data in kinds:
        await out.send(data=data)
        expected = data.encode() if isinstance(data, str) else bytes(data)
        assert await within(into.receive()) == expected
    largest = bytes(out.max_datagram_size)
    await out.send(data=largest)
    assert await within(into.receive()) == largest


@pytest.mark.parametrize("sender", ENDS)
async def test_full_incoming_queue_drops_its_oldest(
    site: MakeSite, engine: str, sender: str
) -> None:
    pair = await (await site(max_incoming_datagrams=LIMIT)).pair()
    out, into = await transports(pair, sender)
    total = 5 * LIMIT
    for number in range(total):
        await out.send(data=number.to_bytes(4))
        # One packet each: a burst may find the socket's buffer full, which is no queue of ours.
        await asyncio.sleep(0)
    link = pair.other(sender).connection._link  # type: ignore[union-attr]
    await at_rest(lambda: link.engine.stats().packets_received)  # type: ignore[union-attr]
    found = [int.from_bytes(data) for data in await drain(into)]
    dropped = into.diagnostics.stats.receive_drops
    print(f"{engine}: {len(found)} of {total} kept, {dropped} dropped and counted")
    assert found == list(range(total - LIMIT, total))
    assert dropped == total - LIMIT


@pytest.mark.parametrize("sender", ENDS)
async def test_full_outgoing_queue_drops_its_oldest(
    site: MakeSite, engine: str, sender: str
) -> None:
    pair = await (await site(max_outgoing_datagrams=LIMIT)).pair()
    out, into = await transports(pair, sender)
    total = 2000
    for number in range(total):
        # No turn of the loop in between: nothing can leave but the first.
        data = number.to_bytes(4) + bytes(996)
        assert await out.try_send(data=data), "the newest is always taken"
    dropped = out.diagnostics.stats.send_drops
    newest = list(range(total - LIMIT, total))
    found = [int.from_bytes(data[:4]) for data in await drain(into)]
    print(f"{engine}: {len(found)} of {total} left, {dropped} dropped and counted")
    assert dropped == total - len(found)
    assert found in ([0, *newest], newest), "the newest are kept"


async def test_queues_hold_what_they_are_configured_to(site: MakeSite) -> None:
    options = {"max_outgoing_datagrams": LIMIT, "max_incoming_datagrams": LIMIT}
    pair = await (await site(**options)).pair()
    out, into = await transports(pair, "client")
    for number in range(LIMIT):
        assert await out.try_send(data=number.to_bytes(4))
    assert [int.from_bytes(data) for data in await drain(into)] == list(range(LIMIT))
    assert out.diagnostics.stats.send_drops == 0
    assert into.diagnostics.stats.receive_drops == 0


async def test_try_send_never_waits(site: MakeSite, engine: str) -> None:
    """Not even with a peer that takes nothing and a queue that is full."""
    pair = await (await site()).pair()
    out, _ = await transports(pair, "client")
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1

    asyncio.get_running_loop().call_soon(turn)
    for _ in range(20_000):
        await out.try_send(data=b"x" * 1000)
    assert turns == 0, "try_send gave up its turn of the loop"
    stats = out.diagnostics.stats
    print(f"{engine}: 20000 sent at once, {stats.send_drops} dropped")
    assert stats.send_drops > 0
    near, far = await pair.stream()
    await near.write(data=b"alive", end_stream=True)
    assert await within(far.read_all()) == b"alive"


@pytest.mark.parametrize("sender", ENDS)
async def test_oversize_tells_size_and_limit(site: MakeSite, sender: str) -> None:
    pair = await (await site()).pair()
    out, into = await transports(pair, sender)
    limit = out.max_datagram_size
    assert limit >= 1000
    for size in (limit + 1, 100_000):
        with pytest.raises(DatagramError) as caught:
            await out.send(data=bytes(size))
        assert (caught.value.datagram_size, caught.value.max_size) == (size, limit)
        assert str(size) in str(caught.value) and str(limit) in str(caught.value)
        assert not await out.try_send(data=bytes(size))
    assert out.diagnostics.stats.send_failures == 4
    await out.send(data=b"still usable")
    assert await within(into.receive()) == b"still usable"


async def test_datagrams_of_sessions_do_not_mix(site: MakeSite) -> None:
    running = await site()
    first, second = await running.pair(), await running.pair()
    out, into = await transports(first, "client")
    other_out, other_into = await transports(second, "client")
    for number in range(50):
        await out.send(data=b"a%d" % number)
        await other_out.send(data=b"b%d" % number)
    assert {data[:1] for data in await drain(into)} == {b"a"}
    assert {data[:1] for data in await drain(other_into)} == {b"b"}
