"""The inside of a session: its state, what the engine tells it, how it begins and ends."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import time
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._fields import checked_fields
from pywebtransport._link.ends import Ending, Register
from pywebtransport._link.link import Link
from pywebtransport._link.sides import Connection, ConnectionSide
from pywebtransport._waiting import wait_among, wait_within
from pywebtransport._words import peer_text
from pywebtransport.datagram.transport import WebTransportDatagramTransport
from pywebtransport.events import Event, EventEmitter, EventHandler
from pywebtransport.exceptions import (
    DatagramError,
    DatagramLostError,
    DatagramSessionClosedError,
    DatagramSessionResetError,
    SessionClosedError,
    SessionError,
    SessionLostError,
    SessionResetError,
    StreamError,
    TimeoutError,
    WebTransportError,
    check_status,
    session_not_ready,
)
from pywebtransport.manager.stream import StreamManager
from pywebtransport.session.delivery import until_acknowledged
from pywebtransport.session.ending import datagrams_ended, of_the_end
from pywebtransport.session.incoming import IncomingStreams
from pywebtransport.session.opening import StreamOpeners
from pywebtransport.session.statistics import SessionStats
from pywebtransport.stream.base import FINISHED, FINISHING, OPEN, StreamBase
from pywebtransport.stream.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import EventType, Headers, SessionId, SessionState, StreamId
from pywebtransport.utils import get_logger

__all__ = ["SessionBase"]

logger = get_logger(name=__name__)

UNIDIRECTIONAL = 0x2
"""The bit of a stream id that says so (RFC 9000 §2.1)."""
SHARED_ROUND_TRIPS = 4
ACK_DELAY = 0.1
"""Seconds that acknowledgements may take beyond a round trip, with some to spare."""

NO_FIELDS: Mapping[str, str] = MappingProxyType({})

MAX_KEPT = 1 << 16
"""Datagrams taken from the engine when a session ends: its queue is bounded, and smaller."""


AnyError = TypeVar("AnyError", bound=WebTransportError)
AnyStream = TypeVar("AnyStream", bound=StreamBase)


class SessionBase(Ending, EventEmitter):
    """What :class:`WebTransportSession` is made of. Not made by applications."""

    # A dictionary of so many attributes would be most of what an idle session costs.
    __slots__ = (
        "_announcement",
        "_bytes_sent",
        "_close_code",
        "_close_error",
        "_close_reason",
        "_closed_by",
        "_closed_waiters",
        "_connection",
        "_control_id",
        "_data",
        "_datagrams",
        "_headers",
        "_incoming",
        "_is_cut",
        "_link",
        "_local_streams",
        "_max_incoming_streams",
        "_max_streams",
        "_most_streams",
        "_openers",
        "_path",
        "_ready_waiters",
        "_refusal",
        "_registers",
        "_response_headers",
        "_session_id",
        "_state",
        "_stats",
        "_status",
        "_stream_cleanup_interval",
        "_stream_manager",
        "_waits_for_answer",
        "_wt_available_protocols",
        "_wt_protocol",
        "path_params",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        session_id: SessionId,
        max_streams: int = 100,
        max_incoming_streams: int = 100,
        stream_cleanup_interval: float = 15.0,
        path: str | None = None,
        headers: Headers | None = None,
        control_stream_id: StreamId | None = None,
        wt_available_protocols: list[str] | None = None,
        wt_protocol: str | None = None,
    ) -> None:
        self.path_params: tuple[str, ...] = ()
        """The groups of the pattern that the path matched, on a server."""
        self._connection: ConnectionSide = connection  # type: ignore[assignment]
        self._session_id = session_id
        self._max_streams = max_streams
        self._max_incoming_streams = max_incoming_streams
        self._stream_cleanup_interval = stream_cleanup_interval
        self._path = path
        self._headers = headers
        self._control_id = control_stream_id
        self._wt_available_protocols = (
            None if wt_available_protocols is None else tuple(wt_available_protocols)
        )
        self._wt_protocol = wt_protocol
        self._link: Link | None = None
        self._registers: list[Register] | None = None
        self._state = SessionState.CONNECTING
        self._stats = SessionStats(session_id=session_id, created_at=time.time())
        self._local_streams = 0
        """Streams opened by this side that have not ended."""
        self._most_streams = 0
        """That were open at once, as known when the last one ended."""
        self._bytes_sent = 0
        """On streams that have ended."""
        self._incoming: IncomingStreams | None = None
        self._openers: tuple[StreamOpeners, StreamOpeners] | None = None
        self._data: dict[str, Any] | None = None
        self._datagrams: WebTransportDatagramTransport | None = None
        self._stream_manager: StreamManager | None = None
        self._ready_waiters: list[asyncio.Future[None]] | None = None
        self._closed_waiters: list[asyncio.Future[None]] | None = None
        self._waits_for_answer = False
        """Made by ``connect_optimistic``: what needs the server's answer waits for it."""
        self._status: int | None = None
        """The answer when it was not 2xx; 0: the server gave none."""
        self._refusal = ""
        """Why the request was refused at this end."""
        self._response_headers: Mapping[str, str] = NO_FIELDS
        self._close_code = 0
        self._close_error: int | None = None
        self._close_reason = ""
        self._closed_by = ""
        self._is_cut = False
        """This side has closed the connection, and not the session before."""
        self._announcement: asyncio.Task[None] | None = None

    def _initialized(self) -> Link:
        if self._link is None:
            raise SessionError(
                f"session {self._session_id} is not initialized: await session.initialize()",
                session_id=self._session_id,
                session_state=self._state,
            )
        return self._link

    def _established(self) -> Link:
        link = self._link or self._initialized()
        if self._state not in (SessionState.CONNECTED, SessionState.DRAINING):
            if self._state == SessionState.CONNECTING:
                raise session_not_ready(session_id=self._session_id, current_state=self._state)
            raise self._closed_error()
        return link

    def _attach(self, link: Link, control_id: StreamId) -> None:
        """Take the engine's notifications for this session."""
        self._link = link
        self._control_id = control_id
        link.sessions[control_id] = self

    def _take_over(self, previous: SessionBase) -> None:
        """Become the session that the connection has kept under the same token."""
        link, control_id = previous._link, previous._control_id
        assert link is not None
        assert control_id is not None
        for name in (
            *("_state", "_stats", "_incoming", "_openers", "_datagrams", "_local_streams"),
            *(
                "_most_streams",
                "_status",
                "_response_headers",
                "_close_code",
                "_close_error",
                "_close_reason",
                "_closed_by",
            ),
            *("_waits_for_answer", "_wt_protocol", "_wt_available_protocols"),
        ):
            setattr(self, name, getattr(previous, name))
        self._replace(previous)
        self._path = previous._path if self._path is None else self._path
        self._headers = previous._headers if self._headers is None else self._headers
        for stream in link.streams.values():
            if stream._session is previous:
                stream._session = self
        self._attach(link, control_id)

    # The answer to the request.

    async def ensure_ready(self) -> None:
        """Wait until the session is established, for as long as the connection lives.

        Raises:
            SessionError: It ended first, or has ended.
        """
        link = self._initialized()
        if self._state == SessionState.CONNECTING:
            future: asyncio.Future[None] = link.loop.create_future()
            if self._ready_waiters is None:
                self._ready_waiters = []
            await wait_among(self._ready_waiters, future)
        if self._state not in (SessionState.CONNECTED, SessionState.DRAINING):
            raise self._error(f"the session is not ready: {self._end_text()}")

    def _accept(self, headers: Mapping[str, str]) -> None:
        link = self._link or self._initialized()
        if headers:
            headers = checked_fields(headers)
        if self._state != SessionState.CONNECTING or self._control_id is None:
            raise self._error("the request has been answered")
        if self._wt_protocol is None and self._wt_available_protocols:
            offered = self._wt_available_protocols
            wanted = self._connection.config.wt_available_protocols or ()
            self._wt_protocol = next((name for name in wanted if name in offered), None)
        # Streams that came before the answer are told of during the call.
        self._become_ready()
        try:
            link.engine.accept_session(
                self._control_id, protocol=self._wt_protocol, headers=headers
            )
        except (EngineClosed, SessionRefused) as error:
            self._on_closed(0, str(error), "transport")
            raise self._error(f"the session cannot be accepted: {error}") from error
        except ValueError:
            # Nothing was sent, and the request can still be answered.
            self._state, self._stats.ready_at = SessionState.CONNECTING, None
            raise
        self._tell_ready()

    def _reject(self, status: int, cause: str, headers: Mapping[str, str] | None = None) -> None:
        link = self._initialized()
        check_status(status)
        fields = checked_fields(headers) if headers else {}
        if self._state != SessionState.CONNECTING or self._control_id is None:
            raise self._error("the request has been answered")
        try:
            link.engine.reject_session(self._control_id, status=status, headers=fields)
        except (EngineClosed, SessionRefused) as error:
            self._on_closed(0, str(error), "transport")
            raise self._error(f"the session cannot be rejected: {error}") from error
        self._status, self._refusal = status, cause
        self._on_closed(0, f"rejected with status {status}", "local")

    def _become_ready(self) -> None:
        self._state = SessionState.CONNECTED
        self._stats.ready_at = time.time()

    def _tell_ready(self) -> None:
        waiters, self._ready_waiters = self._ready_waiters, None
        for future in waiters or ():
            if not future.done():
                future.set_result(None)
        if self._is_heard:
            if self.listener_count(event_type=EventType.DATAGRAM_RECEIVED):
                self._relay_datagrams()
            self._tell(EventType.SESSION_READY, self._ready_data())
        connection = self._connection
        connection._session_ready(self)
        if connection._is_heard:
            connection._note(EventType.SESSION_READY, self._ready_data())

    def _ready_data(self) -> dict[str, Any]:
        return {"session_id": self._session_id, "path": self._path, "protocol": self._wt_protocol}

    # What the engine tells.

    def _on_established(self, protocol: str | None, headers: Mapping[str, str]) -> None:
        self._wt_protocol = protocol
        self._response_headers = headers
        self._become_ready()
        self._tell_ready()

    def _on_rejected(self, status: int, headers: Mapping[str, str], reason: str) -> None:
        self._status = status
        self._response_headers = dict(headers)
        text = f"HTTP status {status}" if status else reason or "the server reset the request"
        self._on_closed(1, text, "remote")

    def _on_draining(self) -> None:
        if self._state == SessionState.CONNECTED:
            self._state = SessionState.DRAINING
            self._connection._session_drains()
            data = {"session_id": self._session_id}
            self._tell(EventType.SESSION_DRAINING, data)
            self._connection._note(EventType.SESSION_DRAINING, data)

    def _on_streams_available(self, unidirectional: bool) -> None:
        if self._openers is not None:
            self._openers[unidirectional].serve()

    def _on_stream_opened(self, stream_id: StreamId) -> None:
        link = self._link
        if link is None:
            return
        stats = self._stats
        stats.streams_created += 1
        unidirectional = bool(stream_id & UNIDIRECTIONAL)
        if unidirectional:
            stats.unidirectional_streams += 1
            stream = WebTransportReceiveStream._made(stream_id, self, link, True)
        else:
            stats.bidirectional_streams += 1
            stream = WebTransportStream._made(stream_id, self, link, True)
        if self._is_heard:
            self._tell_stream(EventType.STREAM_OPENED, stream)
        incoming = self._incoming
        if incoming is None:
            incoming = self._incoming_queue()
        # Last: whoever takes it may have ended it by now.
        incoming.put(stream, unidirectional)

    def _on_datagrams_readable(self) -> None:
        if self._datagrams is not None:
            self._datagrams._on_readable()

    def _on_datagrams_writable(self) -> None:
        if self._datagrams is not None:
            self._datagrams._on_writable()

    def _on_closed(self, code: int, reason: str, by: str, error: int | None = None) -> None:
        """The session has ended, once; wake whoever waits in it."""
        if self._state == SessionState.CLOSED:
            return
        link, control_id = self._link, self._control_id
        self._state = SessionState.CLOSED
        if error is not None and by != "transport":
            self._close_error = error
            reason = reason or f"the peer reset the session with HTTP/3 code {error:#x}"
        self._close_code, self._close_reason, self._closed_by = code, reason, by
        self._stats.closed_at = time.time()
        if link is not None and control_id is not None:
            link.sessions.pop(control_id, None)
            # Tasks that accept streams run before those that use one: they can end the others.
            if self._incoming is not None:
                self._incoming.end()
            if link.streams:
                streams = [each for each in link.streams.values() if each._session is self]
                for stream in streams:
                    if by != "local" or error is not None:
                        stream._take_rest()
                    stream._lose()
            if self._incoming and not self._is_heard:
                self._incoming.let_go_of(self)
            if self._stats.ready_at is not None:
                self._keep_datagrams(link, control_id)
            if self._datagrams is not None:
                self._end_relay(self._datagrams)
        for opener in self._openers or ():
            opener.end()
        self._stream_manager = None
        waiters, self._ready_waiters = self._ready_waiters, None
        for ready in waiters or ():
            if not ready.done():
                ready.set_result(None)
        self._leave_all()
        connection = self._connection
        connection._session_ended(self)
        if connection._is_heard:
            connection._note(EventType.SESSION_CLOSED, self._end_data())
        if self._has_listeners(EventType.SESSION_CLOSED):
            self._announcement = asyncio.ensure_future(self._announce_closed(self._end_data()))
        elif self._closed_waiters is not None:
            self._wake_closed()

    def _end_data(self) -> dict[str, Any]:
        code = self._close_code
        return {
            "session_id": self._session_id,
            "code": code,
            "error_code": code,
            "reason": self._close_reason,
        }

    def _keep_datagrams(self, link: Link, control_id: StreamId) -> None:
        """What has arrived can be received after the end, also by who has not asked for it yet."""
        transport = self._datagrams
        if transport is None:
            try:
                datagrams = link.engine.receive_datagrams(control_id, MAX_KEPT)
            except (EngineClosed, SessionRefused):
                return
            if datagrams:
                transport = WebTransportDatagramTransport._of_session(
                    self._session_id, control_id, link
                )
                # The engine has kept as many as the configuration allows, and no more come.
                transport._inbox.limit = max(transport._inbox.limit, len(datagrams))
                transport._inbox.put(datagrams)
                self._datagrams = transport
        if transport is not None:
            kind: type[DatagramError] = DatagramSessionClosedError
            if self._is_lost():
                kind = DatagramLostError
            elif self._close_error is not None:
                kind = DatagramSessionResetError
            text = f"the datagram transport is closed: {self._end_text()}"
            # Not a method of this session, which would be in a circle with its transport.
            end = self._session_id, self._end_code(), self._close_reason, self._closed_by
            transport._session_ended(partial(datagrams_ended, kind, text, *end))

    async def _announce_closed(self, data: dict[str, Any]) -> None:
        try:
            await self._settle(self._connection.config.close_timeout)
            await self.emit(event_type=EventType.SESSION_CLOSED, data=data, source=self)
        finally:
            self._wake_closed()

    def _wake_closed(self) -> None:
        waiters, self._closed_waiters = self._closed_waiters, None
        for future in waiters or ():
            if not future.done():
                future.set_result(None)

    # Streams.

    def _stream_closed(self, stream: StreamBase) -> None:
        stats = self._stats
        active = stats.streams_created - stats.streams_closed
        if active > self._most_streams:
            self._most_streams = active
        stats.streams_closed += 1
        self._bytes_sent += stream._bytes_sent
        if not stream._is_remote:
            self._local_streams -= 1
        elif stream._arrival >= 0 and self._incoming is not None and stream._receiving != FINISHED:
            self._incoming.discard(stream)  # type: ignore[arg-type]
        if stream._costs is not None:
            stats.stream_errors += stream._costs.read_errors + stream._costs.write_errors
        if self._is_heard:
            self._tell_stream(EventType.STREAM_CLOSED, stream)

    def _incoming_queue(self) -> IncomingStreams:
        if self._incoming is None:
            self._incoming = IncomingStreams(self._initialized().loop)
            if self._state == SessionState.CLOSED:
                self._incoming.end()
        return self._incoming

    # Closing.

    async def _finish(self, code: int, reason: str, limit: float) -> None:
        """Close from this side; returns when SESSION_CLOSED handlers have run or time is up."""
        link = self._link
        assert link is not None
        was_connecting = self._state == SessionState.CONNECTING
        self._state = SessionState.CLOSING
        try:
            if not was_connecting and self._has_sent(link):
                await self._deliver(link, limit)
        finally:
            self._close_now(link, code, reason, was_connecting)
        if self._announcement is not None and not self._is_delivering_here():
            await wait_within(self._announcement, limit, "a handler of SESSION_CLOSED")

    def _has_sent(self, link: Link) -> bool:
        """Whether anything that was written may still be on its way."""
        if self._bytes_sent or (self._datagrams is not None and self._datagrams.datagrams_sent):
            return True
        for stream in link.streams.values():
            if stream._session is self and (stream._bytes_sent or stream._sending == FINISHED):
                return True
        return False

    async def _deliver(self, link: Link, limit: float) -> None:
        """Wait, within bounds, until the peer has what was written: closing resets the streams."""
        streams = [stream for stream in link.streams.values() if stream._session is self]
        patience = None
        try:
            if len(link.sessions) > 1:
                # What others write on the connection never ends; a few round trips are for ours.
                patience = SHARED_ROUND_TRIPS * link.engine.stats().rtt + ACK_DELAY
            async with asyncio.timeout(limit):
                for stream in streams:
                    if stream._sending in (OPEN, FINISHING) and stream._backlog is not None:
                        await stream.flush()  # type: ignore[attr-defined]
                # The engine sends at the end of a turn of the loop.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                async with asyncio.timeout(patience):
                    await until_acknowledged(link.engine)
        except (builtins.TimeoutError, EngineClosed, StreamError, TimeoutError) as error:
            logger.debug("session %s closes with data undelivered: %s", self._session_id, error)

    def _end_streams(self) -> None:
        """End every stream that this side may still write, behind what is unsent."""
        link = self._link
        if link is None or not link.streams:
            return
        if self._state not in (SessionState.CONNECTED, SessionState.DRAINING):
            return
        for stream in [each for each in link.streams.values() if each._session is self]:
            if stream._sending == OPEN:
                with contextlib.suppress(StreamError):
                    stream._write_now(b"", is_last=True)  # type: ignore[attr-defined]

    def _close_now(self, link: Link, code: int, reason: str, was_connecting: bool) -> None:
        assert self._control_id is not None
        for stream in link.streams.values():
            if stream._session is self:
                stream._take_rest()
        try:
            if was_connecting and not self._connection.is_client:
                link.engine.reject_session(self._control_id, status=503)
            else:
                link.engine.close_session(self._control_id, code=code, reason=reason)
        except (EngineClosed, SessionRefused) as error:
            logger.debug("session %s had ended already: %s", self._session_id, error)
        self._on_closed(code, reason, "local")

    # Words and events.

    def _add(self, handlers: list[EventHandler], handler: EventHandler, kind: str) -> None:
        super()._add(handlers, handler, kind)
        if kind == EventType.DATAGRAM_RECEIVED:
            self._relay_datagrams()

    def _relay_datagrams(self) -> None:
        """Emit DATAGRAM_RECEIVED as the datagram transport does."""
        if self._state not in (SessionState.CONNECTED, SessionState.DRAINING):
            return
        transport = self._datagram_transport()
        kind = EventType.DATAGRAM_RECEIVED
        if self._relay_datagram not in transport.listeners(event_type=kind):
            transport.on(event_type=kind, handler=self._relay_datagram)

    def _end_relay(self, transport: WebTransportDatagramTransport) -> None:
        """Session and transport would hold each other; the last events are still to be relayed."""

        def end(_: object = None) -> None:
            transport.off(event_type=EventType.DATAGRAM_RECEIVED, handler=self._relay_datagram)

        if transport._delivery is None:
            end()
        else:
            transport._delivery.add_done_callback(end)

    def _relay_datagram(self, event: Event) -> None:
        self._tell(EventType.DATAGRAM_RECEIVED, event.data or {})

    def _datagram_transport(self) -> WebTransportDatagramTransport:
        if self._datagrams is None:
            assert self._control_id is not None
            self._datagrams = WebTransportDatagramTransport._of_session(
                self._session_id, self._control_id, self._initialized()
            )
        return self._datagrams

    def _end_text(self) -> str:
        if self._state != SessionState.CLOSED:
            return f"the session is {self._state.value}"
        said = f" ({peer_text(self._close_reason)})" if self._close_reason else ""
        if self._close_error is not None:
            return f"the session was reset, HTTP/3 code {self._close_error:#x}{said}"
        if self._closed_by == "local":
            return f"this side closed the session with code {self._close_code}{said}"
        if self._closed_by == "remote":
            return f"the peer closed the session with code {self._close_code}{said}"
        return f"the connection was lost{said}"

    def _error(self, message: str) -> SessionError:
        return SessionError(message, session_id=self._session_id, session_state=self._state)

    def _is_lost(self) -> bool:
        """Whether the connection ended without a word about the session."""
        return self._closed_by == "transport" and not self._close_code

    def _ended_well(self) -> bool:
        """Whether one side closed it, with the code that says that all is well."""
        is_closed = self._state == SessionState.CLOSED and not self._is_cut
        is_broken = self._close_code or self._close_error is not None
        return is_closed and not is_broken and self._closed_by != "transport"

    def _closed_error(self) -> SessionClosedError:
        kind = SessionClosedError
        if self._is_lost():
            kind = SessionLostError
        elif self._close_error is not None:
            kind = SessionResetError
        return self._of_the_end(kind(self._end_text(), error_code=self._end_code()))

    def _end_code(self) -> int:
        """What an error says: the application's code, or HTTP/3's of a session that was reset."""
        return self._close_code if self._close_error is None else self._close_error

    def _of_the_end(self, error: AnyError) -> AnyError:
        """Say in an error how the session ended."""
        return of_the_end(error, self._session_id, self._close_reason, self._closed_by)

    def _tell(self, event_type: EventType, data: dict[str, Any]) -> None:
        """Emit an event, if someone listens, without waiting for the handlers."""
        if self._has_listeners(event_type):
            self.emit_nowait(event_type=event_type, data=data, source=self)

    def _tell_stream(self, event_type: EventType, stream: StreamBase) -> None:
        if self._has_listeners(event_type):
            data = {
                "stream_id": stream._stream_id,
                "session_id": self._session_id,
                "direction": stream._direction,
                "stream": stream,
            }
            self.emit_nowait(event_type=event_type, data=data, source=self)
