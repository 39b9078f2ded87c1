"""A bounded queue of datagrams with three priorities."""

from __future__ import annotations

import time
from collections import deque

__all__ = ["PRIORITIES", "DatagramQueue", "Entry"]

PRIORITIES = 3

Entry = tuple[bytes, float, float | None]
"""Payload, ``time.time()`` of its arrival, time to live in seconds."""


class DatagramQueue:
    """First in, first out within a priority; the highest priority first.

    When it is full, the oldest entry of priority 0 makes room; without one the new entry is
    refused.
    """

    __slots__ = ("_queues", "dropped", "max_size")

    def __init__(self, *, max_size: int) -> None:
        self._queues: list[deque[Entry]] = []
        self.max_size = max_size
        self.dropped = 0
        """Entries that made room for others."""

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def put(self, data: bytes, priority: int = 0, ttl: float | None = None) -> bool:
        """Add an entry; False: it was refused. ``priority`` is clamped to 0..2."""
        if not self._queues:
            self._queues = [deque() for _ in range(PRIORITIES)]
        if len(self) >= self.max_size:
            if not self._queues[0]:
                return False
            self._queues[0].popleft()
            self.dropped += 1
        priority = min(max(priority, 0), PRIORITIES - 1)
        self._queues[priority].append((data, time.time(), ttl))
        return True

    def take(self) -> Entry | None:
        """Remove the first entry; None when there is none."""
        for queue in reversed(self._queues):
            if queue:
                return queue.popleft()
        return None

    def clear(self) -> int:
        """Remove everything; returns how many entries that were."""
        count = len(self)
        for queue in self._queues:
            queue.clear()
        return count

    def stats(self) -> dict[str, int]:
        """Size, limit and entries by priority."""
        stats = {"size": len(self), "max_size": self.max_size}
        for number in range(PRIORITIES):
            stats[f"priority_{number}"] = len(self._queues[number]) if self._queues else 0
        return stats
