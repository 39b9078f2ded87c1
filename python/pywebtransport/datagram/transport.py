"""Unreliable messages of a session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, overload

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._keywords import first_by_position
from pywebtransport.datagram.base import (
    HIGH_WATER_MARK,
    SENDER_GET_TIMEOUT,
    DatagramTransportBase,
)
from pywebtransport.datagram.inbox import BATCH, Inbox
from pywebtransport.datagram.message import DatagramMessage
from pywebtransport.datagram.outbox import Outbox
from pywebtransport.datagram.queue import DatagramQueue
from pywebtransport.datagram.statistics import (
    DatagramStats,
    DatagramTransportDiagnostics,
    WebTransportDatagramStats,
)
from pywebtransport.events import EventEmitter, EventHandler, HandlerT
from pywebtransport.exceptions import (
    DatagramError,
    DatagramLostError,
    DatagramSessionClosedError,
)
from pywebtransport.types import Buffer, Data, EventType, SessionId
from pywebtransport.utils import get_logger

__all__ = [
    "DatagramMessage",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "WebTransportDatagramTransport",
]

logger = get_logger(name=__name__)

SEND_BLOCK = 512
"""Datagrams given to the engine in one call."""
DATAGRAMS_PER_OPERATION = 32
"""Of those that come or go together, so many count as one operation of the fairness budget."""
HEARTBEAT_PRIORITY = 1


class WebTransportDatagramTransport(DatagramTransportBase):
    """Sends and receives datagrams, which may be lost and may overtake each other.

    ``session.create_datagram_transport()`` gives a session's transport. Its datagrams go to the
    engine at once, in the order of the calls; the engine keeps bounded queues in both directions.
    Where the outgoing one is full, ``send`` waits, and ``try_send`` drops the oldest; where the
    incoming one is, the oldest is dropped. A transport made with a sender of its own queues up to
    ``high_water_mark`` datagrams until the end of the event loop's turn and hands them over by
    priority.

    DATAGRAM_RECEIVED {data, size, sequence, age, receive_time} is emitted when a datagram arrives;
    it can be received all the same.

    Args:
        session_id: Token of the session that owns it.
        datagram_sender: Called with each datagram.
        max_datagram_size: The largest payload, in bytes.
        high_water_mark: Datagrams that may wait, in each direction.
        sender_get_timeout: Accepted for compatibility; nothing polls.
    """

    def __init__(
        self,
        *,
        session_id: SessionId,
        datagram_sender: Callable[[bytes], None],
        max_datagram_size: int,
        high_water_mark: int = HIGH_WATER_MARK,
        sender_get_timeout: float = SENDER_GET_TIMEOUT,
    ) -> None:
        self._prepare(session_id, high_water_mark, sender_get_timeout)
        self._inbox = Inbox(limit=high_water_mark)
        self._outbox = Outbox(
            sender=datagram_sender, limit=high_water_mark, max_size=max_datagram_size
        )

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        """The datagrams that come, until the session or the transport is closed.

        A session that ends with a code, is reset or is lost, raises what :meth:`receive` raises.
        """
        return self

    async def __anext__(self) -> bytes:
        inbox, link = self._inbox, self._link
        if inbox.queue and inbox.times is None and not inbox.receivers and link is not None:
            # Mostly as `receive`, which would be one coroutine more.
            link.budget -= 1
            if link.budget >= 0:
                return inbox.queue.pop()
        try:
            return await self.receive()
        except DatagramSessionClosedError as error:
            if error.error_code:
                raise
        except DatagramLostError:
            raise
        except DatagramError:
            if not self._is_closed:
                raise
        raise StopAsyncIteration

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        sent, received = self.datagrams_sent, self.datagrams_received
        return f"<{type(self).__name__} {state}, {sent} sent, {received} received>"

    # Facts.

    @property
    def bytes_received(self) -> int:
        """Counted when the application receives."""
        return self._inbox.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Counted when a datagram is handed over or queued."""
        return self._outbox.bytes_sent

    @property
    def datagrams_received(self) -> int:
        """Counted when the application receives."""
        return self._inbox.received

    @property
    def datagrams_sent(self) -> int:
        """Counted when a datagram is handed over or queued."""
        return self._outbox.sent

    @property
    def diagnostics(self) -> DatagramTransportDiagnostics:
        """A snapshot; the queues are ``outgoing`` and ``incoming``."""
        queues: dict[str, dict[str, int]] = {}
        if self._loop is not None:
            waiting = self.get_receive_buffer_size()
            empty = DatagramQueue(max_size=self._high_water_mark)
            queues = {
                "outgoing": self._outbox.queue.stats(),
                "incoming": empty.stats() | {"size": waiting, "priority_0": waiting},
            }
        return DatagramTransportDiagnostics(
            stats=self._stats(), queue_stats=queues, is_closed=self._is_closed
        )

    @property
    def events(self) -> EventEmitter:
        """The transport's emitter, which is the transport."""
        return self

    @property
    def incoming_max_age(self) -> float | None:
        """None: datagrams that wait do not age."""
        return None

    @property
    def is_closed(self) -> bool:
        """Whether it was closed, or its session has ended."""
        return self._is_closed

    @property
    def is_readable(self) -> bool:
        """Whether it is not closed, or has datagrams all the same."""
        return not self._is_closed or bool(len(self._inbox))

    @property
    def is_writable(self) -> bool:
        """Whether it is not closed."""
        return not self._is_closed

    @property
    def max_datagram_size(self) -> int:
        """The largest payload that fits now, in bytes; 0 when the peer takes no datagrams."""
        if self._link is not None and not self._is_closed:
            with contextlib.suppress(EngineClosed, SessionRefused):
                self._outbox.max_size = self._link.engine.max_datagram_size(self._control_id)
        return self._outbox.max_size

    @property
    def outgoing_high_water_mark(self) -> int:
        """Datagrams that may wait."""
        return self._high_water_mark

    @property
    def outgoing_max_age(self) -> float | None:
        """None: only a datagram's own ``ttl`` ages it."""
        return None

    @property
    def receive_sequence(self) -> int:
        """The number of the next datagram that is received, from 0; not on the wire."""
        return self._inbox.received

    @property
    def send_sequence(self) -> int:
        """The number of the next datagram that is sent, from 0; not on the wire."""
        return self._outbox.sent

    @property
    def session_id(self) -> SessionId:
        """Token of the session that owns it."""
        return self._session_id

    async def initialize(self) -> None:
        """Make it usable; a session's transport is. Idempotent."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    # Sending.

    @first_by_position
    async def send(
        self, data: Data | Buffer, *, priority: int = 0, ttl: float | None = None
    ) -> None:
        """Send one datagram; text as UTF-8. Waits while the session's outgoing queue is full.

        Args:
            data: The payload, up to ``max_datagram_size`` bytes.
            priority: 0, 1 or 2; of the datagrams that wait, the highest goes first.
            ttl: Seconds after which it is not worth sending.

        Raises:
            DatagramError: It is too large (``datagram_size``, ``max_size``), has expired, the queue
                is full of higher priorities, or the transport is closed.
        """
        link = self._link
        if link is not None:
            link.budget -= 1
            if link.budget < 0:
                await link.breathe()
        loop = self._loop
        if self._is_closed or loop is None:
            loop = self._open()
        while not self._outbox.send(data, priority, ttl):
            await self._outbox.wait(loop, ttl)
            if self._is_closed:
                self._open()
        if self._is_heard:
            self._tell_sent(len(data), priority)

    @first_by_position
    async def try_send(
        self, data: Data | Buffer, *, priority: int = 0, ttl: float | None = None
    ) -> bool:
        """As :meth:`send`, without waiting: a full queue drops its oldest. False instead of
        exceptions.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        try:
            self._send(data, priority, ttl)
        except DatagramError:
            return False
        return True

    @first_by_position
    async def send_datagrams(
        self,
        datagrams: Sequence[Data | Buffer],
        *,
        priority: int = 0,
        ttl: float | None = None,
    ) -> None:
        """Send several, in order: as :meth:`send` for each of them, at a fraction of its cost.

        A session's transport gives its engine up to 512 of them in one call, and leaves the event
        loop to others now and then. What of them is dropped, is lost or waits is counted where
        that of :meth:`send` is.

        Args:
            datagrams: The payloads; text as UTF-8.
            priority: As of :meth:`send`, for each.
            ttl: As of :meth:`send`, for each.

        Raises:
            DatagramError: As :meth:`send`, for the first that cannot be sent. Those before it have
                been, those behind it have not.
        """
        sent = 0
        while sent < len(datagrams):
            sent += await self._send_some(datagrams, sent, priority, ttl)

    async def send_multiple(
        self,
        *,
        datagrams: list[Data],
        priority: int = 0,
        ttl: float | None = None,
    ) -> int:
        """As :meth:`send_datagrams`; returns how many were sent, also where it stops."""
        sent = 0
        try:
            while sent < len(datagrams):
                sent += await self._send_some(datagrams, sent, priority, ttl)
        except DatagramError as error:
            logger.warning("%d of %d datagrams sent: %s", sent, len(datagrams), error)
        return sent

    @first_by_position
    async def send_json(self, data: Any, *, priority: int = 0, ttl: float | None = None) -> None:
        """Send an object as compact JSON in UTF-8.

        Raises:
            DatagramError: It cannot be JSON, or as :meth:`send`.
        """
        try:
            text = json.dumps(data, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise DatagramError(f"the object cannot be JSON: {error}") from error
        await self.send(data=text.encode(), priority=priority, ttl=ttl)

    def stats(self) -> WebTransportDatagramStats:
        """What became of the datagrams that did not arrive; also after the end.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        assert self._link is not None
        return WebTransportDatagramStats(
            dropped_incoming=self._inbox.dropped + self._receive_drops(),
            expired_incoming=0,
            expired_outgoing=self._outbox.expired,
            lost_outgoing=self._link.engine.stats().extra["datagrams_lost"],
        )

    def enable_heartbeat(self, *, interval: float = 30.0) -> None:
        """Send ``HEARTBEAT:<unix seconds>`` now and every ``interval`` seconds, at priority 1.

        Does nothing when it is on.

        Raises:
            DatagramError: The transport is closed or not initialized.
        """
        loop = self._open()
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = loop.create_task(self._beat(interval))

    async def disable_heartbeat(self) -> None:
        """Stop sending heartbeats."""
        task, self._heartbeat = self._heartbeat, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def get_send_buffer_size(self) -> int:
        """How many datagrams wait in this transport to be handed over."""
        return len(self._outbox.queue)

    async def clear_send_buffer(self) -> int:
        """Drop what waits in this transport; returns how many datagrams that were."""
        return self._outbox.queue.clear()

    # Receiving.

    async def receive(self, *, timeout: float | None = None) -> bytes:
        """Return the next datagram.

        Args:
            timeout: Seconds to wait; ``None`` for ever.

        Raises:
            TimeoutError: None came in time.
            DatagramSessionClosedError, DatagramLostError: The session has ended, and what had
                arrived before has been received.
            DatagramError: The transport was closed here, or is not initialized.
        """
        inbox = self._inbox
        link = self._link
        if link is not None:
            link.budget -= 1
            if link.budget < 0:
                await link.breathe_in_time()
        loop = self._loop or self._initialized()
        # Mostly as `take`, which would be one call more.
        data = inbox.queue.pop() if inbox.queue and inbox.times is None else inbox.take()
        while data is None:
            await inbox.wait(timeout, loop)
            data = inbox.take()
        if inbox.receivers:
            inbox.wake_next()
        return data

    async def try_receive(self) -> bytes | None:
        """Return a datagram that is there; None when there is none.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        return self._inbox.take()

    async def receive_multiple(
        self, *, max_count: int = 10, timeout: float | None = None
    ) -> list[bytes]:
        """Wait for one datagram, and return it with those that are there already.

        Who receives many pays less for each in this way; :meth:`send_datagrams` is the other end.

        Args:
            max_count: The most to return.
            timeout: Seconds to wait for the first; ``None`` for ever.

        Raises what :meth:`receive` raises.
        """
        datagrams = [await self.receive(timeout=timeout)]
        if max_count > 1:
            datagrams += self._inbox.take_several(max_count - 1)
            if self._link is not None:
                self._link.budget -= len(datagrams) // DATAGRAMS_PER_OPERATION
        return datagrams

    async def receive_json(self, *, timeout: float | None = None) -> Any:
        """Return the object in the next datagram.

        Raises:
            DatagramError: The datagram is not JSON in UTF-8, or as :meth:`receive`.
            TimeoutError: As :meth:`receive`.
        """
        data = await self.receive(timeout=timeout)
        try:
            return json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            self._inbox.errors += 1
            raise DatagramError(f"the datagram is not JSON: {error}") from error

    async def receive_with_metadata(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return ``{"data": ..., "metadata": {...}}`` of the next datagram.

        The metadata are those of :class:`DatagramMessage` and ``receive_time``, the seconds waited.
        Raises what :meth:`receive` raises.
        """
        loop = self._initialized()
        started = time.perf_counter()
        inbox = self._inbox
        if not len(inbox) and not inbox.pull(BATCH):
            await inbox.wait(timeout, loop)
        timestamp = inbox.arrived_at
        data = inbox.take()
        assert data is not None
        if inbox.receivers:
            inbox.wake_next()
        waited = time.perf_counter() - started
        message = DatagramMessage(data=data, timestamp=timestamp, sequence=inbox.received - 1)
        return {"data": data, "metadata": message.to_dict() | {"receive_time": waited}}

    async def receive_from_protocol(self, *, data: bytes) -> None:
        """Put a datagram into the incoming queue, as if it had arrived; an empty one is ignored.

        A full queue drops its oldest.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        if data and not self._is_closed:
            self._arrived([data])

    def get_receive_buffer_size(self) -> int:
        """How many datagrams wait to be received, up to the high-water mark."""
        return self._inbox.pull_to_limit()

    async def clear_receive_buffer(self) -> int:
        """Drop what waits to be received; returns how many datagrams that were."""
        return self._inbox.clear()

    # The end.

    async def close(self) -> None:
        """Stop; what waits in either direction is dropped. Idempotent."""
        self._close()
        await self.disable_heartbeat()

    # Listeners want to be told of what the engine still has.

    @overload
    def on(self, *, event_type: EventType | str) -> Callable[[HandlerT], HandlerT]: ...
    @overload
    def on(self, *, event_type: EventType | str, handler: EventHandler) -> None: ...
    def on(
        self, *, event_type: EventType | str, handler: EventHandler | None = None
    ) -> Callable[[HandlerT], HandlerT] | None:
        """As of :class:`EventEmitter`."""
        if handler is None:
            # The decorator comes back with its handler.
            return super().on(event_type=event_type)
        super().on(event_type=event_type, handler=handler)
        self._is_heard = True
        self._tell_arrivals()
        return None

    def once(self, *, event_type: EventType | str, handler: EventHandler) -> None:
        """As of :class:`EventEmitter`."""
        super().once(event_type=event_type, handler=handler)
        self._is_heard = True
        self._tell_arrivals()

    def on_any(self, *, handler: EventHandler) -> None:
        """As of :class:`EventEmitter`."""
        super().on_any(handler=handler)
        self._is_heard = True
        self._tell_arrivals()

    # Inside.

    async def _beat(self, interval: float) -> None:
        while not self._is_closed:
            try:
                await self.send(
                    data=f"HEARTBEAT:{int(time.time())}".encode(), priority=HEARTBEAT_PRIORITY
                )
            except DatagramError as error:
                logger.debug("heartbeat not sent: %s", error)
            await asyncio.sleep(interval)

    async def _send_some(
        self,
        datagrams: Sequence[Data | Buffer],
        sent: int,
        priority: int,
        ttl: float | None,
    ) -> int:
        """Send some more of them, or wait until that may be; how many were sent."""
        link = self._link
        if link is None or self._is_heard:
            await self.send(datagrams[sent], priority=priority, ttl=ttl)
            return 1
        block = list(datagrams[sent : sent + SEND_BLOCK])
        link.budget -= 1 + len(block) // DATAGRAMS_PER_OPERATION
        if link.budget < 0:
            await link.breathe()
        if self._is_closed:
            self._open()
        count = self._outbox.send_block(block, ttl)
        if not count:
            await self._outbox.wait(link.loop, ttl)
        return count
