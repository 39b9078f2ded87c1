"""What a connection of the aioquic engine keeps for its streams, sessions and late sink."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

__all__ = [
    "MAX_DATAGRAM_BYTES",
    "NO_SESSION",
    "Backlog",
    "SessionBuffers",
    "StreamBuffers",
    "WaitsFor",
]

MAX_DATAGRAM_BYTES = 1 << 20
"""Received datagrams of one session that wait for the application; beyond, the oldest go."""


NO_SESSION = -1
"""The session of a stream that carries an ordinary HTTP request."""


class WaitsFor(Enum):
    """What keeps a writer from writing."""

    BUFFER = 1
    """The stream's own unsent data."""
    CONNECTION = 2
    """The unsent data of all streams."""
    SESSION = 3
    """The peer's session credit."""


class StreamBuffers:
    """What arrived and has not been read, and who waits."""

    __slots__ = (
        "_chunks",
        "_offset",
        "is_read_ended",
        "is_retained",
        "is_write_ended",
        "reader_waits",
        "session_id",
        "size",
        "wanted",
        "writer_waits",
    )

    def __init__(
        self, session_id: int, *, readable: bool, writable: bool, is_retained: bool = False
    ) -> None:
        self.session_id = session_id
        self.is_read_ended = not readable
        """Nothing more will arrive."""
        self.is_write_ended = not writable
        self.is_retained = is_retained
        """The peer gets a stream in exchange when the application is done with this one."""
        self.size = 0
        """Bytes that arrived and have not been read."""
        self.reader_waits = False
        self.writer_waits: WaitsFor | None = None
        self.wanted = 0
        """Bytes the waiting writer could not place."""
        self._chunks: deque[bytes] = deque()
        self._offset = 0
        """How much of the first chunk has been read."""

    @property
    def is_done(self) -> bool:
        """Whether nobody needs this any more."""
        return self.is_read_ended and self.is_write_ended and not self.size

    @property
    def is_request(self) -> bool:
        """Whether it carries an ordinary HTTP request."""
        return self.session_id == NO_SESSION

    def append(self, data: bytes) -> None:
        self._chunks.append(data)
        self.size += len(data)

    def drop(self) -> int:
        """Forget what arrived; how much that was."""
        size, self.size = self.size, 0
        self._chunks.clear()
        self._offset = 0
        return size

    def take(self, max_size: int) -> bytes:
        """Up to ``max_size`` bytes; all of them when it is negative."""
        chunks = self._chunks
        wanted = self.size if max_size < 0 else min(max_size, self.size)
        self.size -= wanted
        if wanted == len(chunks[0]) and not self._offset:
            return chunks.popleft()
        parts: list[bytes | memoryview] = []
        while wanted:
            rest = len(chunks[0]) - self._offset
            if rest > wanted:
                parts.append(memoryview(chunks[0])[self._offset : self._offset + wanted])
                self._offset += wanted
                break
            chunk = chunks.popleft()
            parts.append(memoryview(chunk)[self._offset :] if self._offset else chunk)
            self._offset = 0
            wanted -= rest
        return b"".join(parts)


class SessionBuffers:
    """Datagrams that arrived, and the writers that wait for the session's credit."""

    __slots__ = ("_datagrams", "blocked", "dropped", "max_count", "reader_waits", "size")

    def __init__(self, max_datagrams: int) -> None:
        self.blocked: list[int] = []
        self.dropped = 0
        """Datagrams that had to go for newer ones."""
        self.reader_waits = False
        self._datagrams: deque[bytes] = deque()
        self.size = 0
        """Bytes of all of them."""
        self.max_count = max_datagrams

    def append(self, data: bytes) -> int:
        """Queue a datagram; how many older ones had to go for it."""
        self._datagrams.append(data)
        self.size += len(data)
        dropped = 0
        while len(self._datagrams) > self.max_count or self.size > MAX_DATAGRAM_BYTES:
            self.size -= len(self._datagrams.popleft())
            dropped += 1
        self.dropped += dropped
        return dropped

    def take(self, max_count: int) -> list[bytes]:
        count = min(max_count, len(self._datagrams))
        taken = [self._datagrams.popleft() for _ in range(count)]
        self.size -= sum(map(len, taken))
        return taken


class Backlog:
    """Stands in for the sink until there is one, then tells it everything in order."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self._calls.append((name, arguments))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """The names and arguments of the notifications, in order."""
        return self._calls
