"""One client of a broker: its stream, its queue, and what happens when the queue is full."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub.topic import pattern_tokens

if TYPE_CHECKING:
    from pywebtransport.session import WebTransportSession
    from pywebtransport.stream import WebTransportStream

__all__ = ["QueueLimits", "SlowSubscriberPolicy", "Subscriber", "SubscriberStats"]

WRITE_SIZE = 65536
"""Queued messages are joined into one write until it has this size."""
MAX_ANSWERS = 256
"""Answers to SUB that wait to be written; then the client's commands wait too."""


class SlowSubscriberPolicy(StrEnum):
    """What a broker does with a message for a subscriber whose queue is full."""

    DROP_OLDEST = "drop_oldest"
    """Make room by dropping what has waited longest: the subscriber sees the latest."""
    DROP_NEWEST = "drop_newest"
    """Drop the message: the subscriber sees the earliest."""
    DISCONNECT = "disconnect"
    """End the subscriber's stream: it sees a gap only by losing its stream."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The bounds of every subscriber's queue; either may be reached first."""

    max_messages: int
    max_bytes: int
    policy: SlowSubscriberPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberStats:
    """One client's figures at one moment."""

    session_id: str | None
    subscriptions: int
    messages_queued: int
    bytes_queued: int
    messages_delivered: int
    messages_dropped: int


class Subscriber:
    """Queues what the broker offers and writes it to the stream as fast as the client reads."""

    __slots__ = (
        "_answers",
        "_limits",
        "_queue",
        "_queued_bytes",
        "_room",
        "_wake",
        "is_overrun",
        "messages_delivered",
        "messages_dropped",
        "pattern_tokens",
        "patterns",
        "session",
        "stream",
        "writer",
    )

    def __init__(
        self,
        *,
        stream: WebTransportStream,
        session: WebTransportSession | None,
        limits: QueueLimits,
    ) -> None:
        self.stream = stream
        self.session = session
        self.patterns: set[str] = set()
        self.pattern_tokens = 0
        """Of the patterns with wildcards."""
        self.writer: asyncio.Task[None] | None = None
        """Runs :meth:`write`."""
        self.is_overrun = False
        """The policy is to disconnect, and the queue was full."""
        self.messages_delivered = 0
        self.messages_dropped = 0
        self._limits = limits
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._answers: deque[bytes] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def add(self, pattern: str) -> None:
        """It has subscribed to a topic or pattern."""
        self.patterns.add(pattern)
        self.pattern_tokens += pattern_tokens(pattern)

    def discard(self, pattern: str) -> None:
        """It no longer wants one that it had subscribed to."""
        self.patterns.discard(pattern)
        self.pattern_tokens -= pattern_tokens(pattern)

    @property
    def stats(self) -> SubscriberStats:
        """A snapshot."""
        return SubscriberStats(
            session_id=None if self.session is None else self.session.session_id,
            subscriptions=len(self.patterns),
            messages_queued=len(self._queue),
            bytes_queued=self._queued_bytes,
            messages_delivered=self.messages_delivered,
            messages_dropped=self.messages_dropped,
        )

    @property
    def is_crowded(self) -> bool:
        """Whether the queue is half full: let the writer have its turn."""
        return (
            2 * len(self._queue) >= self._limits.max_messages
            or 2 * self._queued_bytes >= self._limits.max_bytes
        )

    def offer(self, message: bytes) -> int:
        """Queue an encoded message; how many were dropped for it or instead of it."""
        if self.is_overrun:
            return 1
        dropped = 0
        if not self._has_room(message):
            match self._limits.policy:
                case SlowSubscriberPolicy.DROP_OLDEST:
                    while self._queue and not self._has_room(message):
                        self._queued_bytes -= len(self._queue.popleft())
                        dropped += 1
                case SlowSubscriberPolicy.DROP_NEWEST:
                    self.messages_dropped += 1
                    return 1
                case SlowSubscriberPolicy.DISCONNECT:
                    self.messages_dropped += 1
                    self.is_overrun = True
                    if self.writer is not None:
                        self.writer.cancel()
                    return 1
        self._queue.append(message)
        self._queued_bytes += len(message)
        self.messages_dropped += dropped
        self._notify()
        return dropped

    def _has_room(self, message: bytes) -> bool:
        return (
            len(self._queue) < self._limits.max_messages
            and self._queued_bytes + len(message) <= self._limits.max_bytes
        )

    async def answer(self, line: bytes) -> None:
        """Write a line before any queued message; it is never dropped."""
        while len(self._answers) >= MAX_ANSWERS:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        self._answers.append(line)
        self._notify()

    async def write(self) -> None:
        """Write until the stream fails or the task is cancelled, as the policy may do."""
        try:
            while True:
                if not self._answers and not self._queue:
                    self._wake = asyncio.get_running_loop().create_future()
                    await self._wake
                data, messages = self._take()
                if self._room is not None and not self._room.done():
                    self._room.set_result(None)
                await self.stream.write(data=data)
                self.messages_delivered += messages
        except WebTransportError:
            # The stream ended, or took nothing for the whole of the write timeout.
            await self._abort(ErrorCodes.APP_CONNECTION_TIMEOUT)
        except asyncio.CancelledError:
            if not self.is_overrun:
                raise
            await self._abort(ErrorCodes.APP_RESOURCE_EXHAUSTED)

    async def _abort(self, code: ErrorCodes) -> None:
        # The task that reads the stream notices.
        with suppress(WebTransportError):
            await self.stream.abort(code=code)

    def _take(self) -> tuple[bytes, int]:
        parts = list(self._answers)
        self._answers.clear()
        size = sum(map(len, parts))
        messages = 0
        queue = self._queue
        while queue and (size < WRITE_SIZE or not parts):
            message = queue.popleft()
            parts.append(message)
            size += len(message)
            self._queued_bytes -= len(message)
            messages += 1
        return b"".join(parts), messages

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
