"""Frames and capsules that are endless, empty, tiny or larger than they look."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import raw_http3 as h3

from .conftest import Serve
from .target import KIB, MIB, Attacker
from .vectors import vector

GREASE = 0x1F * 9 + 0x21
LOAD, MESSAGE = 0x107, 0x10E
BOMB = h3.frame(h3.HEADERS, b"\0\0" + bytes([0xC0 | 15]) * 60_000)
"""Sixty kilobytes, a field each (`:method: CONNECT`): three megabytes when decoded."""


async def ended_with(attacker: Attacker, code: int) -> None:
    closed = await attacker.peer.wait_closed()
    assert (closed.code, closed.is_by_us) == (code, False), closed


@vector("CVE-2026-21434")
async def test_close_with_a_long_text(serve: Serve) -> None:
    """CLOSE that announces 4 GiB and sends 1 MiB of it, 50 times: refused by its length.
    Memory: 8 MiB. Processor: 5 s."""
    target = await serve()
    async with target.attacker() as attacker:
        await attacker.session()
        async with target.bounded(memory=8 * MIB, cpu=5):
            for _ in range(50):
                session = await attacker.session()
                head = h3.varint(h3.CLOSE_SESSION) + h3.varint(1 << 32)
                attacker.peer.send(session, h3.frame(h3.DATA, head + bytes(20_000)))
                seen = attacker.peer.streams[session]
                await attacker.peer.until(lambda seen=seen: seen.reset or attacker.peer.closed)
                assert seen.reset is not None
                assert seen.reset.code == MESSAGE


@vector("CVE-2026-57497")
async def test_unknown_capsule_with_a_large_body(serve: Serve) -> None:
    """8 MiB of an unknown capsule: read and forgotten. Memory: 6 MiB. Processor: 10 s."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session()
        attacker.peer.send(session, h3.frame(h3.DATA, h3.varint(GREASE) + h3.varint(1 << 40)))
        async with target.bounded(memory=6 * MIB, cpu=10):
            for _ in range(64):
                attacker.peer.send(session, h3.frame(h3.DATA, bytes(128 * KIB)))
                assert await attacker.taken(session)
        assert await attacker.pause()


@vector("CVE-2025-64702", "CVE-2026-40898")
@pytest.mark.parametrize("place", ["request", "trailers"])
async def test_field_section_bomb(serve: Serve, place: str) -> None:
    """100 requests of 60 kB that decode to 3 MB each: refused while they are decoded.
    Memory: 12 MiB. Processor: 10 s."""
    target = await serve()
    get = h3.headers_frame(
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
    )
    async with target.attacker() as attacker:
        await attacker.session()
        async with target.bounded(memory=12 * MIB, cpu=10):
            for _ in range(100):
                stream = attacker.bidi((get if place == "trailers" else b"") + BOMB)
                seen = attacker.peer.streams[stream]
                await attacker.peer.until(
                    lambda seen=seen: seen.is_ended or seen.stopped or attacker.peer.closed
                )
                assert attacker.peer.closed is None
                attacker.peer.reset(stream, 0x10C)


@vector("never-finished headers")
async def test_headers_that_never_end(serve: Serve) -> None:
    """1,000 requests that stop in the middle of 16 kB of fields: 64 may wait
    (`Limits::max_requests`). Memory: 12 MiB. Processor: 10 s."""
    target = await serve()
    async with target.attacker() as attacker:
        await attacker.session()
        async with target.bounded(memory=12 * MIB, cpu=10):
            for _ in range(20):
                head = h3.varint(h3.HEADERS) + h3.varint(16 * KIB) + bytes(12 * KIB)
                streams = [attacker.bidi(head) for _ in range(50)]
                await attacker.taken(*streams)
                if not await attacker.pause():
                    break


@vector("one-byte DATA")
async def test_data_frames_of_one_byte(serve: Serve) -> None:
    """An unknown capsule of 100,000 bytes, each in a frame of its own. Memory: 6 MiB.
    Processor: 4 s."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session()
        attacker.peer.send(session, h3.frame(h3.DATA, h3.varint(GREASE) + h3.varint(1 << 40)))
        async with target.bounded(memory=6 * MIB, cpu=4):
            attacker.peer.send(session, h3.frame(h3.DATA, b"x") * 100_000)
            await attacker.taken(session)
            await attacker.pause()


NOTHING = {
    "empty DATA": h3.frame(h3.DATA),
    "unknown frames": h3.frame(GREASE),
    "unknown capsules": h3.frame(h3.DATA, h3.capsule(GREASE)),
}


@vector("empty DATA", "GREASE")
@pytest.mark.parametrize("kind", NOTHING)
async def test_frames_that_carry_nothing(serve: Serve, kind: str) -> None:
    """Beyond `Limits::idle_frames` (10,000, then 1,000/s) the connection ends with 0x107.
    Memory: 6 MiB. Processor: 3 s."""
    target = await serve()
    async with target.attacker() as attacker:
        session = await attacker.session()
        async with target.bounded(memory=6 * MIB, cpu=3):
            attacker.peer.send(session, NOTHING[kind] * 60_000)
            await ended_with(attacker, LOAD)


@vector("GREASE")
async def test_control_frames_that_carry_nothing(serve: Serve) -> None:
    """The same on the control stream. Memory: 6 MiB. Processor: 3 s."""
    target = await serve()
    async with target.attacker() as attacker, target.bounded(memory=6 * MIB, cpu=3):
        attacker.peer.send(attacker.control, h3.frame(GREASE) * 60_000)
        await ended_with(attacker, LOAD)


@vector("idle sessions")
async def test_idle_sessions(serve: Serve) -> None:
    """600 sessions on 10 connections that do nothing. Memory: 48 KiB each, and 4 MiB."""
    target = await serve()
    leave, ready = asyncio.Event(), asyncio.Semaphore(0)

    async def connection() -> None:
        async with target.attacker() as attacker:
            for _ in range(60):
                await attacker.session()
            ready.release()
            await leave.wait()

    async with (
        target.bounded(memory=600 * 48 * KIB + 4 * MIB, cpu=10),
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(10):
            tasks.create_task(connection())
        for _ in range(10):
            await ready.acquire()
        leave.set()
