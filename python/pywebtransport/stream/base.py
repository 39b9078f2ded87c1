"""What streams of every kind share: identity, the state of both halves, figures, the end.

A half is in one of the states below and leaves ``OPEN`` once. It has ended when its state is above
``FINISHING``. A stream is closed when both halves have ended; then the link forgets it and the
session gets its slot back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import time
from typing import Any, Protocol, Self, TypeVar, cast

from pywebtransport._link.ends import Ending, Register
from pywebtransport._link.link import Link
from pywebtransport._link.sides import Session
from pywebtransport._native import http_to_app_error
from pywebtransport._waiting import wait_among
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import (
    StreamError,
    StreamLostError,
    StreamResetError,
    StreamSessionClosedError,
    StreamSessionResetError,
    WebTransportError,
)
from pywebtransport.stream.statistics import StreamDiagnostics, StreamStats
from pywebtransport.types import (
    EventType,
    SessionState,
    StreamDirection,
    StreamId,
    StreamState,
)

__all__ = ["StreamBase"]

OPEN = 0
FINISHING = 1
"""Sending: the end is in the backlog, not with the engine yet. Receiving: the engine has told the
end, and not all before it has been read."""
FINISHED = 2
"""Receiving: the end was read. Sending: the engine has the end."""
RESET = 3
"""Receiving: the peer reset the stream. Sending: this side did."""
STOPPED = 4
"""Receiving: this side asked the peer to stop. Sending: the peer asked this side."""
LOST = 5
"""The session or the connection ended first."""
ABSENT = 6
"""A unidirectional stream has only the other half."""


MAX_CODE = 0xFFFF_FFFF


def application_code(code: int | None) -> int | None:
    """What an HTTP/3 code of a reset says to the application; None: it is not one of its own."""
    return None if code is None else http_to_app_error(code)


def check_code(name: str, code: int) -> None:
    """Before anything changes.

    Raises:
        ValueError: It does not fit into 32 bits.
    """
    if not isinstance(code, int) or not 0 <= code <= MAX_CODE:
        raise ValueError(f"{name} must be an integer in 0..{MAX_CODE}, it is {code!r}")


class Chunk:
    """A write that the engine has not accepted whole: what is left of it, and who waits for it."""

    __slots__ = ("fin", "future", "started", "view")

    def __init__(
        self, view: memoryview, fin: bool, started: bool, future: asyncio.Future[bool] | None
    ) -> None:
        self.view = view
        self.fin = fin
        self.started = started
        self.future = future


class Costs:
    """What waiting and failing cost one stream; most streams have none."""

    total_read_time = 0.0
    max_read_time = 0.0
    total_write_time = 0.0
    max_write_time = 0.0
    read_errors = 0
    write_errors = 0


AnyError = TypeVar("AnyError", bound=WebTransportError)


class Owner(Protocol):
    """What a stream asks of its session."""

    _close_error: int | None
    _state: SessionState

    def _ended_well(self) -> bool: ...
    def _initialized(self) -> Link: ...
    def _end_code(self) -> int: ...
    def _is_lost(self) -> bool: ...
    def _of_the_end(self, error: AnyError) -> AnyError: ...
    def _stream_closed(self, stream: Any) -> None: ...
    def _tell(self, event_type: EventType, data: dict[str, Any]) -> None: ...
    def _end_text(self) -> str: ...


class StreamBase(Ending, EventEmitter):
    """One stream. Not made by applications; see the three kinds."""

    # One base has all the slots, so that the bidirectional kind can inherit from both others.
    __slots__ = (
        "_arrival",
        "_backlog",
        "_bytes_received",
        "_bytes_sent",
        "_closed_at",
        "_closed_waiters",
        "_code",
        "_costs",
        "_created_at",
        "_is_remote",
        "_link",
        "_offset",
        "_pending",
        "_readable",
        "_reader",
        "_reads",
        "_receiving",
        "_registers",
        "_send_order",
        "_sending",
        "_session",
        "_stop_code",
        "_stream_id",
        "_writes",
    )

    _direction: StreamDirection
    _halves: tuple[int, int]
    """The first state of the receiving and of the sending half."""

    def __init__(self, *, stream_id: StreamId, session: Session, is_remote: bool = False) -> None:
        self._set_up(stream_id, session, None, is_remote)

    @classmethod
    def _made(cls, stream_id: StreamId, session: Any, link: Link, is_remote: bool) -> Self:
        """A stream that its engine has just begun, with its place in the link.

        Shorter than a call of the class, with its keywords, and of :meth:`initialize`.
        """
        stream = cls.__new__(cls)
        stream._set_up(stream_id, session, link, is_remote)
        link.streams[stream_id] = stream
        return stream

    def _set_up(
        self, stream_id: StreamId, session: Session, link: Link | None, is_remote: bool
    ) -> None:
        # EventEmitter makes what it needs when the first listener comes.
        self._stream_id = stream_id
        self._session: Owner = session  # type: ignore[assignment]
        self._is_remote = is_remote
        self._arrival = -1
        """Its number among the streams that wait to be accepted; -1: it does not."""
        self._link = link
        self._receiving, self._sending = self._halves
        self._readable = link is None or is_remote
        """False while the engine owes a notification of what comes next."""
        self._pending = b""
        """Read from the engine, not yet by the application, from ``_offset`` on."""
        self._offset = 0
        self._reader: asyncio.Future[bool] | None = None
        self._backlog: deque[Chunk] | None = None
        self._closed_waiters: list[asyncio.Future[None]] | None = None
        self._registers: list[Register] | None = None
        self._code: int | None = None
        """The HTTP/3 code with which the peer reset its sending half."""
        self._stop_code: int | None = None
        """The one with which it asked this side to stop."""
        self._created_at = time()
        self._closed_at: float | None = None
        self._reads = 0
        self._writes = 0
        self._bytes_received = 0
        self._bytes_sent = 0
        self._costs: Costs | None = None

    async def initialize(self) -> None:
        """Attach to the session's connection; the session's factories have done it. Idempotent.

        Raises SessionError when the session itself is not initialized.
        """
        if self._link is None:
            self._link = link = self._session._initialized()
            link.streams[self._stream_id] = self

    @property
    def stream_id(self) -> StreamId:
        """The QUIC stream id."""
        return self._stream_id

    @property
    def session(self) -> Session:
        """The session that the stream belongs to."""
        return cast(Session, self._session)

    @property
    def events(self) -> EventEmitter:
        """The stream's emitter, which is the stream."""
        return self

    @property
    def is_remote(self) -> bool:
        """Whether the peer opened it."""
        return self._is_remote

    @property
    def direction(self) -> StreamDirection:
        """Bidirectional, send only or receive only."""
        return self._direction

    @property
    def state(self) -> StreamState:
        """Of both halves together.

        A half that was reset while the other goes on reads as half closed; the reset states say
        that the whole stream ended so.
        """
        receiving, sending = self._receiving, self._sending
        if receiving <= FINISHING:
            if sending in (OPEN, ABSENT):
                return StreamState.OPEN
            return StreamState.HALF_CLOSED_LOCAL
        if sending <= FINISHING:
            if receiving == ABSENT:
                return StreamState.OPEN if sending == OPEN else StreamState.HALF_CLOSED_LOCAL
            return StreamState.HALF_CLOSED_REMOTE
        if receiving == RESET or sending == STOPPED:
            return StreamState.RESET_RECEIVED
        if receiving == STOPPED or sending == RESET:
            return StreamState.RESET_SENT
        return StreamState.CLOSED

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be read or written any more."""
        return self._receiving > FINISHING and self._sending > FINISHING

    @property
    def diagnostics(self) -> StreamDiagnostics:
        """A snapshot of the counters and the buffers."""
        costs = self._costs or Costs()
        stats = StreamStats(
            stream_id=self._stream_id,
            created_at=self._created_at,
            closed_at=self._closed_at,
            bytes_sent=self._bytes_sent,
            bytes_received=self._bytes_received,
            writes_count=self._writes,
            reads_count=self._reads,
            total_write_time=costs.total_write_time,
            total_read_time=costs.total_read_time,
            max_write_time=costs.max_write_time,
            max_read_time=costs.max_read_time,
            write_errors=costs.write_errors,
            read_errors=costs.read_errors,
        )
        return StreamDiagnostics(
            stats=stats,
            read_buffer_size=len(self._pending) - self._offset,
            write_buffer_size=self._backlog_size(),
        )

    async def wait_closed(self) -> None:
        """Wait until both halves have ended, however that happens. Returns at once when closed."""
        if self.is_closed:
            return
        future: asyncio.Future[None] = self._linked().loop.create_future()
        if self._closed_waiters is None:
            self._closed_waiters = []
        await wait_among(self._closed_waiters, future)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._stream_id} {self.state}>"

    # For the halves.

    def _linked(self) -> Link:
        if self._link is None:
            raise StreamError(
                f"stream {self._stream_id} is not initialized: await stream.initialize()",
                stream_id=self._stream_id,
            )
        return self._link

    def _backlog_size(self) -> int:
        return sum(len(chunk.view) for chunk in self._backlog) if self._backlog else 0

    def _error(self, message: str) -> StreamError:
        return StreamError(
            message, stream_id=self._stream_id, stream_state=self.state, error_code=self._any_code()
        )

    def _count(self) -> Costs:
        if self._costs is None:
            self._costs = Costs()
        return self._costs

    def _close_if_done(self) -> None:
        """After a half has ended."""
        if self._receiving <= FINISHING or self._sending <= FINISHING:
            return
        if self._closed_at is not None:
            return
        self._closed_at = time()
        link = self._link
        if link is not None:
            link.streams.pop(self._stream_id, None)
        self._session._stream_closed(self)
        if self._is_heard:
            self._tell(
                EventType.STREAM_CLOSED,
                {"stream_id": self._stream_id, "state": self.state, "code": self._any_code()},
            )
        if self._reader is not None:
            self._wake_reader()
        if self._registers is not None:
            self._leave_all()
        if self._closed_waiters is not None:
            waiters, self._closed_waiters = self._closed_waiters, None
            for future in waiters:
                if not future.done():
                    future.set_result(None)

    def _ended_error(self) -> StreamError:
        """The session has ended before the stream."""
        session = self._session
        text = f"stream {self._stream_id} ended: {session._end_text()}"
        if session._state != SessionState.CLOSED:
            return self._error(text)
        is_lost = session._is_lost()
        kind: type[StreamError] = StreamSessionClosedError
        if is_lost:
            kind = StreamLostError
        elif session._close_error is not None:
            kind = StreamSessionResetError
        error = kind(
            text,
            stream_id=self._stream_id,
            stream_state=self.state,
            error_code=None if is_lost else session._end_code(),
        )
        return session._of_the_end(error)

    def _any_code(self) -> int | None:
        return application_code(self._stop_code if self._code is None else self._code)

    def _reset_error(self, message: str, code: int | None) -> StreamError:
        """The peer has ended a half of it, with its HTTP/3 code."""
        application = application_code(code)
        if code is not None:
            shown = f"code {application}" if application is not None else f"HTTP/3 code {code:#x}"
            message = f"{message} with {shown}"
        return StreamResetError(
            message, stream_id=self._stream_id, stream_state=self.state, error_code=application
        )

    def _ended_with_session(self, code: int | None) -> bool:
        """Whether a reset or a stop without an application's code was the end of the session."""
        return application_code(code) is None and self._session._state == SessionState.CLOSED

    def _tell(self, event_type: EventType, data: dict[str, Any]) -> None:
        """Emit an event, if someone listens, without waiting for the handlers."""
        if self._has_listeners(event_type):
            self.emit_nowait(event_type=event_type, data=data, source=self)

    def _tell_cut(self, event_type: EventType, code: int | None) -> None:
        """The peer has ended one direction before its data did; the session tells it as well.

        Without an application's code it is the session that ends.
        """
        application = application_code(code)
        if application is None:
            return
        data = {"stream_id": self._stream_id, "error_code": application}
        self._tell(event_type, data)
        self._session._tell(event_type, data)

    def _wake_reader(self) -> None:
        """Something has changed for whoever waits to read."""
        reader = self._reader
        if reader is None:
            return
        self._reader = None
        link = self._link
        assert link is not None
        started = link.reads.discard(reader)
        if reader.done():
            return  # It was given up.
        if started is not None:
            elapsed = link.loop.time() - started
            costs = self._costs or self._count()
            costs.total_read_time += elapsed
            if elapsed > costs.max_read_time:
                costs.max_read_time = elapsed
        reader.set_result(False)

    def _lose(self) -> None:
        """The session or the connection is gone; wake whoever waits."""
        if self._receiving == OPEN:
            self._receiving = LOST
        elif self._receiving == FINISHING:
            self._receiving = FINISHED
        if self._sending <= FINISHING:
            self._sending = LOST
        self._wake_reader()
        self._drop_backlog()
        self._close_if_done()

    def _take_rest(self) -> None:
        """The session is about to end: take what has arrived, and see whether that is all."""

    def _probe(self) -> None:
        """See whether the data has ended, where that would end the stream."""

    def _drop_backlog(self) -> None:
        backlog, self._backlog = self._backlog, None
        for chunk in backlog or ():
            if chunk.future is not None and not chunk.future.done():
                chunk.future.set_result(False)

    # Notifications; each kind overrides what its halves need.

    def _on_readable(self) -> None:
        """The engine has data, the end or a reset."""

    def _on_writable(self) -> None:
        """The engine takes more."""

    def _on_reset(self, code: int) -> None:
        """The peer reset its sending half."""

    def _on_stopped(self, code: int) -> None:
        """The peer asked this side to stop sending."""
