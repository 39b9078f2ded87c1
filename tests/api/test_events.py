"""Events and their delivery."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import StreamError
from pywebtransport.types import EventType

READY = EventType.SESSION_READY


class Log:
    """Handlers that write down what they are called with."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def sync(self, event: Event) -> None:
        self.lines.append(f"sync {event.data}")

    async def slow(self, event: Event) -> None:
        await asyncio.sleep(0)
        self.lines.append(f"slow {event.data}")

    def wild(self, event: Event) -> None:
        self.lines.append(f"wild {event.data}")


@pytest.fixture
def log() -> Log:
    return Log()


# one event


def test_known_type_becomes_a_member_and_an_unknown_one_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert Event(type="session_ready").type is READY
    assert not caplog.records
    assert Event(type="my_event").type == "my_event"
    assert "my_event" in caplog.text


def test_event_has_a_time_and_an_id() -> None:
    first, second = Event(type=READY), Event(type=READY)
    assert first.timestamp <= second.timestamp
    assert first.event_id != second.event_id
    assert uuid.UUID(first.event_id).version == 4


def test_dictionary() -> None:
    event = Event(type=READY, data={"a": 1}, source=ValueError("from"))
    assert event.to_dict() == {
        "id": event.event_id,
        "type": "session_ready",
        "timestamp": event.timestamp,
        "data": {"a": 1},
        "source": "from",
    }
    assert Event(type=READY).to_dict()["source"] is None


def test_text_has_no_payload() -> None:
    assert "secret" not in repr(Event(type=READY, data=b"secret"))


def test_makers_keep_the_dictionary() -> None:
    info = {"id": 1}
    made = [
        Event.for_connection(event_type=EventType.CONNECTION_LOST, connection_info=info),
        Event.for_datagram(event_type=EventType.DATAGRAM_SENT, datagram_info=info),
        Event.for_session(event_type=READY, session_info=info),
        Event.for_stream(event_type=EventType.STREAM_OPENED, stream_info=info),
    ]
    assert all(event.data is info for event in made)
    assert [
        (e.is_connection_event, e.is_datagram_event, e.is_session_event, e.is_stream_event)
        for e in made
    ] == [tuple(i == j for j in range(4)) for i in range(4)]


def test_error_event_describes_the_error() -> None:
    error = StreamError("gone", stream_id=4)
    event = Event.for_error(error=error, source="here")
    assert event.type is EventType.PROTOCOL_ERROR
    assert event.is_error_event
    assert event.source == "here"
    assert event.data == {
        "error_type": "StreamError",
        "error_message": str(error),
        "error_details": error.to_dict(),
    }
    assert Event.for_error(error=ValueError("odd")).data["error_details"] == {}


# listeners


async def test_order_is_persistent_then_once_then_every(log: Log) -> None:
    emitter = EventEmitter()
    emitter.on_any(handler=log.wild)
    emitter.once(event_type=READY, handler=log.sync)
    emitter.on(event_type="session_ready", handler=log.slow)
    await emitter.emit(event_type=READY, data=1)
    await emitter.emit(event_type="session_ready", data=2)
    assert log.lines == ["slow 1", "sync 1", "wild 1", "slow 2", "wild 2"]


async def test_handler_is_registered_once_for_a_type(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    emitter = EventEmitter()
    for _ in range(2):
        emitter.on(event_type=READY, handler=log.sync)
        emitter.once(event_type=READY, handler=log.sync)
        emitter.on_any(handler=log.wild)
    assert emitter.listeners(event_type=READY) == [log.sync, log.sync]
    assert emitter.listener_count(event_type=READY) == 2
    assert "already registered" in caplog.text
    await emitter.emit(event_type=READY)
    assert log.lines == ["sync None", "sync None", "wild None"]


async def test_once_is_removed_before_it_is_called() -> None:
    emitter = EventEmitter()
    seen: list[int] = []

    async def again(event: Event) -> None:
        seen.append(emitter.listener_count(event_type=READY))
        if len(seen) == 1:
            await emitter.emit(event_type=READY)

    emitter.once(event_type=READY, handler=again)
    await emitter.emit(event_type=READY)
    assert seen == [0]


async def test_handler_may_register_and_remove_during_an_event(log: Log) -> None:
    emitter = EventEmitter()

    def change(event: Event) -> None:
        emitter.off(event_type=READY, handler=change)
        emitter.on(event_type=READY, handler=log.sync)

    emitter.on(event_type=READY, handler=change)
    await emitter.emit(event_type=READY, data=1)
    await emitter.emit(event_type=READY, data=2)
    assert log.lines == ["sync 2"]


async def test_failing_handler_is_logged_and_the_others_run(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise ValueError("handler is broken")

    emitter = EventEmitter()
    emitter.on(event_type=READY, handler=fail)
    emitter.on(event_type=READY, handler=log.slow)
    await emitter.emit(event_type=READY, data=1)
    assert log.lines == ["slow 1"]
    assert "handler is broken" in caplog.text


async def test_handler_that_waits_for_something_cancelled_has_failed(
    log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait(event: Event) -> None:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    emitter = EventEmitter()
    emitter.on(event_type=READY, handler=wait)
    emitter.on(event_type=READY, handler=log.sync)
    await emitter.emit(event_type=READY, data=1)
    assert log.lines == ["sync 1"]
    assert "failed at session_ready" in caplog.text


async def test_cancelled_emit_ends() -> None:
    started = asyncio.Event()

    async def block(event: Event) -> None:
        started.set()
        await asyncio.Event().wait()

    emitter = EventEmitter()
    emitter.on(event_type=READY, handler=block)
    emitting = asyncio.create_task(emitter.emit(event_type=READY))
    await started.wait()
    emitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await emitting


def test_off(log: Log) -> None:
    emitter = EventEmitter()
    emitter.off(event_type=READY, handler=log.sync)
    emitter.on(event_type=READY, handler=log.sync)
    emitter.once(event_type=READY, handler=log.sync)
    emitter.on(event_type=READY, handler=log.slow)
    emitter.off(event_type=READY, handler=log.wild)
    emitter.off(event_type=READY, handler=log.sync)
    assert emitter.listeners(event_type=READY) == [log.slow]
    emitter.off(event_type=READY)
    assert emitter.listeners(event_type=READY) == []


def test_off_any(log: Log) -> None:
    emitter = EventEmitter()
    emitter.off_any(handler=log.wild)
    emitter.on_any(handler=log.wild)
    emitter.on_any(handler=log.sync)
    emitter.off_any(handler=log.wild)
    assert emitter.get_stats()["wildcard_handlers"] == 1
    emitter.off_any()
    assert emitter.get_stats()["wildcard_handlers"] == 0


def test_remove_all_listeners(log: Log) -> None:
    emitter = EventEmitter()
    emitter.on(event_type=READY, handler=log.sync)
    emitter.on(event_type="other", handler=log.sync)
    emitter.on_any(handler=log.wild)
    emitter.remove_all_listeners(event_type=READY)
    assert emitter.get_stats()["total_handlers"] == 1
    assert emitter.get_stats()["wildcard_handlers"] == 1
    emitter.remove_all_listeners()
    assert emitter.get_stats()["total_handlers"] == emitter.get_stats()["wildcard_handlers"] == 0


def test_a_hundred_listeners_are_not_too_many(caplog: pytest.LogCaptureFixture) -> None:
    emitter = EventEmitter()
    for _ in range(100):
        emitter.on(event_type=READY, handler=Log().sync)
    assert not caplog.records
    emitter.on(event_type=READY, handler=Log().sync)
    assert "more than 100 listeners" in caplog.text
    assert emitter.listener_count(event_type=READY) == 101


def test_too_many_listeners_only_warn(caplog: pytest.LogCaptureFixture) -> None:
    emitter = EventEmitter(max_listeners=1)
    for _ in range(2):
        emitter.on(event_type=READY, handler=Log().sync)
    assert emitter.listener_count(event_type=READY) == 2
    assert "more than 1 listeners" in caplog.text
    caplog.clear()
    emitter.set_max_listeners(max_listeners=3)
    emitter.on(event_type=READY, handler=Log().sync)
    assert not caplog.records


# waiting


async def test_wait_for_the_event_that_fits() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(
        emitter.wait_for(event_type=READY, condition=lambda event: event.data == 2)
    )
    await asyncio.sleep(0)
    for number in (1, 2, 3):
        await emitter.emit(event_type=READY, data=number)
    assert (await waiting).data == 2
    assert emitter.listener_count(event_type=READY) == 0


async def test_wait_ends_with_what_the_condition_raises() -> None:
    emitter = EventEmitter()

    def fail(event: Event) -> bool:
        raise KeyError("condition is broken")

    waiting = asyncio.create_task(emitter.wait_for(event_type=READY, condition=fail))
    await asyncio.sleep(0)
    await emitter.emit(event_type=READY)
    with pytest.raises(KeyError, match="condition is broken"):
        await waiting
    assert emitter.listener_count(event_type=READY) == 0


async def test_wait_times_out_with_the_builtin_class() -> None:
    emitter = EventEmitter()
    with pytest.raises(TimeoutError):
        await emitter.wait_for(event_type=READY, timeout=0.001)
    assert emitter.listener_count(event_type=READY) == 0


async def test_cancelled_wait_leaves_no_listener() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(emitter.wait_for(event_type=READY))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert emitter.listener_count(event_type=READY) == 0


# without waiting for the handlers


async def test_emit_nowait_runs_handlers_in_the_background(log: Log) -> None:
    emitter = EventEmitter()
    done = asyncio.Event()
    emitter.on(event_type=READY, handler=log.slow)
    emitter.on(event_type=READY, handler=lambda event: done.set())
    emitter.emit_nowait(event_type=READY, data=1)
    assert log.lines == []
    await done.wait()
    assert log.lines == ["slow 1"]


def test_emit_nowait_needs_no_loop_when_nobody_listens() -> None:
    emitter = EventEmitter(max_history=10)
    emitter.emit_nowait(event_type=READY, data=1)
    assert [event.data for event in emitter.get_event_history()] == [1]


# pausing


async def test_paused_events_are_delivered_in_order(log: Log) -> None:
    emitter = EventEmitter(max_history=10)
    emitter.on(event_type=READY, handler=log.slow)
    emitter.pause()
    await emitter.emit(event_type=READY, data=1)
    emitter.emit_nowait(event_type=READY, data=2)
    stats = emitter.get_stats()
    assert (stats["paused"], stats["queued_events"], stats["history_size"]) == (True, 2, 2)
    assert log.lines == []
    draining = emitter.resume()
    assert draining is not None
    assert emitter.resume() is None
    await draining
    assert log.lines == ["slow 1", "slow 2"]
    assert emitter.resume() is None


async def test_pausing_again_stops_the_delivery(log: Log) -> None:
    emitter = EventEmitter()
    emitter.on(event_type=READY, handler=log.sync)
    emitter.on(event_type=READY, handler=lambda event: emitter.pause())
    emitter.pause()
    for number in (1, 2):
        await emitter.emit(event_type=READY, data=number)
    for line in ("sync 1", "sync 2"):
        draining = emitter.resume()
        assert draining is not None
        await draining
        assert log.lines[-1] == line
    assert emitter.resume() is None


@pytest.mark.parametrize(("events", "dropped"), [(3, 0), (4, 1)])
async def test_paused_queue_is_bounded(
    log: Log, caplog: pytest.LogCaptureFixture, events: int, dropped: int
) -> None:
    emitter = EventEmitter(max_queue_size=3)
    emitter.on(event_type=READY, handler=log.sync)
    emitter.pause()
    for number in range(events):
        await emitter.emit(event_type=READY, data=number)
    draining = emitter.resume()
    assert draining is not None
    await draining
    assert log.lines == [f"sync {number}" for number in range(dropped, events)]
    assert len(caplog.records) == dropped


async def test_close_ends_the_delivery_and_forgets_listeners(log: Log) -> None:
    emitter = EventEmitter()
    blocked = asyncio.Event()

    async def block(event: Event) -> None:
        blocked.set()
        await asyncio.Event().wait()

    emitter.on(event_type=READY, handler=block)
    emitter.pause()
    await emitter.emit(event_type=READY)
    await emitter.emit(event_type=READY)
    draining = emitter.resume()
    assert draining is not None
    await blocked.wait()
    await emitter.close()
    assert draining.cancelled()
    assert emitter.get_stats()["total_handlers"] == emitter.get_stats()["queued_events"] == 0
    await emitter.close()


# history


async def test_history_has_the_newest_last(log: Log) -> None:
    emitter = EventEmitter(max_history=10)
    for number in range(3):
        await emitter.emit(event_type=READY, data=number)
    emitter.on(event_type="session_closed", handler=log.sync)
    await emitter.emit(event_type="session_closed", data=3)
    assert [event.data for event in emitter.get_event_history()] == [0, 1, 2, 3]
    assert [event.data for event in emitter.get_event_history(limit=2)] == [2, 3]
    assert [event.data for event in emitter.get_event_history(event_type=READY, limit=2)] == [1, 2]
    assert emitter.get_event_history(limit=0) == []
    assert emitter.get_event_history()[0] == emitter.get_event_history()[0]
    emitter.clear_history()
    assert emitter.get_event_history() == []


@pytest.mark.parametrize("limit", [0, 2, 1000])
async def test_history_is_bounded(limit: int) -> None:
    emitter = EventEmitter() if limit == 0 else EventEmitter(max_history=limit)
    for number in range(limit + 1):
        await emitter.emit(event_type=READY, data=number)
    assert emitter.get_stats()["history_size"] == limit
    history = emitter.get_event_history(limit=limit)
    assert [event.data for event in history] == list(range(1, limit + 1))


def test_stats_of_a_new_emitter() -> None:
    assert EventEmitter().get_stats() == {
        "total_handlers": 0,
        "total_once_handlers": 0,
        "wildcard_handlers": 0,
        "event_types": 0,
        "history_size": 0,
        "queued_events": 0,
        "dropped_events": 0,
        "paused": False,
    }


# cost


def test_second_constructor_call_changes_nothing(log: Log) -> None:
    class Left(EventEmitter):
        def __init__(self) -> None:
            EventEmitter.__init__(self, max_listeners=1)

    class Both(Left):
        def __init__(self) -> None:
            super().__init__()
            self.on(event_type=READY, handler=log.sync)
            EventEmitter.__init__(self)

    emitter = Both()
    assert emitter.listener_count(event_type=READY) == 1
    assert emitter._max_listeners == 1


def test_an_emitter_without_listeners_allocates_nothing() -> None:
    class Bare(EventEmitter):
        """As a stream: the constructor is never called."""

        def __init__(self) -> None:
            pass

    emitter = Bare()
    assert vars(emitter) == {}
    assert emitter.get_stats()["total_handlers"] == 0
    assert vars(EventEmitter()) == {"_is_emitter": True}
