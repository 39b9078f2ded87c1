"""A stream that is never idle leaves the loop, and the other streams, their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .conftest import MakeSite
from .site import ENDS, Pair, within

MEASURED = 1.0
"""Seconds; here time itself is the subject."""
TICK = 0.01
LATE_TICK = 1.0
SLOW_ROUND_TRIP = 3.0
"""Generous: two cores are shared with whatever else runs."""


async def read_all_day(stream: Any) -> None:
    while await stream.read(size=-1):
        pass


async def write_all_day(stream: Any) -> None:
    block = bytes(64 * 1024)
    while True:
        await stream.write(data=block)


async def exchange_all_day(stream: Any) -> None:
    while True:
        await stream.write(data=b"x" * 64)
        await stream.readexactly(n=64)


async def answer_all_day(stream: Any) -> None:
    while data := await stream.read():
        await stream.write(data=data)


@asynccontextmanager
async def busy(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Tasks that never have to wait for long; a failure of one is the test's."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
        for task in tasks:
            assert not task.done(), task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def latest_tick() -> float:
    """How late the worst tick of a timer was."""
    loop = asyncio.get_running_loop()
    worst, due = 0.0, loop.time() + TICK
    done = loop.create_future()

    def tick() -> None:
        nonlocal worst, due
        now = loop.time()
        worst = max(worst, now - due)
        due = now + TICK
        if now < end:
            loop.call_at(due, tick)
        else:
            done.set_result(None)

    end = loop.time() + MEASURED
    loop.call_at(due, tick)
    await within(done)
    return worst


async def slowest_round_trip(pair: Pair) -> tuple[float, int]:
    near, far = await pair.stream()
    loop = asyncio.get_running_loop()
    worst, count, end = 0.0, 0, loop.time() + MEASURED
    while (started := loop.time()) < end:
        await near.write(data=b"ping")
        assert await within(far.readexactly(n=4)) == b"ping"
        await far.write(data=b"pong")
        assert await within(near.readexactly(n=4)) == b"pong"
        worst = max(worst, loop.time() - started)
        count += 1
    return worst, count


async def measure(pair: Pair, engine: str, what: str) -> None:
    (slowest, count), late = await asyncio.gather(slowest_round_trip(pair), latest_tick())
    print(
        f"{engine}: beside {what}: {count} round trips, the slowest {slowest * 1000:.1f} ms;"
        f" the latest tick {late * 1000:.1f} ms late"
    )
    assert count >= 5
    assert slowest < SLOW_ROUND_TRIP
    assert late < LATE_TICK


@pytest.mark.parametrize("writer", ENDS)
async def test_bulk_stream_starves_nobody(site: MakeSite, engine: str, writer: str) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream(writer)
    async with busy(write_all_day(near), read_all_day(far)):
        await measure(pair, engine, f"a bulk stream of {writer}")
    assert near.diagnostics.stats.bytes_sent > 1_000_000


async def test_busy_exchange_starves_nobody(site: MakeSite, engine: str) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    async with busy(exchange_all_day(near), answer_all_day(far)):
        await measure(pair, engine, "a busy exchange")


async def test_eight_bulk_streams_share(site: MakeSite, engine: str) -> None:
    pair = await (await site()).pair()
    streams = [await pair.stream() for _ in range(8)]
    work = [write_all_day(near) for near, _ in streams] + [read_all_day(far) for _, far in streams]
    async with busy(*work):
        await measure(pair, engine, "eight bulk streams")
    shares = [far.diagnostics.stats.bytes_received for _, far in streams]
    print(f"{engine}: shares in KiB: {[share // 1024 for share in shares]}")
    assert min(shares) * 8 > max(shares), "one stream got nearly everything"


@pytest.mark.parametrize(
    "read",
    [
        lambda stream: stream.read(size=1),
        lambda stream: stream.readexactly(n=1),
        lambda stream: stream.readline(),
    ],
    ids=["read", "readexactly", "readline"],
)
async def test_reads_of_what_is_there_let_the_loop_run(
    site: MakeSite, engine: str, read: Callable[[Any], Any]
) -> None:
    """No such read waits, so nothing but the budget gives others a turn."""
    pair = await (await site()).pair()
    near, far = await pair.stream()
    lines = 100_000
    await within(near.write(data=b"\n" * lines, end_stream=True))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async with busy(tick()):
        for _ in range(lines):
            await read(far)
    print(f"{engine}: {ticks} turns of the loop during {lines} reads")
    assert ticks > lines / 1000


async def test_flood_of_datagrams_starves_nobody(site: MakeSite, engine: str) -> None:
    pair = await (await site()).pair()
    sender = await pair.client.create_datagram_transport()
    receiver = await pair.server.create_datagram_transport()

    async def send_all_day() -> None:
        while True:
            await sender.send(data=b"x" * 64)

    async def receive_all_day() -> None:
        while True:
            await receiver.receive()

    async with busy(send_all_day(), receive_all_day()):
        await measure(pair, engine, "a flood of datagrams")
    stats = receiver.diagnostics.stats
    print(f"{engine}: {stats.datagrams_received} datagrams arrived")
    assert stats.datagrams_received > 1000
