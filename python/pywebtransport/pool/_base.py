"""What the three pools share: slots, idle objects, waiters."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Generic, Self, TypeVar

from pywebtransport.utils import get_logger

T = TypeVar("T")

logger = get_logger(name="pywebtransport.pool")


class ObjectPool(Generic[T]):
    """At most ``max_size`` objects out at once; returned ones are kept and reused, oldest first.

    An object that is no longer whole, idle or out, is closed and never handed out again.

    Args:
        max_size: Of objects that are out.
        create: Makes an object.
        close: Closes one; also told whether an exception has left it in the middle of something.
        is_whole: Whether one can be used as if it were new.
        forget: Takes off one that comes back what its user has put on it.

    Raises:
        ValueError: ``max_size`` is not positive.
    """

    def __init__(
        self,
        *,
        max_size: int,
        create: Callable[[], Awaitable[T]],
        close: Callable[[T, bool], Awaitable[None]],
        is_whole: Callable[[T], bool],
        forget: Callable[[T], None] = lambda _: None,
    ) -> None:
        if max_size <= 0:
            raise ValueError(f"max_size must be positive, got {max_size}")
        self._max_size = max_size
        self._create = create
        self._close_object = close
        self._is_whole = is_whole
        self._forget = forget
        self._slots_taken = 0
        self._idle: deque[T] = deque()
        self._out: dict[int, T] = {}
        """By ``id``, since an object need not be hashable."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._burials: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        """The pool; leaving closes it."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close the pool."""
        await self.close()

    async def acquire(self) -> T:
        """The oldest idle object, or a new one; waits for a slot while ``max_size`` are out.

        Raises RuntimeError when the pool is closed, also while waiting. What the creation of an
        object raises passes through, and its slot is free again. Cancelling frees the slot.
        """
        await self._take_slot()
        try:
            obj = await self._idle_or_new()
        except BaseException:
            self._free_slot()
            raise
        self._out[id(obj)] = obj
        return obj

    def get(self) -> AbstractAsyncContextManager[T]:
        """``async with pool.get() as obj``: acquire, and release.

        Left by an exception, a cancellation for one, the object is closed instead: nobody knows
        what state it is in, and an answer may still be on its way to who has given up.
        """
        return self._borrow()

    async def close(self) -> None:
        """Close idle objects and fail waiters with RuntimeError. Idempotent.

        Objects that are out are closed when they come back.
        """
        self._closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(self._closed_error())
        idle = list(self._idle)
        self._idle.clear()
        await asyncio.gather(*(self._discard(obj) for obj in idle), *self._burials)

    async def _give_back(self, obj: T, *, is_spoilt: bool = False) -> None:
        """An object comes back: kept when it is whole and the pool open."""
        if self._out.pop(id(obj), None) is None:
            logger.warning("%r was released twice, or is not of this %s", obj, type(self).__name__)
            return
        try:
            if self._closed:
                await self._discard(obj, is_spoilt)
            elif is_spoilt or not self._is_whole(obj):
                self._bury(obj, is_spoilt)
            else:
                self._forget(obj)
                self._idle.append(obj)
        finally:
            self._free_slot()

    async def _idle_or_new(self) -> T:
        while self._idle:
            candidate = self._idle.popleft()
            if self._is_whole(candidate):
                return candidate
            self._bury(candidate)
        created = await self._create()
        if self._closed:
            await self._discard(created)
            raise self._closed_error()
        return created

    def _bury(self, obj: T, is_spoilt: bool = False) -> None:
        """An object is not whole; it is closed with what belongs to it, which nobody waits for."""
        task = asyncio.create_task(self._discard(obj, is_spoilt))
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _discard(self, obj: T, is_spoilt: bool = False) -> None:
        try:
            await self._close_object(obj, is_spoilt)
        except Exception as error:
            logger.warning("closing a pooled object failed: %s", error)

    @asynccontextmanager
    async def _borrow(self) -> AsyncIterator[T]:
        obj = await self.acquire()
        is_spoilt = True
        try:
            yield obj
            is_spoilt = False
        finally:
            await self._give_back(obj, is_spoilt=is_spoilt)

    async def _take_slot(self) -> None:
        if self._closed:
            raise self._closed_error()
        if self._slots_taken < self._max_size:
            self._slots_taken += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # The slot was handed over in the same turn in which the wait was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._free_slot()
            raise

    def _free_slot(self) -> None:
        """Hand the slot to the longest waiter, or give it up."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._slots_taken -= 1

    def _closed_error(self) -> RuntimeError:
        return RuntimeError(f"{type(self).__name__} is closed")
