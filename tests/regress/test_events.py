"""Events are delivered in order by one task an emitter, from a bounded queue, and are not kept."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pywebtransport.events import Event, EventEmitter
from pywebtransport.types import EventType
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within

READY = EventType.SESSION_READY


async def test_events_do_not_overtake_each_other() -> None:
    emitter = EventEmitter()
    finished: list[int] = []
    done = asyncio.Event()

    async def slower_at_first(event: Event) -> None:
        for _ in range(10 - event.data):
            await asyncio.sleep(0)
        finished.append(event.data)
        if event.data == 3:
            done.set()

    emitter.on(event_type=READY, handler=slower_at_first)
    for number in range(4):
        emitter.emit_nowait(event_type=READY, data=number)
    await within(done.wait())
    assert finished == [0, 1, 2, 3]


@pytest.mark.parametrize(("events", "dropped"), [(4, 0), (5, 1)])
async def test_what_waits_for_a_handler_is_bounded_and_counted(
    caplog: pytest.LogCaptureFixture, events: int, dropped: int
) -> None:
    emitter = EventEmitter(max_queue_size=3)
    gate, done = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def wait(event: Event) -> None:
        await gate.wait()
        seen.append(event.data)
        if event.data == events - 1:
            done.set()

    emitter.on(event_type=READY, handler=wait)
    emitter.emit_nowait(event_type=READY, data=0)
    await asyncio.sleep(0)  # The first is with its handler now; three may wait.
    before = len(asyncio.all_tasks())
    for number in range(1, events):
        emitter.emit_nowait(event_type=READY, data=number)
    assert len(asyncio.all_tasks()) == before
    assert emitter.get_stats()["dropped_events"] == dropped
    gate.set()
    await within(done.wait())
    assert seen == [0, *range(1 + dropped, events)]
    assert len(caplog.records) == dropped


async def test_a_flood_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    emitter = EventEmitter(max_queue_size=1)
    emitter.on(event_type=READY, handler=lambda event: None)
    for number in range(100):
        emitter.emit_nowait(event_type=READY, data=number)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert emitter.get_stats()["dropped_events"] == 99
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_flood_of_datagrams_makes_no_tasks(site: MakeSite) -> None:
    pair = await (await site()).pair()
    arrivals = await pair.server.create_datagram_transport()
    gate, seen = asyncio.Event(), asyncio.Event()

    async def wait(event: Event) -> None:
        seen.set()
        await gate.wait()

    arrivals.on(event_type=EventType.DATAGRAM_RECEIVED, handler=wait)
    sending = await pair.client.create_datagram_transport()
    await sending.send(data=b"first")
    await within(seen.wait())
    before = len(asyncio.all_tasks())
    for number in range(3000):
        await sending.send(data=b"%d" % number)
    # Datagrams may be lost; what counts is that many more came than wait.
    async with asyncio.timeout(10):
        while not arrivals.get_stats()["dropped_events"]:
            await sending.send(data=b"more")
    assert len(asyncio.all_tasks()) <= before
    assert arrivals.get_stats()["queued_events"] == 1000
    gate.set()
    async with asyncio.timeout(10):
        while arrivals.get_stats()["queued_events"]:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_the_end_of_a_session_is_its_last_event(site: MakeSite) -> None:
    pair = await (await site()).pair()
    kinds: list[str] = []
    done = asyncio.Event()

    async def slow(event: Event) -> None:
        await asyncio.sleep(0.01)
        kinds.append(event.type)
        if event.type is EventType.SESSION_CLOSED:
            done.set()

    pair.server.on_any(handler=slow)
    stream = await pair.client.create_bidirectional_stream()
    await stream.write(data=b"x")
    far = await within(pair.server.accept_bidirectional_stream())
    await within(far.read())
    await pair.client.close()
    await within(done.wait())
    assert kinds[0] is EventType.STREAM_OPENED
    assert kinds[-1] is EventType.SESSION_CLOSED


async def test_a_handler_may_close_its_session(site: MakeSite) -> None:
    pair = await (await site()).pair()
    closed = asyncio.Event()

    async def close(event: Event) -> None:
        await pair.client.close()
        closed.set()

    told: list[Event] = []
    pair.client.on(event_type=EventType.STREAM_OPENED, handler=close)
    pair.client.on(event_type=EventType.SESSION_CLOSED, handler=told.append)
    await pair.client.create_bidirectional_stream()
    await within(closed.wait(), 2.0)
    await within(pair.client.wait_closed())
    assert len(told) == 1


def test_nothing_is_remembered_unless_asked_for() -> None:
    emitter = EventEmitter()
    emitter.emit_nowait(event_type=READY, data=1)
    assert emitter.get_event_history() == []
    asked = EventEmitter(max_history=1)
    asked.emit_nowait(event_type=READY, data=1, source=asked)
    asked.emit_nowait(event_type=READY, data=2, source=asked)
    assert [(event.data, event.source) for event in asked.get_event_history()] == [(2, asked)]


def test_a_type_of_ones_own_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        Event(type="a_type_of_my_own")
    assert len(caplog.records) == 1
