"""The receiving side of a datagram transport."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._link.link import Link
from pywebtransport.datagram.statistics import measured
from pywebtransport.exceptions import DatagramError, TimeoutError

__all__ = ["BATCH", "Inbox"]

BATCH = 128
"""Datagrams taken from the engine at once."""


class Inbox:
    """Datagrams that have arrived, and the tasks that wait for one.

    Those of a session stay in its engine, which bounds them, until somebody wants one; then a batch
    comes here. What is put here otherwise is bounded by ``limit``; the oldest makes room.
    """

    __slots__ = (
        "_bytes",
        "_control_id",
        "_count",
        "_link",
        "_pulled_at",
        "dropped",
        "ended",
        "errors",
        "is_closed",
        "is_readable",
        "largest",
        "limit",
        "max_wait",
        "queue",
        "receivers",
        "smallest",
        "times",
        "total_wait",
    )

    def __init__(self, *, limit: int, link: Link | None = None, control_id: int = -1) -> None:
        self._link = link
        self._control_id = control_id
        self.queue: list[bytes] = []
        """Newest first, so that the oldest is popped."""
        self.times: list[float] | None = None
        """When each of the queue came here; None: all of them at ``_pulled_at``."""
        self._pulled_at = 0.0
        self._count = 0
        """Datagrams and bytes that have come here; what still waits is not received."""
        self._bytes = 0
        self.receivers: list[asyncio.Future[None]] = []
        self.is_readable = link is not None
        """False from the engine's "none" to its notification."""
        self.is_closed = False
        self.ended: Callable[[], DatagramError] = closed_here
        """What is raised once it is closed and empty."""
        self.limit = limit
        self.dropped = 0
        self.errors = 0
        self.smallest: float = inf
        self.largest = 0
        self.total_wait = 0.0
        self.max_wait = 0.0

    def __len__(self) -> int:
        return len(self.queue)

    @property
    def received(self) -> int:
        """Datagrams that the application has taken."""
        return self._count - len(self.queue)

    @property
    def bytes_received(self) -> int:
        """Bytes that the application has taken."""
        return self._bytes - sum(map(len, self.queue))

    @property
    def arrived_at(self) -> float:
        """When the next to be taken came here, as ``time.time()`` gives it."""
        return self.times[-1] if self.times else self._pulled_at

    def take(self) -> bytes | None:
        """The next datagram; None when there is none."""
        if not self.queue and not (self.is_readable and self.pull(BATCH)):
            return None
        if self.times:
            self.times.pop()
        return self.queue.pop()

    def take_several(self, count: int) -> list[bytes]:
        """The next datagrams, up to ``count``; none when there are none."""
        taken: list[bytes] = []
        while left := count - len(taken):
            if not self.queue and not (self.is_readable and self.pull(min(left, BATCH))):
                break
            part = self.queue[-left:]
            del self.queue[-left:]
            if self.times:
                del self.times[-left:]
            part.reverse()
            taken += part
        return taken

    def wait(
        self, timeout: float | None, loop: asyncio.AbstractEventLoop
    ) -> Coroutine[Any, Any, None]:
        """Until :meth:`take` gives something. ``loop`` is the one that can bring it.

        Raises:
            TimeoutError: Not within ``timeout`` seconds.
            DatagramError: The transport is closed, and nothing is left.
        """
        # No coroutine around the one that waits: each is held as long as nothing comes.
        return self._arrival(loop) if timeout is None else self._arrival_within(timeout, loop)

    async def _arrival_within(self, timeout: float, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._arrival(loop)
        except builtins.TimeoutError:
            self.errors += 1
            raise TimeoutError(
                f"no datagram within {timeout} s",
                timeout_duration=timeout,
                operation="receive datagram",
            ) from None

    async def _arrival(self, loop: asyncio.AbstractEventLoop) -> None:
        started = loop.time()
        while not self.queue and not (self.is_readable and self.pull(BATCH)):
            if self.is_closed:
                raise self.ended()
            future: asyncio.Future[None] = loop.create_future()
            self.receivers.append(future)
            try:
                await future
            except asyncio.CancelledError:
                if future in self.receivers:
                    self.receivers.remove(future)
                else:
                    # It had been woken: the datagram is for somebody else.
                    self.wake()
                raise
        waited = loop.time() - started
        self.total_wait += waited
        if waited > self.max_wait:
            self.max_wait = waited

    def put(self, datagrams: list[bytes]) -> None:
        """Queue what has arrived, oldest first, and wake a receiver."""
        if self.times is None:
            self.times = [self._pulled_at] * len(self.queue)
        self.times[:0] = [time.time()] * len(datagrams)
        self.queue[:0] = reversed(datagrams)
        self._measure(datagrams)
        surplus = len(self.queue) - self.limit
        if surplus > 0:
            self._count -= surplus
            self._bytes -= sum(map(len, self.queue[-surplus:]))
            del self.queue[-surplus:], self.times[-surplus:]
            self.dropped += surplus
        self.wake()

    def count(self, datagrams: list[bytes]) -> None:
        """Received, but by somebody above; they do not come here."""
        if datagrams:
            self._measure(datagrams)

    def pull(self, count: int) -> bool:
        """Take up to ``count`` datagrams from the engine."""
        datagrams = self._engine_datagrams(count)
        if not datagrams:
            return False
        self._measure(datagrams)
        if self.queue:
            if self.times is None:
                self.times = [self._pulled_at] * len(self.queue)
            self.times[:0] = [time.time()] * len(datagrams)
            self.queue[:0] = reversed(datagrams)
        else:
            datagrams.reverse()
            self.queue = datagrams
            self.times = None
            self._pulled_at = time.time()
        return True

    def pull_to_limit(self) -> int:
        """Take what the engine has, up to the limit; how many wait here then."""
        while self.is_readable and len(self.queue) < self.limit:
            self.pull(self.limit - len(self.queue))
        return len(self.queue)

    def receive_new(self) -> list[bytes]:
        """A batch from the engine that is not queued here."""
        return self._engine_datagrams(BATCH)

    def clear(self) -> int:
        """Drop everything; how many that were."""
        count = 0
        while self.queue or (self.is_readable and self.pull(BATCH)):
            count += len(self.queue)
            self._forget()
        return count

    def wake(self) -> None:
        """Let the next receiver look."""
        while self.receivers:
            future = self.receivers.pop(0)
            if not future.done():
                future.set_result(None)
                return

    def wake_next(self) -> None:
        """After a datagram was taken: is there one for the next receiver as well?"""
        if self.queue or self.is_readable:
            self.wake()

    def close(self, ended: Callable[[], DatagramError] | None = None) -> None:
        """Nothing more comes; with ``ended`` what is here stays, and then that is raised."""
        if not self.is_closed:
            if ended is not None:
                self.ended = ended
                while self.is_readable and self.pull(BATCH):
                    continue
            self.is_closed = True
        if ended is None:
            self._forget()
        while self.receivers:
            self.wake()

    def _forget(self) -> None:
        self._count -= len(self.queue)
        self._bytes -= sum(map(len, self.queue))
        self.queue = []
        self.times = None

    def _engine_datagrams(self, count: int) -> list[bytes]:
        link = self._link
        if link is None or count <= 0 or self.is_closed or not self.is_readable:
            return []
        try:
            datagrams = link.engine.receive_datagrams(self._control_id, count)
        except (EngineClosed, SessionRefused):
            datagrams = []
        if not datagrams:
            self.is_readable = False
        return datagrams

    def _measure(self, datagrams: list[bytes]) -> None:
        if len(datagrams) == 1:
            size = smallest = largest = len(datagrams[0])
        else:
            size, smallest, largest = measured(datagrams)
        self._count += len(datagrams)
        self._bytes += size
        if smallest < self.smallest:
            self.smallest = smallest
        if largest > self.largest:
            self.largest = largest


def closed_here() -> DatagramError:
    return DatagramError("the datagram transport is closed")
