"""Requests for sessions that nobody has answered yet."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

from pywebtransport._words import peer_path
from pywebtransport.session.base import SessionBase
from pywebtransport.types import SessionState

__all__ = ["Unanswered"]

logger = logging.getLogger("pywebtransport.server")

SERVICE_UNAVAILABLE = 503


class Unanswered:
    """Requests that wait for their answer, and who is to give it.

    One that waits too long is answered with 503. The handler of one that ends before its answer is
    cancelled: nobody is left to hear it.
    """

    def __init__(self, timeout: float, limits_hit: Counter[str]) -> None:
        self._timeout = timeout
        self._limits_hit = limits_hit
        # All have the same time, so the oldest is due first.
        self._deadlines: dict[SessionBase, float] = {}
        self._handlers: dict[SessionBase, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, session: SessionBase) -> None:
        """A request has come."""
        loop = asyncio.get_running_loop()
        self._deadlines[session] = loop.time() + self._timeout
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire, loop)

    def handle(self, session: SessionBase, handler: asyncio.Task[None]) -> None:
        """The task that answers it."""
        self._handlers[session] = handler

    def discard(self, session: SessionBase) -> bool:
        """It was answered, or has ended; whether it was still waiting."""
        handler = self._handlers.pop(session, None)
        is_given_up = session._state == SessionState.CLOSED and session._stats.ready_at is None
        if is_given_up and handler is not None and handler is not _current_task():
            # What waits for the end of its session sees that first.
            loop = handler.get_loop()
            loop.call_soon(lambda: loop.call_soon(handler.cancel))
        # The timer stays: connections come and go faster than it is worth setting.
        return self._deadlines.pop(session, None) is not None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for session, deadline in list(self._deadlines.items()):
            if deadline > loop.time():
                self._timer = loop.call_at(deadline, self._expire, loop)
                return
            if session._state != SessionState.CONNECTING:
                self._deadlines.pop(session, None)
                continue
            self._limits_hit["request_timeout"] += 1
            logger.warning(
                "request for %s was not answered within request_timeout=%g s",
                peer_path(session._path),
                self._timeout,
            )
            session._reject(SERVICE_UNAVAILABLE, f"request_timeout={self._timeout:g} s")


def _current_task() -> asyncio.Task[Any] | None:
    """None in a callback of the loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
