"""Unreliable messages of a session."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport.datagram.message import DatagramMessage
from pywebtransport.datagram.queue import DatagramQueue
from pywebtransport.datagram.statistics import DatagramStats, DatagramTransportDiagnostics
from pywebtransport.events import EventEmitter, EventHandler
from pywebtransport.exceptions import DatagramError, TimeoutError, datagram_too_large
from pywebtransport.types import Buffer, Data, EventType, SessionId
from pywebtransport.utils import ensure_bytes, get_logger

if TYPE_CHECKING:
    from pywebtransport.connection.dispatcher import Dispatcher
    from pywebtransport.session.base import SessionBase

__all__ = [
    "DatagramMessage",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "WebTransportDatagramTransport",
]

logger = get_logger(name=__name__)

BATCH = 64
"""Datagrams taken from the engine at once."""
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
        high_water_mark: int = 100,
        sender_get_timeout: float = 1.0,
    ) -> None:
        super().__init__()
        self._session_id = session_id
        self._sender = datagram_sender
        self._max_datagram_size = max_datagram_size
        self._high_water_mark = high_water_mark
        self._sender_get_timeout = sender_get_timeout
        self._stats = DatagramStats(session_id=session_id, created_at=time.time())
        self._link: Dispatcher | None = None
        """The session's connection; None with a sender of its own."""
        self._control_id = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._readable = False
        """Whether the engine may have datagrams: it has not said that there are none."""
        self._incoming: deque[tuple[bytes, float]] = deque()
        self._outgoing: DatagramQueue | None = None
        self._drain_handle: asyncio.Handle | None = None
        self._receivers: deque[asyncio.Future[bool]] = deque()
        self._heartbeat: asyncio.Task[None] | None = None
        self._send_sequence = 0
        self._receive_sequence = 0
        self._arrivals = 0

    @classmethod
    def _of_session(cls, session: SessionBase, link: Dispatcher) -> Self:
        """The transport of a session, straight over its engine."""
        control_id = session._control_id
        assert control_id is not None

        def send(data: bytes) -> None:
            link.engine.send_datagram(control_id, data)

        transport = cls(
            session_id=session._session_id,
            datagram_sender=send,
            max_datagram_size=link.engine.max_datagram_size(control_id),
        )
        transport._link = link
        transport._loop = link.loop
        transport._control_id = control_id
        transport._readable = True
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

    # Facts.

    @property
    def bytes_received(self) -> int:
        """Counted when the application receives."""
        return self._stats.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Counted when a datagram is handed over or queued."""
        return self._stats.bytes_sent

    @property
    def datagrams_received(self) -> int:
        """Counted when the application receives."""
        return self._stats.datagrams_received

    @property
    def datagrams_sent(self) -> int:
        """Counted when a datagram is handed over or queued."""
        return self._stats.datagrams_sent

    @property
    def diagnostics(self) -> DatagramTransportDiagnostics:
        """A snapshot; the queues are ``outgoing`` and ``incoming``."""
        queues: dict[str, dict[str, int]] = {}
        if self._link is not None:
            dropped = self._link.engine.datagrams_dropped(self._control_id)
            self._stats.receive_drops = max(self._stats.receive_drops, dropped)
        if self._loop is not None:
            waiting = len(self._incoming)
            empty = DatagramQueue(max_size=self._high_water_mark)
            queues = {
                "outgoing": (self._outgoing or empty).stats(),
                "incoming": empty.stats() | {"size": waiting, "priority_0": waiting},
            }
        return DatagramTransportDiagnostics(
            stats=self._stats, queue_stats=queues, is_closed=self._is_closed
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
        """Whether it is not closed."""
        return not self._is_closed

    @property
    def is_writable(self) -> bool:
        """Whether it is not closed."""
        return not self._is_closed

    @property
    def max_datagram_size(self) -> int:
        """The largest payload that fits now, in bytes; 0 when the peer takes no datagrams."""
        if self._link is not None and not self._is_closed:
            try:
                self._max_datagram_size = self._link.engine.max_datagram_size(self._control_id)
            except (EngineClosed, SessionRefused):
                return self._max_datagram_size
        return self._max_datagram_size

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
        return self._receive_sequence

    @property
    def send_sequence(self) -> int:
        """The number of the next datagram that is sent, from 0; not on the wire."""
        return self._send_sequence

    @property
    def session_id(self) -> SessionId:
        """Token of the session that owns it."""
        return self._session_id

    async def initialize(self) -> None:
        """Make it usable; a session's transport is. Idempotent."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    # Sending.

    async def send(
        self, *, data: Data | Buffer, priority: int = 0, ttl: float | None = None
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
        if link is None:
            self._enqueue(data, priority, ttl)
            return
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        self._send_now(link, data, priority, ttl)

    async def try_send(
        self, *, data: Data | Buffer, priority: int = 0, ttl: float | None = None
    ) -> bool:
        """As :meth:`send`, without waiting; False instead of its exceptions.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        try:
            if self._link is None:
                self._enqueue(data, priority, ttl)
            else:
                self._send_now(self._link, data, priority, ttl)
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

    async def send_json(self, *, data: Any, priority: int = 0, ttl: float | None = None) -> None:
        """Send an object as compact JSON in UTF-8.

        Raises:
            DatagramError: It cannot be JSON, or as :meth:`send`.
        """
        try:
            text = json.dumps(data, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise DatagramError(f"the object cannot be JSON: {error}") from error
        await self.send(data=text.encode(), priority=priority, ttl=ttl)

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
        return 0 if self._outgoing is None else len(self._outgoing)

    async def clear_send_buffer(self) -> int:
        """Drop what waits in this transport; returns how many datagrams that were."""
        return 0 if self._outgoing is None else self._outgoing.clear()

    # Receiving.

    async def receive(self, *, timeout: float | None = None) -> bytes:
        """Return the next datagram.

        Args:
            timeout: Seconds to wait; ``None`` for ever.

        Raises:
            TimeoutError: None came in time.
            DatagramError: The transport is closed or not initialized.
        """
        return (await self._receive(timeout))[0]

    async def try_receive(self) -> bytes | None:
        """Return a datagram that is there; None when there is none or the transport is closed.

        Raises:
            DatagramError: The transport is not initialized.
        """
        self._initialized()
        entry = None if self._is_closed else self._take()
        return None if entry is None else entry[0]

    async def receive_multiple(
        self, *, max_count: int = 10, timeout: float | None = None
    ) -> list[bytes]:
        """Wait for one datagram, and return it with those that are there already.

        Args:
            max_count: The most to return.
            timeout: Seconds to wait for the first; ``None`` for ever.

        Raises what :meth:`receive` raises.
        """
        datagrams = [(await self._receive(timeout))[0]]
        while len(datagrams) < max_count and (entry := self._take()) is not None:
            datagrams.append(entry[0])
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
        except ValueError as error:
            self._stats.receive_errors += 1
            raise DatagramError(f"the datagram is not JSON: {error}") from error

    async def receive_with_metadata(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return ``{"data": ..., "metadata": {...}}`` of the next datagram.

        The metadata are those of :class:`DatagramMessage` and ``receive_time``, the seconds waited.
        Raises what :meth:`receive` raises.
        """
        started = time.perf_counter()
        data, timestamp = await self._receive(timeout)
        message = DatagramMessage(
            data=data, timestamp=timestamp, sequence=self._receive_sequence - 1
        )
        waited = time.perf_counter() - started
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
        self._pull(self._high_water_mark)
        return len(self._incoming)

    async def clear_receive_buffer(self) -> int:
        """Drop what waits to be received; returns how many datagrams that were."""
        count = 0
        while self._incoming or self._pull(BATCH):
            count += len(self._incoming)
            self._incoming.clear()
        return count

    # The end.

    async def close(self) -> None:
        """Stop; what waits in either direction is dropped. Idempotent."""
        self._close()
        await self.disable_heartbeat()

    # Listeners want to be told of what the engine still has.

    def on(self, *, event_type: EventType | str, handler: EventHandler) -> None:
        """As of :class:`EventEmitter`."""
        super().on(event_type=event_type, handler=handler)
        self._tell_arrivals()

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
            raise DatagramError("the datagram transport is closed")
        return loop

    def _send_now(
        self, link: Dispatcher, data: Data | Buffer, priority: int, ttl: float | None
    ) -> None:
        stats = self._stats
        if self._is_closed:
            self._open()
        if ttl is not None and ttl <= 0:
            stats.send_drops += 1
            raise DatagramError(f"the datagram has expired: ttl={ttl}")
        if type(data) is str:
            data = data.encode()
        try:
            if not link.engine.send_datagram(self._control_id, data):  # type: ignore[arg-type]
                # Congested: the newest is kept, the oldest was dropped.
                stats.send_drops += 1
        except DatagramError:
            stats.send_failures += 1
            raise
        except (EngineClosed, SessionRefused) as error:
            stats.send_failures += 1
            raise DatagramError(f"the datagram cannot be sent: {error}") from error
        size = len(data)
        stats.datagrams_sent += 1
        stats.bytes_sent += size
        stats.count(size)
        self._send_sequence += 1
        if self._has_listeners(EventType.DATAGRAM_SENT):
            self._tell_sent(size, priority)

    def _tell_sent(self, size: int, priority: int) -> None:
        self.emit_nowait(
            event_type=EventType.DATAGRAM_SENT,
            data={"size": size, "sequence": self._send_sequence - 1, "priority": priority},
            source=self,
        )

    def _enqueue(self, data: Data | Buffer, priority: int, ttl: float | None) -> None:
        loop = self._open()
        payload = ensure_bytes(data=data)
        stats = self._stats
        if len(payload) > self._max_datagram_size:
            stats.send_failures += 1
            raise datagram_too_large(size=len(payload), max_size=self._max_datagram_size)
        if ttl is not None and ttl <= 0:
            stats.send_drops += 1
            raise DatagramError(f"the datagram has expired: ttl={ttl}")
        if self._outgoing is None:
            self._outgoing = DatagramQueue(max_size=self._high_water_mark)
        dropped = self._outgoing.dropped
        if not self._outgoing.put(payload, priority, ttl):
            stats.send_drops += 1
            raise DatagramError(
                f"the outgoing queue is full: high_water_mark={self._high_water_mark}"
            )
        stats.send_drops += self._outgoing.dropped - dropped
        stats.datagrams_sent += 1
        stats.bytes_sent += len(payload)
        stats.count(len(payload))
        self._send_sequence += 1
        if self._drain_handle is None:
            self._drain_handle = loop.call_soon(self._hand_over)
        if self._has_listeners(EventType.DATAGRAM_SENT):
            self._tell_sent(len(payload), priority)

    def _hand_over(self) -> None:
        """Hand over what was queued in this turn of the loop."""
        self._drain_handle = None
        stats = self._stats
        while self._outgoing is not None and (entry := self._outgoing.take()) is not None:
            data, queued_at, ttl = entry
            if ttl is not None and time.time() - queued_at > ttl:
                stats.send_drops += 1
                continue
            started = time.perf_counter()
            try:
                self._sender(data)
            except Exception as error:
                stats.send_failures += 1
                logger.warning("datagram of %d bytes could not be sent: %s", len(data), error)
            elapsed = time.perf_counter() - started
            stats.total_send_time += elapsed
            stats.max_send_time = max(stats.max_send_time, elapsed)

    async def _beat(self, interval: float) -> None:
        while not self._is_closed:
            try:
                await self.send(
                    data=f"HEARTBEAT:{int(time.time())}".encode(), priority=HEARTBEAT_PRIORITY
                )
            except DatagramError as error:
                logger.debug("heartbeat not sent: %s", error)
            await asyncio.sleep(interval)

    async def _receive(self, timeout: float | None) -> tuple[bytes, float]:
        loop = self._open()
        link = self._link
        if link is not None:
            link.budget -= 1
            if link.budget < 0:
                await link.breathe()
        entry = None if self._receivers else self._take()
        if entry is not None:
            return entry
        return await self._wait(loop, timeout)

    async def _wait(
        self, loop: asyncio.AbstractEventLoop, timeout: float | None
    ) -> tuple[bytes, float]:
        started = loop.time()
        future: asyncio.Future[bool] = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, _expire, future)
        try:
            while True:
                self._receivers.append(future)
                if self._readable and self._receivers[0] is future:
                    self._on_readable()
                if await future:
                    self._stats.receive_errors += 1
                    raise TimeoutError(
                        f"no datagram within {timeout} s",
                        timeout_duration=timeout,
                        operation="receive datagram",
                    )
                self._open()
                entry = self._take()
                if entry is not None:
                    elapsed = loop.time() - started
                    self._stats.total_receive_time += elapsed
                    if elapsed > self._stats.max_receive_time:
                        self._stats.max_receive_time = elapsed
                    return entry
                if timer is not None:
                    timer.cancel()
                future = loop.create_future()
                if timeout is not None:
                    timer = loop.call_at(started + timeout, _expire, future)
        finally:
            if timer is not None:
                timer.cancel()
            if future in self._receivers:
                self._receivers.remove(future)
            if self._incoming or self._readable:
                self._wake()

    def _take(self) -> tuple[bytes, float] | None:
        if not self._incoming and not (self._readable and self._pull(BATCH)):
            return None
        entry = self._incoming.popleft()
        size = len(entry[0])
        stats = self._stats
        stats.datagrams_received += 1
        stats.bytes_received += size
        stats.count(size)
        self._receive_sequence += 1
        return entry

    def _pull(self, count: int) -> bool:
        """Take what the engine has, as long as fewer than ``count`` wait here."""
        link = self._link
        room = count - len(self._incoming)
        if link is None or not self._readable or room <= 0 or self._is_closed:
            return False
        datagrams = link.engine.receive_datagrams(self._control_id, room)
        if not datagrams:
            self._readable = False
            return False
        now = time.time()
        self._incoming.extend([(data, now) for data in datagrams])
        return True

    def _arrived(self, datagrams: list[bytes]) -> None:
        """Queue datagrams, tell listeners, wake a receiver."""
        now = time.time()
        is_heard = self._has_listeners(EventType.DATAGRAM_RECEIVED)
        for data in datagrams:
            if len(self._incoming) >= self._high_water_mark:
                self._incoming.popleft()
                self._stats.receive_drops += 1
            self._incoming.append((data, now))
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
        self._wake()

    def _on_readable(self) -> None:
        """The engine has datagrams."""
        self._readable = True
        if self._has_listeners(EventType.DATAGRAM_RECEIVED):
            self._tell_arrivals()
        else:
            self._wake()

    def _tell_arrivals(self) -> None:
        link = self._link
        if link is None or not self._has_listeners(EventType.DATAGRAM_RECEIVED):
            return
        while self._readable and not self._is_closed:
            datagrams = link.engine.receive_datagrams(self._control_id, BATCH)
            if not datagrams:
                self._readable = False
            else:
                self._arrived(datagrams)

    def _wake(self) -> None:
        while self._receivers:
            future = self._receivers.popleft()
            if not future.done():
                future.set_result(False)
                return

    def _close(self) -> None:
        self._is_closed = True
        if self._drain_handle is not None:
            self._drain_handle.cancel()
            self._drain_handle = None
        if self._outgoing is not None:
            self._stats.send_drops += self._outgoing.clear()
        self._incoming.clear()
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        for future in self._receivers:
            if not future.done():
                future.set_result(False)
        self._receivers.clear()


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(True)
