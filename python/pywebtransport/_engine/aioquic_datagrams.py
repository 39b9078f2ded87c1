"""Datagrams of the aioquic engine that wait for a packet: a queue for each session, served in
turn, all bounded together."""

from __future__ import annotations

from collections import deque

__all__ = ["OutgoingDatagrams"]


class OutgoingDatagrams:
    """What sessions have given to be sent."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self._count = 0
        self._queues: dict[int, deque[bytes]] = {}
        """In the order in which the sessions are served."""
        self._waiting: set[int] = set()
        """Sessions for which there was no room."""
        self.dropped = 0
        """That were pushed out, had become too large, or whose session ended first."""

    def __len__(self) -> int:
        return self._count

    def push(self, session_id: int, data: bytes) -> bool:
        """Queue one. False: there was no room, and the oldest of the longest queue went for it."""
        queue = self._queues.get(session_id)
        if queue is None:
            queue = self._queues[session_id] = deque()
        queue.append(data)
        self._count += 1
        if self._count <= self._max_count:
            return True
        # No session pays for another that sends more than it does.
        longest = max(self._queues, key=lambda each: len(self._queues[each]))
        self._queues[longest].popleft()
        self._count -= 1
        self.dropped += 1
        return False

    def offer(self, session_id: int, data: bytes) -> bool:
        """Queue one that pushes out none, or none of a session that sends no more than this one.
        False: there is no room; :meth:`take_writable` says when there is."""
        queue = self._queues.get(session_id)
        share = self._max_count // max(len(self._queues), 1)
        if self._count >= self._max_count and (queue is not None and len(queue) >= share):
            self._waiting.add(session_id)
            return False
        self.push(session_id, data)
        return True

    def take_writable(self) -> set[int]:
        """Sessions for which there is room again."""
        if not self._waiting or self._count > self._max_count // 2:
            return set()
        writable, self._waiting = self._waiting, set()
        return writable

    def first(self) -> bytes:
        """What goes next; there must be something."""
        return self._queues[next(iter(self._queues))][0]

    def pop(self) -> None:
        """It is gone: the next session's turn."""
        session_id = next(iter(self._queues))
        queue = self._queues.pop(session_id)
        queue.popleft()
        self._count -= 1
        if queue:
            self._queues[session_id] = queue

    def drop_first(self) -> None:
        """It can never be sent."""
        self.pop()
        self.dropped += 1

    def end_session(self, session_id: int) -> None:
        """Nothing of it is to be sent any more."""
        self._waiting.discard(session_id)
        queue = self._queues.pop(session_id, None)
        if queue is not None:
            self._count -= len(queue)
            self.dropped += len(queue)
