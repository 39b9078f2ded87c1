"""What a datagram transport is made of: its queues, its engine, and those who listen to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol, Self

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._link.link import Link
from pywebtransport.datagram.inbox import Inbox
from pywebtransport.datagram.outbox import Outbox
from pywebtransport.datagram.statistics import DatagramStats
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import DatagramError
from pywebtransport.types import Buffer, Data, EventType, SessionId, StreamId

__all__ = ["HIGH_WATER_MARK", "SENDER_GET_TIMEOUT", "DatagramTransportBase"]

HIGH_WATER_MARK = 100
SENDER_GET_TIMEOUT = 1.0


class Claim(Protocol):
    """Something above a transport, which is asked about each datagram first."""

    def _on_datagram(self, data: bytes) -> bool:
        """Whether it takes this one, which is not received below then."""

    def _on_transport_closed(self) -> None: ...


class DatagramTransportBase(EventEmitter):
    """What :class:`WebTransportDatagramTransport` is made of. Not made by applications."""

    _inbox: Inbox
    _outbox: Outbox

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
        self._is_heard = False
        """Somebody has listened to events."""
        self._heartbeat: asyncio.Task[None] | None = None
        self._arrivals = 0
        self._claim: Claim | None = None
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

    def _send(self, data: Data | Buffer, priority: int, ttl: float | None) -> None:
        """Without waiting: where there is no room, the oldest makes some."""
        self._open()
        self._outbox.push(data, priority, ttl)
        if self._is_heard:
            self._tell_sent(len(data), priority)

    def _tell_sent(self, size: int, priority: int) -> None:
        if self._has_listeners(EventType.DATAGRAM_SENT):
            info = {"size": size, "sequence": self._outbox.sent - 1, "priority": priority}
            self.emit_nowait(event_type=EventType.DATAGRAM_SENT, data=info, source=self)

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
                (claimed if claim._on_datagram(data) else left).append(data)
            self._inbox.count(claimed)
            datagrams = left
        if datagrams:
            self._inbox.put(datagrams)

    def _on_readable(self) -> None:
        """The engine has datagrams."""
        self._inbox.is_readable = True
        if self._claim is not None or (
            self._is_heard and self._has_listeners(EventType.DATAGRAM_RECEIVED)
        ):
            self._tell_arrivals()
        else:
            self._inbox.wake()

    def _on_writable(self) -> None:
        """The engine has room for datagrams."""
        self._outbox.wake()

    def _give_to(self, claim: Claim | None) -> None:
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
        if self._claim is not None:
            self._claim._on_transport_closed()
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
