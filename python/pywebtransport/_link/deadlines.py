"""When blocked operations give up: one coarse timer for all the waiters of an event loop.

A read that finds nothing waits on a bare future. Reads with the same timeout expire in the order
of their arrival, so a queue per timeout is enough. The timer is armed while something waits, not
once per operation, and idle connections have none.
"""

from __future__ import annotations

import asyncio
import weakref
from math import inf

__all__ = ["Deadlines", "Waits"]

COARSENESS = 0.01
"""Seconds: the timer never fires twice within this."""


class Waits:
    """The futures that wait with one timeout; ``True`` is their result when it has passed."""

    __slots__ = ("_deadlines", "_entries", "timeout")

    def __init__(self, deadlines: Deadlines, timeout: float) -> None:
        self._deadlines = deadlines
        self._entries: dict[asyncio.Future[bool], float] = {}
        """With when they were added."""
        self.timeout = timeout

    def add(self, future: asyncio.Future[bool], now: float) -> None:
        """Expire ``future`` in ``timeout`` seconds unless it is discarded before."""
        deadline = now + self.timeout
        if deadline < self._deadlines.due:
            self._deadlines.arm(deadline)
        self._entries[future] = now

    def discard(self, future: asyncio.Future[bool]) -> float | None:
        """Forget a future; when it was added, None if it was not or has expired."""
        return self._entries.pop(future, None)

    def expire(self, now: float) -> float:
        """Wake what is due; return the next deadline, infinity when nothing waits."""
        over = []
        due = inf
        for future, started in self._entries.items():
            due = started + self.timeout
            if due > now and not future.done():
                break
            over.append(future)
            due = inf
        for future in over:
            del self._entries[future]
            if not future.done():
                future.set_result(True)
        return due


class Deadlines:
    """The timer of one event loop, and a queue of waiters per timeout."""

    __slots__ = ("_loop", "_timer", "_waits", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._timer: asyncio.TimerHandle | None = None
        self._waits: dict[float, Waits] = {}
        self.due = inf

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> Deadlines:
        """The one of a running event loop."""
        deadlines = DEADLINES.get(loop)
        if deadlines is None:
            deadlines = DEADLINES[loop] = Deadlines(loop)
        return deadlines

    def waits(self, timeout: float | None) -> Waits:
        """The queue of this timeout in seconds, ``None`` for ever."""
        timeout = inf if timeout is None else timeout
        waits = self._waits.get(timeout)
        if waits is None:
            waits = self._waits[timeout] = Waits(self, timeout)
        return waits

    def arm(self, deadline: float) -> None:
        """Make the timer fire at ``deadline``, which is earlier than it would."""
        if self._timer is not None:
            self._timer.cancel()
        loop = self._loop()
        assert loop is not None, "who waits has a loop"
        self._timer = loop.call_at(deadline, self._fire, loop)
        self.due = deadline

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._timer = None
        self.due = inf
        due = min((waits.expire(now) for waits in self._waits.values()), default=inf)
        if due < inf:
            self.arm(max(due, now + COARSENESS))


DEADLINES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines] = (
    weakref.WeakKeyDictionary()
)
