"""Unreliable messages of a session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, overload

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._keywords import first_by_position
from pywebtransport._link.link import Link
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
from pywebtransport.types import Buffer, Data, EventType, SessionId, StreamId
from pywebtransport.utils import get_logger

__all__ = [
    "DatagramMessage",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "WebTransportDatagramTransport",
]

logger = get_logger(name=__name__)

HIGH_WATER_MARK = 100
SENDER_GET_TIMEOUT = 1.0
CONGESTION_PAUSE = 0.001
"""Seconds that ``send`` leaves to the network when the engine's queue is full."""
HEARTBEAT_PRIORITY = 1


class WebTransportDatagramTransport(EventEmitter):
    """Sends and receives datagrams, which may be lost and may overtake each other.

    ``session.create_datagram_transport()`` gives a session's transport. Its datagrams go to the
    engine at once, in the order of the calls; the engine keeps bounded queues in both directions
    and drops the oldest from a full one. A transport made with a sender of its own queues up to
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

    def _prepare(
        self, session_id: SessionId, high_water_mark: int, sender_get_timeout: float
    ) -> None:
        super().__init__()
        self._session_id = session_id
        self._high_water_mark = high_water_mark
        self._sender_get_timeout = sender_get_timeout
        self._created_at = time.time()
        self._link: Link | None = None
        """The session's connection; None with a sender of its own."""
        self._control_id = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._heartbeat: asyncio.Task[None] | None = None
        self._arrivals = 0
        self._claim: Callable[[bytes], bool] | None = None
        """Asked about each datagram first: what it takes is not received here."""
        self._engine_drops = 0

    @classmethod
    def _of_session(cls, session_id: SessionId, control_id: StreamId, link: Link) -> Self:
        """The transport of a session, straight over its engine."""
        transport = cls.__new__(cls)
        transport._prepare(session_id, HIGH_WATER_MARK, SENDER_GET_TIMEOUT)
        transport._link = link
        transport._loop = link.loop
        transport._control_id = control_id
        transport._inbox = Inbox(limit=HIGH_WATER_MARK, link=link, control_id=control_id)
        transport._outbox = Outbox(
            sender=None,
            limit=HIGH_WATER_MARK,
            max_size=0,
            link=link,
            control_id=control_id,
        )
        with contextlib.suppress(EngineClosed, SessionRefused):
            transport._outbox.max_size = link.engine.max_datagram_size(control_id)
        return transport

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
        """Send one datagram; text as UTF-8.

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
        if not self._send(data, priority, ttl):
            await asyncio.sleep(CONGESTION_PAUSE)

    @first_by_position
    async def try_send(
        self, data: Data | Buffer, *, priority: int = 0, ttl: float | None = None
    ) -> bool:
        """As :meth:`send`, without waiting; False instead of its exceptions.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        try:
            self._send(data, priority, ttl)
        except DatagramError:
            return False
        return True

    async def send_multiple(
        self,
        *,
        datagrams: list[Data],
        priority: int = 0,
        ttl: float | None = None,
    ) -> int:
        """Send several; stops at the first that fails, and returns how many were sent."""
        for count, data in enumerate(datagrams):
            try:
                await self.send(data=data, priority=priority, ttl=ttl)
            except DatagramError as error:
                logger.warning("%d of %d datagrams sent: %s", count, len(datagrams), error)
                return count
        return len(datagrams)

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
                await link.breathe()
        loop = self._loop or self._initialized()
        data = inbox.take()
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

        Args:
            max_count: The most to return.
            timeout: Seconds to wait for the first; ``None`` for ever.

        Raises what :meth:`receive` raises.
        """
        datagrams = [await self.receive(timeout=timeout)]
        while len(datagrams) < max_count and (data := self._inbox.take()) is not None:
            datagrams.append(data)
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
        self._tell_arrivals()
        return None

    def once(self, *, event_type: EventType | str, handler: EventHandler) -> None:
        """As of :class:`EventEmitter`."""
        super().once(event_type=event_type, handler=handler)
        self._tell_arrivals()

    def on_any(self, *, handler: EventHandler) -> None:
        """As of :class:`EventEmitter`."""
        super().on_any(handler=handler)
        self._tell_arrivals()

    # Inside.

    def _initialized(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise DatagramError(
                "the datagram transport is not initialized: await transport.initialize()"
            )
        return self._loop

    def _open(self) -> asyncio.AbstractEventLoop:
        loop = self._initialized()
        if self._is_closed:
            raise self._inbox.ended()
        return loop

    def _send(self, data: Data | Buffer, priority: int, ttl: float | None) -> bool:
        """False: it went, and the oldest that waited was dropped for it."""
        if self._is_closed or self._loop is None:
            self._open()
        is_room = self._outbox.send(data, priority, ttl)
        if self._has_listeners(EventType.DATAGRAM_SENT):
            info = {"size": len(data), "sequence": self._outbox.sent - 1, "priority": priority}
            self.emit_nowait(event_type=EventType.DATAGRAM_SENT, data=info, source=self)
        return is_room

    async def _beat(self, interval: float) -> None:
        while not self._is_closed:
            try:
                await self.send(
                    data=f"HEARTBEAT:{int(time.time())}".encode(), priority=HEARTBEAT_PRIORITY
                )
            except DatagramError as error:
                logger.debug("heartbeat not sent: %s", error)
            await asyncio.sleep(interval)

    def _arrived(self, datagrams: list[bytes]) -> None:
        """Tell listeners, queue what nobody claims, wake a receiver."""
        is_heard = self._has_listeners(EventType.DATAGRAM_RECEIVED)
        for data in datagrams:
            if is_heard:
                info = {
                    "data": data,
                    "size": len(data),
                    "sequence": self._arrivals,
                    "age": 0.0,
                    "receive_time": 0.0,
                }
                self.emit_nowait(event_type=EventType.DATAGRAM_RECEIVED, data=info, source=self)
            self._arrivals += 1
        claim = self._claim
        if claim is not None:
            claimed: list[bytes] = []
            left: list[bytes] = []
            for data in datagrams:
                (claimed if claim(data) else left).append(data)
            self._inbox.count(claimed)
            datagrams = left
        if datagrams:
            self._inbox.put(datagrams)

    def _on_readable(self) -> None:
        """The engine has datagrams."""
        self._inbox.is_readable = True
        if self._claim is not None or self._has_listeners(EventType.DATAGRAM_RECEIVED):
            self._tell_arrivals()
        else:
            self._inbox.wake()

    def _give_to(self, claim: Callable[[bytes], bool] | None) -> None:
        """Let something above take its datagrams before they are queued."""
        self._claim = claim
        self._tell_arrivals()

    def _tell_arrivals(self) -> None:
        if self._claim is not None or self._has_listeners(EventType.DATAGRAM_RECEIVED):
            while datagrams := self._inbox.receive_new():
                self._arrived(datagrams)

    def _session_ended(self, ended: Callable[[], DatagramError]) -> None:
        """What had arrived can still be received; then ``ended`` is raised."""
        self._tell_arrivals()
        self._close(ended)

    def _close(self, ended: Callable[[], DatagramError] | None = None) -> None:
        self._engine_drops = self._receive_drops()
        self._is_closed = True
        self._outbox.close()
        self._inbox.close(ended)
        if self._heartbeat is not None:
            self._heartbeat.cancel()

    def _receive_drops(self) -> int:
        """Of the engine; the last figure once its session has ended."""
        if self._link is not None and not self._is_closed:
            with contextlib.suppress(EngineClosed, SessionRefused):
                dropped = self._link.engine.datagrams_dropped(self._control_id)
                self._engine_drops = max(self._engine_drops, dropped)
        return self._engine_drops

    def _stats(self) -> DatagramStats:
        inbox, outbox = self._inbox, self._outbox
        return DatagramStats(
            session_id=self._session_id,
            created_at=self._created_at,
            datagrams_sent=outbox.sent,
            bytes_sent=outbox.bytes_sent,
            send_failures=outbox.failures,
            send_drops=outbox.drops,
            datagrams_received=inbox.received,
            bytes_received=inbox.bytes_received,
            receive_drops=inbox.dropped + self._receive_drops(),
            receive_errors=inbox.errors,
            total_send_time=outbox.total_time,
            total_receive_time=inbox.total_wait,
            max_send_time=outbox.max_time,
            max_receive_time=inbox.max_wait,
            min_datagram_size=min(outbox.smallest, inbox.smallest),
            max_datagram_size=max(outbox.largest, inbox.largest),
            total_datagram_size=outbox.bytes_sent + inbox.bytes_received,
        )
