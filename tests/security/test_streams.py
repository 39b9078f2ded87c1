"""Streams by the thousand: reset, refused, never finished, of sessions that are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support import raw_http3 as h3
from tests.support.raw_peer import raw_client

from .conftest import Serve
from .target import MIB, Attacker, Target
from .vectors import vector

GREASE = 0x1F * 9 + 0x21
BATCH = 50
"""Streams between two pauses: fewer than a server allows at once."""

Opening = Callable[[Attacker, int], int]


async def many(attacker: Attacker, count: int, one: Callable[[], int]) -> int:
    """So many streams, as fast as the server takes them; how many until it had enough."""
    for done in range(0, count, BATCH):
        streams = [one() for _ in range(BATCH)]
        if not await attacker.taken(*streams) or not await attacker.pause():
            return done
    return count


@vector("CVE-2023-44487")
async def test_rapid_reset_is_bounded(serve: Serve) -> None:
    """CONNECT and reset at line rate: within `Limits::resets` (20,000, then 2,000/s) it is work,
    beyond it H3_EXCESSIVE_LOAD. Memory: 24 MiB. Processor: 20 s."""
    target = await serve()
    async with target.attacker() as attacker:
        await attacker.session()
        request = h3.connect_frame(path="/silent")

        def open_and_reset() -> int:
            stream = attacker.bidi(request)
            attacker.peer.flush()
            attacker.peer.reset(stream, 0x10C)
            return stream

        await many(attacker, 100, open_and_reset)
        async with target.bounded(memory=24 * MIB, cpu=20):
            assert await many(attacker, 2_000, open_and_reset) == 2_000


@vector("CVE-2026-21438")
async def test_streams_opened_and_closed_leave_nothing(serve: Serve) -> None:
    """5,000 streams of both kinds in one session. Memory: 16 MiB. Processor: 20 s."""
    target = await serve()
    before = await target.report()
    async with target.attacker() as attacker:
        session = await attacker.session("/echo")

        def open_and_finish() -> int:
            attacker.uni(h3.uni_header(session) + b"x", fin=True)
            return attacker.bidi(h3.bidi_header(session) + b"x", fin=True)

        await many(attacker, 500, open_and_finish)
        async with target.bounded(memory=16 * MIB, cpu=20):
            assert await many(attacker, 2_500, open_and_finish) == 2_500
        during = await target.report()
        assert during["protocol streams"] - before["protocol streams"] < 2 * BATCH, during
    await target.settles(before)


def grease(attacker: Attacker, session: int) -> int:
    return attacker.uni(h3.varint(GREASE) + b"x")


def malformed(attacker: Attacker, session: int) -> int:
    return attacker.bidi(h3.headers_frame([(":method", "CONNECT"), ("X", "y")]))


def malformed_with_fin(attacker: Attacker, session: int) -> int:
    return attacker.bidi(h3.headers_frame([(":method", "CONNECT"), ("X", "y")]), fin=True)


def refused_by_the_application(attacker: Attacker, session: int) -> int:
    return attacker.bidi(h3.connect_frame(path="/nowhere"), fin=True)


def of_an_ended_session(attacker: Attacker, session: int) -> int:
    return attacker.uni(h3.uni_header(session) + b"x")


def plain_request(attacker: Attacker, session: int) -> int:
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
    return attacker.bidi(h3.headers_frame(fields), fin=True)


REFUSALS: list[Opening] = [
    grease,
    malformed,
    malformed_with_fin,
    refused_by_the_application,
    of_an_ended_session,
    plain_request,
]
KEPT = 2 * BATCH
"""Streams that may still be on their way out."""


@vector("refused streams", "GREASE")
@pytest.mark.parametrize("refused", REFUSALS, ids=lambda refused: refused.__name__)
async def test_nothing_is_kept_of_refused_streams(serve: Serve, refused: Opening) -> None:
    """1,000 on a connection that stays. Entries: 100. Memory: 12 MiB. Processor: 10 s."""
    target = await serve()
    async with target.attacker() as attacker:
        # A session that stays, and one that has ended.
        await attacker.session()
        ended = await attacker.session()
        attacker.peer.send(ended, fin=True)
        await attacker.peer.until(lambda: attacker.peer.streams[ended].is_ended)
        await many(attacker, 100, lambda: refused(attacker, ended))
        before = await target.report()
        async with target.bounded(memory=12 * MIB, cpu=10):
            assert await many(attacker, 1_000, lambda: refused(attacker, ended)) == 1_000
        # What answers take longer than the attack.
        await attacker.pause()
        after = await target.report()
        for name in ("protocol streams", "aioquic streams"):
            assert after[name] - before[name] <= KEPT, (name, before, after)


async def cost_of_a_session(target: Target, streams: int) -> float:
    """Seconds of the server for the life of one session, beside so many streams of another."""
    async with target.attacker() as attacker:
        other = await attacker.session()
        await many(attacker, streams, lambda: attacker.bidi(h3.bidi_header(other) + b"x"))
        spent = target.cpu()
        for _ in range(100):
            session = await attacker.session()
            attacker.peer.send(session, fin=True)
            await attacker.peer.until(lambda id=session: attacker.peer.streams[id].is_ended)
        return target.cpu() - spent


@vector("session end")
async def test_the_end_of_a_session_costs_what_it_has(serve: Serve) -> None:
    """100 short sessions beside 2,000 streams of another cost at most three times (and 0.3 s more)
    what they cost beside none: aioquic itself looks at every stream for each packet."""
    target = await serve(quic_max_concurrent_bidi_streams=10_000)
    await cost_of_a_session(target, 0)
    alone = await cost_of_a_session(target, 0)
    # What else the machine does costs some, too: the cheaper of two.
    crowded = min([await cost_of_a_session(target, 2_000) for _ in range(2)])
    print(
        f"{target.engine}: 100 sessions: {alone:.2f} s alone, {crowded:.2f} s beside 2,000 streams"
    )
    assert crowded <= 3 * alone + 0.3


@vector("GOAWAY flood")
async def test_goaway_that_changes_nothing(serve: Serve) -> None:
    """5,000 equal GOAWAY frames beside 60 sessions. Processor: 2 s. An echo: 1 s."""
    target = await serve()
    async with target.attacker() as attacker:
        for _ in range(60):
            await attacker.session()
        async with target.bounded(memory=8 * MIB, cpu=2, stall=1):
            attacker.peer.send(attacker.control, h3.frame(h3.GOAWAY, b"\0") * 5_000)
            await attacker.taken(attacker.control)
            await attacker.pause()


@vector("early data")
async def test_data_for_sessions_that_never_are(serve: Serve) -> None:
    """Streams and datagrams for sessions nobody asks for: of each a few are held (16 streams, and
    `max_total_pending_events` datagrams), for 5 s. Memory: 12 MiB. Processor: 10 s."""
    target = await serve(max_total_pending_events=100)
    async with target.attacker() as attacker:
        await attacker.session()

        def early() -> int:
            attacker.peer.datagram(h3.datagram(4_000, bytes(1_000)))
            return attacker.uni(h3.uni_header(4_000) + bytes(1_000))

        await many(attacker, 100, early)
        before = await target.report()
        async with target.bounded(memory=12 * MIB, cpu=10):
            assert await many(attacker, 2_000, early) == 2_000
        after = await target.report()
        assert after["protocol streams"] - before["protocol streams"] <= KEPT, after


@vector("unanswered requests")
async def test_requests_that_wait_are_bounded(serve: Serve) -> None:
    """Requests before SETTINGS, each with 60 kB of fields and 12 kB behind them, are answered by
    nobody. Memory: 32 MiB for one connection. Processor: 10 s."""
    target = await serve()
    async with (
        target.bounded(memory=32 * MIB, cpu=10),
        raw_client(target.port, max_streams_bidi=1_000) as peer,
    ):
        large = [(f"x-{i}", "y" * 500) for i in range(100)]
        request = h3.connect_frame(path="/silent", extra=large)
        for _ in range(1_000 // BATCH):
            streams = [peer.open() for _ in range(BATCH)]
            for stream in streams:
                peer.send(stream, request + bytes(12_000))
            if not await Attacker(peer, -1).taken(*streams):
                break


@vector("withheld credit")
async def test_writes_to_a_peer_without_credit(serve: Serve) -> None:
    """The server writes a gibibyte to each of 20 sessions whose client takes nothing.
    Memory: 32 MiB. Processor: 5 s."""
    target = await serve()
    async with (
        target.bounded(memory=32 * MIB, cpu=5),
        target.attacker(gives_credit=False, max_stream_data=2_000, max_data=60_000) as attacker,
    ):
        for _ in range(20):
            await attacker.session("/pour")
        await asyncio.sleep(1)
        assert await attacker.pause()


@vector("GHSA-px4r-g4p3-hhqv")
async def test_close_without_credit_on_connect(serve: Serve) -> None:
    """The peer leaves no room for the close of 100 sessions and says nothing about its own end:
    all is gone after `close_timeout`. Memory: 12 MiB. Processor: 5 s."""
    target = await serve(close_timeout=0.2)
    before = await target.report()
    async with target.bounded(memory=12 * MIB, cpu=5):
        for _ in range(5):
            async with target.attacker(max_stream_data=8, gives_credit=False) as attacker:
                sessions = [await attacker.session("/closes") for _ in range(20)]
                seen = attacker.peer.streams
                await attacker.peer.until(
                    lambda seen=seen, sessions=sessions: all(
                        seen[s].stopped is not None for s in sessions
                    )
                )
    await target.settles(before)
