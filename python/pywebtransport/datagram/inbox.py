"""The receiving side of a datagram transport."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections import deque
from collections.abc import Sequence
from itertools import repeat
from math import inf
from typing import TYPE_CHECKING

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport.exceptions import DatagramError, TimeoutError

if TYPE_CHECKING:
    from pywebtransport.connection.dispatcher import Dispatcher

__all__ = ["BATCH", "Inbox"]

NO_TIMES: deque[float] = deque(maxlen=0)

BATCH = 64
"""Datagrams taken from the engine at once."""


class Inbox:
    """Datagrams that have arrived, and the tasks that wait for one.

    Those of a session stay in its engine, which bounds them, until somebody wants one; then a batch
    comes here. What is put here otherwise is bounded by ``limit``; the oldest makes room.
    """

    __slots__ = (
        "_control_id",
        "_link",
        "_queue",
        "_receivers",
        "_times",
        "bytes_received",
        "dropped",
        "errors",
        "is_closed",
        "is_readable",
        "largest",
        "limit",
        "max_wait",
        "received",
        "smallest",
        "total_wait",
    )

    def __init__(self, *, limit: int, link: Dispatcher | None = None, control_id: int = -1) -> None:
        self._link = link
        self._control_id = control_id
        # Idle transports are many; the queues are made when the first datagram comes.
        self._queue: deque[bytes] | None = None
        self._times: deque[float] = NO_TIMES
        """When each of the queue came here."""
        self._receivers: list[asyncio.Future[None]] = []
        self.is_readable = link is not None
        """False from the engine's "none" to its notification."""
        self.is_closed = False
        self.limit = limit
        self.received = 0
        """Taken by the application."""
        self.bytes_received = 0
        self.dropped = 0
        self.errors = 0
        self.smallest: float = inf
        self.largest = 0
        self.total_wait = 0.0
        self.max_wait = 0.0

    def __len__(self) -> int:
        return len(self._queue or ())

    @property
    def arrived_at(self) -> float:
        """When the next to be taken came here."""
        return self._times[0]

    def take(self) -> bytes | None:
        """The next datagram; None when there is none."""
        queue = self._queue
        if not queue:
            if not (self.is_readable and self.pull(BATCH)):
                return None
            queue = self._made()
        data = queue.popleft()
        self._times.popleft()
        self.received += 1
        self.bytes_received += len(data)
        return data

    async def wait(self, timeout: float | None) -> None:
        """Until :meth:`take` gives something.

        Raises:
            TimeoutError: Not within ``timeout`` seconds.
            DatagramError: The transport is closed.
        """
        # The session's loop, so that asyncio tells whoever waits on another one.
        loop = asyncio.get_running_loop() if self._link is None else self._link.loop
        started = loop.time()
        try:
            async with asyncio.timeout(timeout):
                while not self._queue and not (self.is_readable and self.pull(BATCH)):
                    if self.is_closed:
                        raise DatagramError("the datagram transport is closed")
                    future: asyncio.Future[None] = loop.create_future()
                    self._receivers.append(future)
                    await future
        except builtins.TimeoutError:
            self.errors += 1
            raise TimeoutError(
                f"no datagram within {timeout} s",
                timeout_duration=timeout,
                operation="receive datagram",
            ) from None
        except BaseException:
            # Cancelled when it had been woken: the datagram is for somebody else.
            self.wake()
            raise
        waited = loop.time() - started
        self.total_wait += waited
        if waited > self.max_wait:
            self.max_wait = waited

    def put(self, datagrams: Sequence[bytes]) -> None:
        """Queue what has arrived and wake a receiver."""
        queue = self._made()
        self._add(datagrams)
        while len(queue) > self.limit:
            queue.popleft()
            self._times.popleft()
            self.dropped += 1
        self.wake()

    def pull(self, count: int) -> bool:
        """Take up to ``count`` datagrams from the engine."""
        link = self._link
        if link is None or count <= 0 or self.is_closed:
            return False
        try:
            datagrams = link.engine.receive_datagrams(self._control_id, count)
        except (EngineClosed, SessionRefused):
            datagrams = []
        if not datagrams:
            self.is_readable = False
            return False
        self._add(datagrams)
        return True

    def pull_to_limit(self) -> int:
        """Take what the engine has, up to the limit; how many wait here then."""
        while self.is_readable and len(self) < self.limit:
            self.pull(self.limit - len(self))
        return len(self)

    def receive_new(self) -> list[bytes]:
        """A batch from the engine that is not queued here."""
        waiting = len(self)
        if not (self.is_readable and self.pull(BATCH)):
            return []
        queue = self._made()
        fresh = [queue.pop() for _ in range(len(queue) - waiting)]
        for _ in fresh:
            self._times.pop()
        fresh.reverse()
        return fresh

    def clear(self) -> int:
        """Drop everything; how many that were."""
        count = 0
        while self._queue or (self.is_readable and self.pull(BATCH)):
            queue = self._made()
            count += len(queue)
            queue.clear()
            self._times.clear()
        return count

    def wake(self) -> None:
        """Let the next receiver look."""
        while self._receivers:
            future = self._receivers.pop(0)
            if not future.done():
                future.set_result(None)
                return

    def wake_next(self) -> None:
        """After a datagram was taken: is there one for the next receiver as well?"""
        if self._receivers and (self._queue or self.is_readable):
            self.wake()

    def close(self) -> None:
        """Drop everything; whoever waits gets DatagramError."""
        self.is_closed = True
        self._queue = None
        self._times = NO_TIMES
        while self._receivers:
            self.wake()

    def _made(self) -> deque[bytes]:
        if self._queue is None:
            self._queue = deque()
            self._times = deque()
        return self._queue

    def _add(self, datagrams: Sequence[bytes]) -> None:
        self._made().extend(datagrams)
        self._times.extend(repeat(time.time(), len(datagrams)))
        sizes = [len(data) for data in datagrams]
        self.smallest = min(self.smallest, *sizes)
        self.largest = max(self.largest, *sizes)
