"""Streams that the peer has opened and the application has not accepted yet."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pywebtransport.stream.stream import WebTransportReceiveStream

__all__ = ["IncomingStreams"]


class IncomingStreams:
    """A queue for each direction, and the tasks that wait for one of them or for both.

    QUIC's stream limit bounds it: a stream counts against the limit until it is accepted and read,
    and one that its peer ends before leaves the queue.
    """

    __slots__ = ("_arrivals", "_ended", "_loop", "_queues", "_taker", "_waiters", "is_ended")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrivals = 0
        # By direction, bidirectional and unidirectional; the keys are the numbers of arrival.
        self._queues: tuple[
            dict[int, WebTransportReceiveStream], dict[int, WebTransportReceiveStream]
        ] = ({}, {})
        self._waiters: list[tuple[bool | None, asyncio.Future[None]]] = []
        self._taker: Callable[[WebTransportReceiveStream], None] | None = None
        self._ended: weakref.ref[Any] | None = None
        self.is_ended = False
        """The session has ended: nothing more comes. What is queued then had come whole."""

    def __len__(self) -> int:
        return len(self._queues[0]) + len(self._queues[1])

    def put(self, stream: WebTransportReceiveStream, unidirectional: bool) -> None:
        """Queue a stream and wake whoever waits for its direction."""
        if self._taker is not None:
            self._taker(stream)
            return
        number = self._arrivals
        self._arrivals = number + 1
        stream._arrival = number
        self._queues[unidirectional][number] = stream
        if self._waiters:
            self._wake(unidirectional)

    def discard(self, stream: WebTransportReceiveStream) -> None:
        """A queued stream has ended before anybody accepted it."""
        for queue in self._queues:
            queue.pop(stream._arrival, None)
        stream._arrival = -1

    def give_to(self, taker: Callable[[WebTransportReceiveStream], None]) -> None:
        """Let ``taker`` have each stream as soon as it comes, and those that wait."""
        self._taker = taker
        while (stream := self.take(None)) is not None:
            taker(stream)

    def take(self, unidirectional: bool | None) -> WebTransportReceiveStream | None:
        """The stream of a direction (None: of any) that came first."""
        if unidirectional is None:
            bidirectional, receiving = self._queues
            queue = bidirectional or receiving
            if bidirectional and receiving and next(iter(receiving)) < next(iter(bidirectional)):
                queue = receiving
        else:
            queue = self._queues[unidirectional]
        for number in queue:
            stream = queue.pop(number)
            stream._arrival = -1
            if self._ended is not None and (session := self._ended()) is not None:
                stream._session = session
            return stream
        return None

    def arrival(self, unidirectional: bool | None) -> asyncio.Future[None]:
        """Done when there may be one to take, or the session has ended."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((unidirectional, future))
        return future

    def give_up(self, unidirectional: bool | None, arrival: asyncio.Future[None]) -> None:
        """Who waited for it was cancelled: the stream is for somebody else."""
        if arrival.cancelled():
            self._waiters.remove((unidirectional, arrival))
        else:
            # Woken and cancelled at once.
            for direction in (False, True):
                if self._queues[direction]:
                    self._wake(direction)

    def end(self) -> None:
        """Wake everybody; the session has ended."""
        self.is_ended = True
        self._taker = None
        for _, future in self._waiters:
            if not future.done():
                future.set_result(None)
        self._waiters.clear()

    def let_go_of(self, session: Any) -> None:
        """It has ended. It keeps the streams that nobody has taken yet, and must not be kept by
        them: whoever takes one has the session."""
        self._ended = weakref.ref(session)
        for queue in self._queues:
            for stream in queue.values():
                stream._session = weakref.proxy(session)

    def _wake(self, unidirectional: bool) -> None:
        for entry in tuple(self._waiters):
            wanted, future = entry
            if wanted in (None, unidirectional) and not future.done():
                self._waiters.remove(entry)
                future.set_result(None)
                return
