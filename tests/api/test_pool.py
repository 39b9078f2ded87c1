"""Pools: slots, reuse, waiters, failures. With objects that need no network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.pool import ConnectionPool, SessionPool, StreamPool


class Thing:
    """A connection, session or stream as far as a pool can see."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_closed = False
        self.fails_to_close = False
        self.is_writable = True

    @property
    def is_ready(self) -> bool:
        return not self.is_closed

    is_connected = is_ready

    async def close(self) -> None:
        self.is_closed = True
        if self.fails_to_close:
            raise RuntimeError("cannot close")

    abort = stop_receiving = close

    def _is_whole(self) -> bool:
        return not self.is_closed

    _is_unused = _is_whole

    def _forget_user(self) -> None: ...


class Factory:
    """Stands in for a client (``connect``) and a stream manager (``create_...``)."""

    def __init__(self) -> None:
        self.made: list[Thing] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def connect(self, **_: Any) -> Thing:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.made.append(Thing(len(self.made)))
        return self.made[-1]

    create_bidirectional_stream = connect


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture(params=["session", "stream", "connection"])
def pool(request: pytest.FixtureRequest, factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "session":
        return SessionPool(client=factory, url="https://h/", max_size=2)  # type: ignore[arg-type]
    if request.param == "stream":
        return StreamPool(stream_manager=factory, max_size=2)  # type: ignore[arg-type]
    monkeypatch.setattr(WebTransportConnection, "create_client", factory.connect)
    return ConnectionPool(config=ClientConfig(), host="h", port=1, max_size=2)


async def turns(count: int = 5) -> None:
    """Let everything that can run, run."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [0, -1])
def test_a_pool_needs_room(factory: Factory, size: int) -> None:
    with pytest.raises(ValueError, match=f"max_size must be positive, got {size}"):
        SessionPool(client=factory, url="https://h/", max_size=size)  # type: ignore[arg-type]


async def test_the_oldest_idle_object_is_reused_first(pool: Any, factory: Factory) -> None:
    first, second = await pool.acquire(), await pool.acquire()
    await pool.release(second)
    await pool.release(first)
    assert await pool.acquire() is second
    assert await pool.acquire() is first
    assert len(factory.made) == 2


async def test_acquire_waits_for_a_slot_in_order(pool: Any) -> None:
    first, _ = await pool.acquire(), await pool.acquire()
    waiters = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await turns()
    assert not any(waiter.done() for waiter in waiters)
    await pool.release(first)
    assert await waiters[0] is first
    assert not waiters[1].done()
    await pool.release(first)
    assert await waiters[1] is first


async def test_closed_idle_objects_are_not_handed_out(pool: Any, factory: Factory) -> None:
    thing = await pool.acquire()
    await pool.release(thing)
    await thing.close()
    assert await pool.acquire() is not thing
    assert len(factory.made) == 2


async def test_ended_objects_are_closed_for_what_belongs_to_them(pool: Any) -> None:
    """A session that its peer has ended still has a connection."""
    ended: list[Thing] = []

    def end(thing: Thing) -> None:
        async def close() -> None:
            ended.append(thing)

        thing.is_closed, thing.close = True, close  # type: ignore[method-assign]

    async with pool:
        idle, out = await pool.acquire(), await pool.acquire()
        await pool.release(idle)
        end(idle)
        end(out)
        await pool.release(out)
        assert await pool.acquire() not in (idle, out)
    assert ended == [out, idle]


@pytest.mark.parametrize("is_foreign", [False, True])
async def test_release_of_what_is_not_out_changes_nothing(
    pool: Any, factory: Factory, caplog: pytest.LogCaptureFixture, is_foreign: bool
) -> None:
    first, second = await pool.acquire(), await pool.acquire()
    if not is_foreign:
        await pool.release(first)
    await pool.release(Thing(9) if is_foreign else first)
    assert "released twice" in caplog.text
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(2)]
    await turns()
    assert [task.done() for task in waiting] == [not is_foreign, False], "two are out, no more"
    await pool.release(second)
    await turns()
    assert len(factory.made) == 2
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_failing_factory_frees_its_slot(pool: Any, factory: Factory) -> None:
    factory.error = OSError("no route")
    for _ in range(5):
        with pytest.raises(OSError, match="no route"):
            await pool.acquire()
    factory.error = None
    await asyncio.gather(pool.acquire(), pool.acquire())


async def test_a_waiter_gets_the_slot_of_a_failed_creation(pool: Any, factory: Factory) -> None:
    await pool.acquire()
    factory.gate, factory.error = asyncio.Event(), OSError("no route")
    failing, waiting = asyncio.create_task(pool.acquire()), asyncio.create_task(pool.acquire())
    await turns()
    factory.gate.set()
    with pytest.raises(OSError, match="no route"):
        await failing
    with pytest.raises(OSError, match="no route"):
        await waiting


async def test_cancelling_acquire_leaks_no_slot(pool: Any, factory: Factory) -> None:
    first, _ = await pool.acquire(), await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await turns()
    await pool.release(first)  # hands the slot over; cancelled before it is taken
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.wait_for(pool.acquire(), 1) is first

    await pool.release(first)
    await first.close()
    factory.gate = asyncio.Event()
    creating = asyncio.create_task(pool.acquire())
    await turns()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    factory.gate.set()
    await asyncio.wait_for(pool.acquire(), 1)


async def test_get_releases(pool: Any) -> None:
    async with pool.get() as thing:
        pass
    assert await pool.acquire() is thing


async def test_close_closes_idle_objects_and_wakes_waiters(pool: Any, factory: Factory) -> None:
    out, idle = await pool.acquire(), await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await turns()
    await pool.release(idle)
    got = await waiting
    await pool.release(got)
    blocked = [asyncio.create_task(pool.acquire()) for _ in range(1)]
    taken = await blocked[0]
    waiting = asyncio.create_task(pool.acquire())
    await turns()
    await pool.close()
    await pool.close()
    with pytest.raises(RuntimeError, match="is closed"):
        await waiting
    with pytest.raises(RuntimeError, match="is closed"):
        await pool.acquire()
    for thing in (out, taken):
        assert not thing.is_closed
        await pool.release(thing)
        assert thing.is_closed


async def test_leaving_the_pool_closes_it_even_when_an_object_objects(
    pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool:
        thing = await pool.acquire()
        thing.fails_to_close = True
        await pool.release(thing)
    assert thing.is_closed
    assert "cannot close" in caplog.text


async def test_an_object_created_after_close_is_closed(pool: Any, factory: Factory) -> None:
    factory.gate = asyncio.Event()
    creating = asyncio.create_task(pool.acquire())
    await turns()
    await pool.close()
    factory.gate.set()
    with pytest.raises(RuntimeError, match="is closed"):
        await creating
    assert factory.made[0].is_closed
