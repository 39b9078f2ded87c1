"""Registers of connections, sessions and streams."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, cast

import pytest

from pywebtransport._link.ends import Ending
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import ConnectionError, SessionError, StreamError
from pywebtransport.manager import ConnectionManager, SessionManager, StreamManager
from pywebtransport.manager import stream as stream_module
from pywebtransport.types import (
    ConnectionState,
    SessionState,
    StreamDirection,
    StreamState,
)

INTERVAL = 0.002
"""Of timers under test; the tests wait for what they cause, not for time to pass."""


class Closable(Ending, EventEmitter):
    """A member that tells of its end, as connections, sessions and streams do."""

    open_state: Any
    closed_state: Any

    def __init__(self, name: Any) -> None:
        super().__init__()
        self._registers = None
        self.name = name
        self.state = self.open_state
        self.close_calls: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.closed = asyncio.Event()
        self.released = asyncio.Event()

    def _leave(self, register: Any) -> None:
        super()._leave(register)
        self.released.set()

    @property
    def is_closed(self) -> bool:
        return bool(self.state == self.closed_state)

    def end_silently(self) -> None:
        self.state = self.closed_state

    async def close(self, **kwargs: Any) -> None:
        self.close_calls.append(kwargs)
        self.state = self.closed_state
        self._leave_all()
        self.closed.set()
        if self.failure is not None:
            raise self.failure


class Connection(Closable):
    open_state = ConnectionState.CONNECTED
    closed_state = ConnectionState.CLOSED
    is_closing = False
    last_activity_time = 0.0

    @property
    def connection_id(self) -> str:
        return str(self.name)


class Session(Closable):
    open_state = SessionState.CONNECTED
    closed_state = SessionState.CLOSED

    @property
    def session_id(self) -> str:
        return str(self.name)


class Stream(Closable):
    open_state = StreamState.OPEN
    closed_state = StreamState.CLOSED
    direction = StreamDirection.BIDIRECTIONAL

    def __init__(self, *, stream_id: int, session: Any = None) -> None:
        super().__init__(stream_id)
        self.session = session

    @property
    def stream_id(self) -> int:
        return int(self.name)


class SendStream(Stream):
    direction = StreamDirection.SEND_ONLY


class Kind:
    """One of the managers, with its members, so that what they share is tested once."""

    def __init__(self, manager: Any, make: Callable[[int], Any], error: type[Exception]) -> None:
        self.manager = manager
        self.make = make
        self.error = error

    def add(self, member: Any) -> Awaitable[Any]:
        if isinstance(self.manager, ConnectionManager):
            return self.manager.add_connection(connection=member)
        if isinstance(self.manager, SessionManager):
            return self.manager.add_session(session=member)
        return cast(StreamManager, self.manager).add_stream(stream=member)

    def remove(self, member: Any) -> Awaitable[Any]:
        if isinstance(self.manager, ConnectionManager):
            return self.manager.remove_connection(connection_id=member.connection_id)
        if isinstance(self.manager, SessionManager):
            return self.manager.remove_session(session_id=member.session_id)
        return cast(StreamManager, self.manager).remove_stream(stream_id=member.stream_id)


def key(member: Any) -> Any:
    return member.name


async def no_factory(is_unidirectional: bool) -> int:
    raise AssertionError("not to be called")


def connections(**kwargs: Any) -> Kind:
    return Kind(ConnectionManager(**kwargs), lambda i: Connection(f"c{i}"), ConnectionError)


def sessions(**kwargs: Any) -> Kind:
    return Kind(SessionManager(**kwargs), lambda i: Session(f"s{i}"), SessionError)


def streams(**kwargs: Any) -> Kind:
    manager = StreamManager(
        stream_factory=no_factory, session_factory=cast(Any, lambda: None), **kwargs
    )
    return Kind(manager, lambda i: Stream(stream_id=i), StreamError)


KINDS = [connections, sessions, streams]


@pytest.mark.parametrize("kind_of", KINDS)
async def test_before_entering(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    with pytest.raises(kind.error, match="has not been activated"):
        await kind.add(kind.make(1))
    assert len(kind.manager) == 0
    assert await kind.manager.get_stats() == {}
    assert await kind.manager.get_all_resources() == []
    assert await kind.manager.get_resource(resource_id="x") is None
    assert await kind.manager.cleanup_closed_resources() == 0
    assert await kind.remove(kind.make(1)) is None
    await kind.manager.shutdown()


@pytest.mark.parametrize("kind_of", KINDS)
async def test_add_find_remove(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager as manager:
        first, second = kind.make(1), kind.make(2)
        for member in (first, second, first):
            await kind.add(member)
        await manager.add_resource(resource=second)
        assert len(manager) == 2
        assert await manager.get_all_resources() == [first, second]
        assert await manager.get_resource(resource_id=key(second)) is second
        assert await kind.remove(first) is first
        assert await kind.remove(first) is None
        assert first.close_calls == []
        assert await manager.get_all_resources() == [second]
        stats = await manager.get_stats()
        assert (stats["total_created"], stats["total_closed"]) == (2, 1)
        assert (stats["current_count"], stats["max_concurrent"], stats["active"]) == (1, 2, 1)
        assert stats["states"] == {second.state: 1}


@pytest.mark.parametrize("kind_of", KINDS)
async def test_a_member_that_ends_leaves(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager as manager:
        member = kind.make(1)
        await kind.add(member)
        await member.close()
        assert len(manager) == 0
        assert not member._registers
        assert (await manager.get_stats())["total_closed"] == 1


@pytest.mark.parametrize("kind_of", KINDS)
async def test_a_member_that_had_ended_does_not_stay(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager as manager:
        member = kind.make(1)
        member.end_silently()
        await kind.add(member)
        assert len(manager) == 0
        stats = await manager.get_stats()
        assert (stats["total_created"], stats["total_closed"], stats["states"]) == (1, 1, {})
        assert not member._registers


@pytest.mark.parametrize("kind_of", KINDS)
async def test_removed_member_is_not_watched_any_more(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager as manager:
        member = kind.make(1)
        await kind.add(member)
        await kind.remove(member)
        assert not member._registers
        await kind.add(member)
        assert len(manager) == 1


@pytest.mark.parametrize("kind_of", KINDS)
async def test_removed_member_is_not_kept_alive(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager:
        member = kind.make(1)
        seen = weakref.ref(member)
        await kind.add(member)
        await kind.remove(member)
        del member
        assert seen() is None


@pytest.mark.parametrize("kind_of", KINDS)
async def test_sweep_forgets_members_that_had_ended(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager as manager:
        members = [kind.make(i) for i in range(3)]
        for member in members:
            await kind.add(member)
        members[1].end_silently()
        assert (await manager.get_stats())["active"] == 2
        assert await manager.cleanup_closed_resources() == 1
        assert await manager.get_all_resources() == [members[0], members[2]]
        assert await manager.cleanup_closed_resources() == 0


SWEPT: list[Callable[[], Kind]] = [
    lambda: connections(connection_cleanup_interval=INTERVAL),
    lambda: sessions(session_cleanup_interval=INTERVAL),
    lambda: streams(stream_cleanup_interval=INTERVAL),
]


@pytest.mark.parametrize("kind", SWEPT)
async def test_sweep_runs_on_a_timer(kind: Callable[[], Kind]) -> None:
    swept = kind()
    async with swept.manager as manager:
        member = swept.make(1)
        await swept.add(member)
        member.end_silently()
        async with asyncio.timeout(10):
            await member.released.wait()
        assert len(manager) == 0


def test_a_loop_that_ends_before_its_managers_says_nothing() -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    kinds = [connections(), sessions(), streams()]
    for kind in kinds:
        loop.run_until_complete(kind.manager.__aenter__())
    loop.close()
    del kinds, kind
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("kind_of", KINDS)
async def test_leaving_closes_all_and_logs_failures(
    kind_of: Callable[[], Kind], caplog: pytest.LogCaptureFixture
) -> None:
    kind = kind_of()
    members = [kind.make(i) for i in range(3)]
    members[1].failure = RuntimeError("close is broken")
    async with kind.manager as manager:
        for member in members:
            await kind.add(member)
    assert all(len(member.close_calls) == 1 for member in members)
    assert "close is broken" in caplog.text
    assert len(manager) == 0
    assert (await manager.get_stats())["total_closed"] == 3
    await manager.shutdown()
    assert all(len(member.close_calls) == 1 for member in members)


@pytest.mark.parametrize("kind_of", KINDS)
async def test_shutdown_closes_at_the_same_time(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    meeting = asyncio.Barrier(3)

    async with asyncio.timeout(10):
        async with kind.manager:
            for i in range(3):
                member = kind.make(i)

                async def close(**kwargs: Any) -> None:
                    await meeting.wait()

                member.close = close
                await kind.add(member)


@pytest.mark.parametrize("kind", SWEPT)
async def test_nothing_is_left_running(
    kind: Callable[[], Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    manager = kind().manager
    sweeps: list[asyncio.Task[Any] | None] = []
    began = asyncio.Event()

    async def sweep_for_ever() -> None:
        sweeps.append(asyncio.current_task())
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return  # ended all the same, and not begun again

    monkeypatch.setattr(manager, "cleanup_closed_resources", sweep_for_ever)
    async with manager:
        assert asyncio.all_tasks() == before
        async with asyncio.timeout(10):
            await began.wait()
        began.clear()
    assert asyncio.all_tasks() == before
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * INTERVAL):
            await began.wait()
    assert len(sweeps) == 1


@pytest.mark.parametrize("kind", SWEPT)
async def test_a_check_that_is_cancelled_comes_again(
    kind: Callable[[], Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = kind().manager
    again = asyncio.Event()
    checks = iter([asyncio.CancelledError])

    async def check() -> None:
        for cancelled in checks:
            raise cancelled
        again.set()

    monkeypatch.setattr(manager, "cleanup_closed_resources", check)
    async with manager, asyncio.timeout(10):
        await again.wait()


@pytest.mark.parametrize("kind_of", KINDS)
async def test_can_be_entered_again(kind_of: Callable[[], Kind]) -> None:
    kind = kind_of()
    async with kind.manager:
        await kind.add(kind.make(1))
    with pytest.raises(kind.error, match="has not been activated"):
        await kind.add(kind.make(2))
    async with kind.manager as manager:
        await kind.add(kind.make(2))
        assert len(manager) == 1


@pytest.mark.parametrize(
    ("kind_of", "text"),
    [
        (lambda: connections(max_connections=2), r"Maximum connections \(2\) exceeded"),
        (lambda: sessions(max_sessions=2), r"Maximum sessions \(2\) exceeded"),
    ],
)
async def test_limit(kind_of: Callable[[], Kind], text: str) -> None:
    kind = kind_of()
    async with kind.manager as manager:
        first = kind.make(1)
        await kind.add(first)
        await kind.add(kind.make(2))
        with pytest.raises(kind.error, match=text):
            await kind.add(kind.make(3))
        await kind.add(first)
        await kind.remove(first)
        await kind.add(kind.make(3))
        assert len(manager) == 2


@pytest.mark.parametrize(
    ("kind_of", "name", "limit"),
    [
        (connections, "max_connections", 3000),
        (sessions, "max_sessions", 10000),
        (streams, "max_streams", 100),
    ],
)
async def test_default_limits(kind_of: Callable[[], Kind], name: str, limit: int) -> None:
    async with kind_of().manager as manager:
        stats = await manager.get_stats()
    assert (stats[name], stats["states"]) == (limit, {})


# connections


async def test_idle_connections_are_closed() -> None:
    kind = connections(connection_idle_check_interval=INTERVAL, connection_idle_timeout=60.0)
    async with kind.manager as manager:
        idle, fresh, unused, closing = (kind.make(i) for i in range(4))
        idle.last_activity_time = closing.last_activity_time = time.time() - 61
        fresh.last_activity_time = time.time()
        closing.is_closing = True
        for connection in (fresh, unused, closing, idle):
            await kind.add(connection)
        async with asyncio.timeout(10):
            await idle.closed.wait()
        assert idle.close_calls == [{"reason": "Idle timeout"}]
        assert await manager.get_all_resources() == [fresh, unused, closing]


async def test_failing_idle_close_does_not_stop_the_checks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind = connections(connection_idle_check_interval=INTERVAL, connection_idle_timeout=60.0)
    async with kind.manager:
        for number in range(2):
            connection = kind.make(number)
            connection.last_activity_time = 1.0
            connection.failure = RuntimeError("close is broken")
            await kind.add(connection)
            async with asyncio.timeout(10):
                await connection.closed.wait()
    assert "close is broken" in caplog.text


@pytest.mark.parametrize("timeout", [0, -1.0])
async def test_idle_check_can_be_off(timeout: float) -> None:
    async with connections(connection_idle_timeout=timeout).manager as manager:
        assert len(manager._timers) == 1
    async with connections().manager as manager:
        assert len(manager._timers) == 2


# sessions


async def test_sessions_by_state() -> None:
    kind = sessions()
    assert await kind.manager.get_sessions_by_state(state=SessionState.CONNECTED) == []
    async with kind.manager as manager:
        ready, waiting = kind.make(1), kind.make(2)
        waiting.state = SessionState.CONNECTING
        await kind.add(ready)
        await kind.add(waiting)
        assert await manager.get_sessions_by_state(state=SessionState.CONNECTED) == [ready]
        assert await manager.get_sessions_by_state(state=SessionState.CLOSING) == []
        states = (await manager.get_stats())["states"]
        assert states == {SessionState.CONNECTED: 1, SessionState.CONNECTING: 1}


async def test_sessions_leave_their_connection_open() -> None:
    kind = sessions()
    session = kind.make(1)
    async with kind.manager:
        await kind.add(session)
    assert session.close_calls == [{"close_connection": False}]


# streams


class Opener:
    """A stream factory whose answers and failures a test decides."""

    def __init__(self) -> None:
        self.ids = count(0, 4)
        self.calls: list[bool] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, is_unidirectional: bool) -> int:
        self.calls.append(is_unidirectional)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return next(self.ids)


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Opener:
    monkeypatch.setattr(stream_module, "WebTransportStream", Stream)
    monkeypatch.setattr(stream_module, "WebTransportSendStream", SendStream)
    return Opener()


def opening(opener: Opener, max_streams: int) -> StreamManager:
    return StreamManager(
        stream_factory=opener,
        session_factory=cast(Any, lambda: "the session"),
        max_streams=max_streams,
    )


async def test_streams_are_made_by_the_factory(opener: Opener) -> None:
    async with opening(opener, 2) as manager:
        both = await manager.create_bidirectional_stream()
        sending = await manager.create_unidirectional_stream()
        assert opener.calls == [False, True]
        assert (both.stream_id, sending.stream_id) == (0, 4)
        assert cast(Any, both.session) == "the session"
        assert await manager.get_resource(resource_id=4) is sending
        stats = await manager.get_stats()
        assert stats["directions"] == {
            StreamDirection.BIDIRECTIONAL: 1,
            StreamDirection.SEND_ONLY: 1,
        }
        assert (stats["max_streams"], stats["semaphore_value"]) == (2, 0)
        assert stats["semaphore_locked"] is True


async def test_creating_before_entering(opener: Opener) -> None:
    manager = opening(opener, 2)
    with pytest.raises(StreamError, match="has not been activated"):
        await manager.create_bidirectional_stream()
    assert opener.calls == []


async def test_no_slot_is_an_error_at_once(opener: Opener) -> None:
    async with opening(opener, 1) as manager:
        await manager.create_bidirectional_stream()
        with pytest.raises(StreamError, match="no free slot: 1 "):
            await manager.create_unidirectional_stream()
        assert opener.calls == [False]


async def test_a_stream_being_opened_holds_a_slot(opener: Opener) -> None:
    opener.gate.clear()
    async with opening(opener, 1) as manager:
        first = asyncio.create_task(manager.create_bidirectional_stream())
        await asyncio.sleep(0)
        with pytest.raises(StreamError, match="no free slot"):
            await manager.create_bidirectional_stream()
        opener.gate.set()
        assert (await first).stream_id == 0


@pytest.mark.parametrize("how", ["told", "remove", "cleanup", "cleanup_streams"])
async def test_slots_are_freed(opener: Opener, how: str) -> None:
    async with opening(opener, 1) as manager:
        for _ in range(3):
            stream = cast(Stream, await manager.create_bidirectional_stream())
            if how == "told":
                await stream.close()
            elif how == "remove":
                await manager.remove_stream(stream_id=stream.stream_id)
            else:
                stream.end_silently()
            if how == "cleanup":
                assert await manager.cleanup_closed_resources() == 1
            elif how == "cleanup_streams":
                assert await manager.cleanup_closed_streams() == 1
        assert (await manager.get_stats())["semaphore_value"] == 1


async def test_failing_and_cancelled_factories_free_their_slots(opener: Opener) -> None:
    async with opening(opener, 1) as manager:
        opener.failure = ValueError("factory is broken")
        with pytest.raises(ValueError, match="factory is broken"):
            await manager.create_bidirectional_stream()
        opener.failure = None
        opener.gate.clear()
        task = asyncio.create_task(manager.create_bidirectional_stream())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        opener.gate.set()
        assert (await manager.get_stats())["semaphore_value"] == 1
        await manager.create_bidirectional_stream()


async def test_added_streams_take_no_slot(opener: Opener) -> None:
    async with opening(opener, 1) as manager:
        for number in range(1, 6, 4):
            await manager.add_stream(stream=cast(Any, Stream(stream_id=number)))
        assert (await manager.get_stats())["semaphore_value"] == 1
        await manager.create_bidirectional_stream()
        assert len(manager) == 3


async def test_shutdown_while_a_stream_is_opened(opener: Opener) -> None:
    opener.gate.clear()
    manager = opening(opener, 1)
    async with manager:
        task = asyncio.create_task(manager.create_bidirectional_stream())
        await asyncio.sleep(0)
    opener.gate.set()
    with pytest.raises(StreamError, match="has not been activated"):
        await task
    assert await manager.cleanup_closed_streams() == 0
    async with manager:
        await manager.create_bidirectional_stream()


async def test_membership_and_iteration(opener: Opener) -> None:
    async with opening(opener, 3) as manager:
        made = [await manager.create_bidirectional_stream() for _ in range(2)]
        assert 4 in manager
        assert 8 not in manager
        assert "4" not in manager
        assert made[0] not in manager
        seen = []
        async for stream in manager:
            seen.append(stream)
            await manager.remove_stream(stream_id=stream.stream_id)
        assert seen == made
    assert 4 not in manager


# growth


@pytest.mark.parametrize(("kind_of", "amount"), [(sessions, 10_000), (streams, 100_000)])
async def test_operations_do_not_depend_on_the_number_of_members(
    kind_of: Callable[[], Kind], amount: int
) -> None:
    """Looking at every member takes hundreds of times longer; caches and the collector do not."""
    kind = kind_of()

    async def cost(first: int, number: int) -> float:
        members = [kind.make(first + i) for i in range(number)]
        start = time.perf_counter()
        for member in members:
            await kind.add(member)
        for member in members:
            await kind.manager.get_resource(resource_id=key(member))
            await kind.remove(member)
        return (time.perf_counter() - start) / number

    probe = 500
    async with kind.manager as manager:
        few = min([await cost(amount, probe) for _ in range(5)])
        for number in range(amount - probe):
            await kind.add(kind.make(number))
        many = min([await cost(amount, probe) for _ in range(5)])
        assert len(manager) == amount - probe
        for member in await manager.get_all_resources():
            await kind.remove(member)
    assert many < 20 * few
