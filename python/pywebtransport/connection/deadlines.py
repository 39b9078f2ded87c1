"""When blocked operations give up: one coarse timer for all of a connection's waiters.

A read that finds nothing waits on a bare future. Every read of a connection has the same
timeout, so the order of arrival is the order of expiry, and a queue per timeout is enough.
The timer is armed while something waits, not once per operation.
"""

from __future__ import annotations

import asyncio
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
        self.timeout = timeout

    def add(self, future: asyncio.Future[bool], now: float) -> None:
        """Expire ``future`` in ``timeout`` seconds unless it is discarded before."""
        deadline = now + self.timeout
        self._entries[future] = deadline
        if deadline < self._deadlines.due:
            self._deadlines.arm(deadline)

    def discard(self, future: asyncio.Future[bool]) -> None:
        """Forget a future that has been added."""
        del self._entries[future]

    def expire(self, now: float) -> float:
        """Wake what is due; return the next deadline, infinity when nothing waits."""
        for future, deadline in self._entries.items():
            if future.done():
                # Its waiter has been woken and discards it when it runs.
                continue
            if deadline > now:
                return deadline
            future.set_result(True)
        return inf


class Deadlines:
    """The timer of one connection, and a queue of waiters per timeout."""

    __slots__ = ("_loop", "_timer", "_waits", "due")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._waits: list[Waits] = []
        self.due = inf

    def waits(self, timeout: float | None) -> Waits:
        """A new queue; ``timeout`` in seconds, ``None`` for ever."""
        waits = Waits(self, inf if timeout is None else timeout)
        self._waits.append(waits)
        return waits

    def arm(self, deadline: float) -> None:
        """Make the timer fire at ``deadline``, which is earlier than it would."""
        if self._timer is not None:
            self._timer.cancel()
        self.due = deadline
        self._timer = self._loop.call_at(deadline, self._fire)

    def close(self) -> None:
        """Stop the timer; nothing expires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.due = inf

    def _fire(self) -> None:
        now = self._loop.time()
        self._timer = None
        self.due = inf
        due = min((waits.expire(now) for waits in self._waits), default=inf)
        if due < inf:
            self.arm(max(due, now + COARSENESS))
