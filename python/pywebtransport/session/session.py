"""A WebTransport session, on either side of a connection."""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qsl

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._keywords import first_by_position
from pywebtransport._link.sides import Connection
from pywebtransport._loop import check_loop
from pywebtransport._waiting import wait_among
from pywebtransport._words import peer_path, reason_text
from pywebtransport.constants import ErrorCodes
from pywebtransport.datagram.statistics import WebTransportDatagramStats
from pywebtransport.datagram.structured import StructuredDatagramTransport
from pywebtransport.datagram.transport import WebTransportDatagramTransport
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import (
    TimeoutError,
)
from pywebtransport.manager.stream import StreamManager
from pywebtransport.session.managed import SessionStreams
from pywebtransport.session.statistics import (
    SessionDiagnostics,
    SessionStats,
    WebTransportConnectionStats,
)
from pywebtransport.session.streams import StreamingSession
from pywebtransport.stream.base import check_code
from pywebtransport.stream.send import check_send_order
from pywebtransport.stream.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.stream.structured import StructuredStream
from pywebtransport.types import (
    Address,
    Buffer,
    Data,
    Headers,
    Serializer,
    SessionId,
    SessionState,
)
from pywebtransport.utils import get_logger

__all__ = ["SessionDiagnostics", "SessionStats", "WebTransportSession"]

logger = get_logger(name=__name__)

MAX_KEYING_MATERIAL = 255 * 32
"""Bytes that can be exported whatever the cipher suite (RFC 5869 §2.3, SHA-256)."""
STALE_AFTER = 300.0
"""Seconds without activity on the connection after which ``monitor_health`` warns."""


class WebTransportSession(StreamingSession):
    """Streams and datagrams under one path of one server.

    A client gets its sessions from ``WebTransportClient.connect``, a server's handler is called
    with one. ``async with`` waits until the session is ready, and closes it on leaving.

    When the session ends, for whatever reason, everything that waits in it is woken: iterations
    end, the rest raises the documented exception. SESSION_CLOSED {session_id, code, error_code,
    reason} is emitted once; who listens for DATAGRAM_RECEIVED here is told as by the datagram
    transport.

    Args:
        connection: The connection it belongs to.
        session_id: Its token, as ``connection.wait_for_ready_session`` or SESSION_REQUEST gives it.
        max_streams: Streams opened by this side that may be open at once.
        max_incoming_streams: Accepted for compatibility; the peer's streams are bounded by
            ``config.quic_max_concurrent_bidi_streams`` and ``quic_max_concurrent_uni_streams``.
        stream_cleanup_interval: Accepted for compatibility; a stream that has ended is forgotten at
            once.
    """

    __slots__ = ()

    async def __aenter__(self) -> Self:
        if self._link is None:
            await self.initialize()
        await self.ready()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        # A cancellation is no failure: it is how an application ends what it no longer needs.
        failed = exc_type is not None and issubclass(exc_type, Exception)
        await self.close(code=ErrorCodes.INTERNAL_ERROR if failed else ErrorCodes.NO_ERROR)

    def __repr__(self) -> str:
        return f"<WebTransportSession {self._session_id} {peer_path(self._path)} {self._state}>"

    # Facts.

    @property
    def client(self) -> Address | None:
        """Where the client is now: ``remote_address`` on a server, the local one on a client."""
        connection = self._connection
        return connection.local_address if connection.is_client else connection.remote_address

    @property
    def data(self) -> dict[str, Any]:
        """For the application: what it wants to remember with the session, such as its user."""
        if self._data is None:
            self._data = {}
        return self._data

    def _is_unused(self) -> bool:
        """Whether nothing is open on it, or waits in it."""
        link, transport = self._link, self._datagrams
        if link is None or not self.is_ready or self._incoming:
            return False
        if any(stream._session is self for stream in link.streams.values()):
            return False
        # A transport that somebody has asked for is there until the session ends.
        transport = transport or self._datagram_transport()
        return not (transport.is_closed or transport._claim or transport._inbox.pull_to_limit())

    def _forget_user(self) -> None:
        """Whoever has it next finds no data and no listeners of who had it before."""
        self._data = None
        self.remove_all_listeners()
        if self._datagrams is not None:
            self._datagrams.remove_all_listeners()

    @property
    def latency(self) -> float:
        """Seconds of a round trip to the peer, smoothed; 0.0 before the first."""
        return self._connection.diagnostics.rtt

    @property
    def query(self) -> dict[str, str]:
        """The query of the path, decoded; of a name that comes twice the last value."""
        return dict(parse_qsl(self.path.partition("?")[2], keep_blank_values=True))

    @property
    def close_code(self) -> int | None:
        """The application's code that the session ended with; None while it lives.

        0 when it ended without a code of a session's: see ``close_error`` and ``closed_by``.
        """
        return self._close_code if self.is_closed else None

    @property
    def close_error(self) -> int | None:
        """HTTP/3's code (RFC 9114 §8.1) of a session that ended without a close; else None.

        ``closed_by`` is ``"remote"`` when the peer reset it, ``"local"`` when the peer broke a
        rule.
        """
        return self._close_error

    @property
    def close_reason(self) -> str | None:
        """The words that came with ``close_code``, often none; None while the session lives."""
        return self._close_reason if self.is_closed else None

    @property
    def closed_by(self) -> str | None:
        """``"local"``, ``"remote"``, or ``"transport"`` when the connection was lost; or None."""
        return self._closed_by if self.is_closed else None

    @property
    def response_headers(self) -> Headers:
        """Client: a copy of the answer's fields; empty before it has come."""
        return dict(self._response_headers)

    @property
    def connection(self) -> Connection:
        """The connection that carries the session."""
        return self._connection

    @property
    def events(self) -> EventEmitter:
        """The session's emitter, which is the session."""
        return self

    @property
    def headers(self) -> Headers:
        """A copy of the request's fields, pseudo-header fields included where they are known."""
        return dict(self._headers or {})

    @property
    def is_closed(self) -> bool:
        """Whether the session has ended."""
        return self._state == SessionState.CLOSED

    @property
    def is_ready(self) -> bool:
        """Whether the session is established, and nobody has asked to wind it up."""
        return self._state == SessionState.CONNECTED

    @property
    def path(self) -> str:
        """The requested path, with its query."""
        return self._path or "/"

    @property
    def protocol_handler(self) -> None:
        """None, as of the connection."""
        return None

    @property
    def peer_certificate(self) -> bytes | None:
        """As of the connection: the certificate that the peer showed, in DER; None: none."""
        return self._connection.peer_certificate

    @property
    def remote_address(self) -> Address | None:
        """Where the peer is now."""
        return self._connection.remote_address

    @property
    def session_id(self) -> SessionId:
        """An opaque token; it never travels."""
        return self._session_id

    @property
    def state(self) -> SessionState:
        """Connecting, connected, draining, closing or closed."""
        return self._state

    @property
    def stream_manager(self) -> StreamManager | None:
        """A manager with the session's present streams; None before :meth:`initialize`."""
        if self._link is None:
            return None
        if self._state == SessionState.CLOSED:
            return SessionStreams(session=self)
        if self._stream_manager is None:
            self._stream_manager = SessionStreams(session=self)
        return self._stream_manager

    @property
    def wt_available_protocols(self) -> list[str] | None:
        """The application protocols that the client offered, most wanted first."""
        offered = self._wt_available_protocols
        return None if offered is None else list(offered)

    @property
    def wt_protocol(self) -> str | None:
        """The application protocol in use. A server may set it before it accepts the session."""
        return self._wt_protocol

    @wt_protocol.setter
    def wt_protocol(self, protocol: str | None) -> None:
        if self._state != SessionState.CONNECTING or self._connection.is_client:
            raise self._error("only a server chooses the protocol, before it accepts the session")
        if protocol is not None and protocol not in (self._wt_available_protocols or ()):
            raise ValueError(
                f"the client did not offer {protocol!r} but {self.wt_available_protocols}"
            )
        self._wt_protocol = protocol

    # Beginning.

    async def initialize(self) -> None:
        """Join the connection's session of this token. Idempotent; the factories have done it.

        Raises:
            SessionError: The connection knows no session of this token.
        """
        if self._link is None:
            self._connection._adopt(self)

    async def ready(self, *, timeout: float = 30.0) -> None:
        """Wait until the session is established.

        Raises:
            SessionError: It ended first, or has ended.
            TimeoutError: It was not answered within ``timeout`` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self.ensure_ready()
        except builtins.TimeoutError:
            raise TimeoutError(
                f"the session was not established within {timeout} s",
                timeout_duration=timeout,
                operation="session ready",
            ) from None

    async def accept(self, *, headers: Headers | None = None) -> None:
        """Server: answer the request with 200, and with these fields.

        Names may be in any case.

        Raises:
            SessionError: The request has been answered, or its sender is gone.
            ValueError: A field cannot be sent. The request can still be answered.
        """
        self._check_answerer()
        self._accept(headers or {})

    @first_by_position
    async def reject(self, status_code: int = 403, *, headers: Headers | None = None) -> None:
        """Server: answer the request with a status that is not 2xx, and with these fields.

        Raises:
            SessionError: The request has been answered, or its sender is gone.
            ValueError: ``status_code`` is not in 300..599, or a field cannot be sent. The request
                can still be answered.
        """
        self._check_answerer()
        self._reject(status_code, "the application", headers)

    def _check_answerer(self) -> None:
        check_loop(self._initialized().loop)
        if self._connection.is_client:
            raise self._error("only a server answers a request")

    # Streams.

    async def create_bidirectional_stream(
        self, *, timeout: float | None = None, send_order: int = 0
    ) -> WebTransportStream:
        """Open a stream that both sides write.

        Args:
            timeout: Seconds to wait for the peer to allow a stream; ``None``:
                ``config.stream_creation_timeout`` (10 s).
            send_order: As ``stream.send_order``: while not all streams can send, the highest does.

        Raises:
            SessionError: The session is not established, or ended meanwhile.
            StreamError: ``max_streams`` are open, or the peer allowed none in time.
            ValueError: ``send_order`` is not one.
        """
        if send_order != 0:
            check_send_order(send_order)
        stream_id = self._open_now(False)
        if stream_id is None:
            stream_id = await self._open_later(False, timeout)
        self._stats.bidirectional_streams += 1
        return self._opened(WebTransportStream, stream_id, send_order)

    async def create_unidirectional_stream(
        self, *, timeout: float | None = None, send_order: int = 0
    ) -> WebTransportSendStream:
        """Open a stream that only this side writes; as :meth:`create_bidirectional_stream`."""
        if send_order != 0:
            check_send_order(send_order)
        stream_id = self._open_now(True)
        if stream_id is None:
            stream_id = await self._open_later(True, timeout)
        self._stats.unidirectional_streams += 1
        return self._opened(WebTransportSendStream, stream_id, send_order)

    async def create_structured_stream(
        self,
        *,
        serializer: Serializer,
        registry: dict[int, type[Any]],
        timeout: float | None = None,
    ) -> StructuredStream:
        """Open a bidirectional stream for objects of the registered classes."""
        stream = await self.create_bidirectional_stream(timeout=timeout)
        return StructuredStream(stream=stream, serializer=serializer, registry=registry)

    async def incoming_streams(
        self,
    ) -> AsyncGenerator[WebTransportStream | WebTransportReceiveStream, None]:
        """Yield the streams that the peer opens, of both kinds, until the session ends.

        Raises:
            SessionError: The session is not initialized.
        """
        while (stream := self._take_stream(None) or await self._next_stream(None)) is not None:
            yield stream

    async def incoming_bidirectional_streams(self) -> AsyncGenerator[WebTransportStream, None]:
        """Yield the bidirectional streams that the peer opens, until the session ends."""
        while (stream := self._take_stream(False) or await self._next_stream(False)) is not None:
            yield cast(WebTransportStream, stream)

    async def incoming_unidirectional_streams(
        self,
    ) -> AsyncGenerator[WebTransportReceiveStream, None]:
        """Yield the unidirectional streams that the peer opens, until the session ends."""
        while (stream := self._take_stream(True) or await self._next_stream(True)) is not None:
            yield stream

    async def accept_bidirectional_stream(self) -> WebTransportStream:
        """Return the next bidirectional stream that the peer opens.

        Raises:
            SessionClosedError: The session ended.
        """
        stream = self._take_stream(False) or await self._next_stream(False)
        if stream is None:
            raise self._closed_error()
        return cast(WebTransportStream, stream)

    async def accept_unidirectional_stream(self) -> WebTransportReceiveStream:
        """Return the next unidirectional stream that the peer opens.

        Raises:
            SessionClosedError: The session ended.
        """
        stream = self._take_stream(True) or await self._next_stream(True)
        if stream is None:
            raise self._closed_error()
        return stream

    # Datagrams.

    async def create_datagram_transport(self) -> WebTransportDatagramTransport:
        """Return the session's datagram transport, always the same one.

        After the session's end it still has what had arrived.

        Raises:
            SessionError: The session has ended, and no datagram is left; or is not initialized.
        """
        if self._datagrams is None:
            self._initialized()
            if self._state == SessionState.CONNECTING and self._waits_for_answer:
                await self.ensure_ready()
            if self._state not in (SessionState.CONNECTED, SessionState.DRAINING):
                raise self._error(f"no datagrams: {self._end_text()}")
        return self._datagram_transport()

    async def create_structured_datagram_transport(
        self, *, serializer: Serializer, registry: dict[int, type[Any]]
    ) -> StructuredDatagramTransport:
        """The session's datagrams, for objects of the registered classes."""
        transport = await self.create_datagram_transport()
        return StructuredDatagramTransport(
            datagram_transport=transport, serializer=serializer, registry=registry
        )

    @first_by_position
    async def send_datagram(self, data: Data | Buffer) -> None:
        """Send one datagram; as ``send`` of the datagram transport."""
        transport = self._datagrams or await self.create_datagram_transport()
        await transport.send(data=data)

    @first_by_position
    async def send_datagrams(self, datagrams: Sequence[Data | Buffer]) -> None:
        """Send several at once; as ``send_datagrams`` of the datagram transport."""
        transport = self._datagrams or await self.create_datagram_transport()
        await transport.send_datagrams(datagrams)

    # The end.

    @first_by_position
    async def close(
        self,
        code: int = 0,
        *,
        reason: str | None = "",
        close_connection: bool = True,
        error_code: int | None = None,
    ) -> None:
        """End the session and tell the peer why.

        Waits until what was written has reached the peer, ``config.close_timeout`` (5 s) at most.
        What is still unread is dropped. Closed already: does nothing but close the connection, if
        it was the peer that ended its last session.

        Args:
            code: An application's code, 32 bits.
            reason: Text for the peer, up to 1,024 bytes in UTF-8; a longer one is cut.
            close_connection: Also close the connection, if this was its last session and it has
                carried no HTTP requests, of which more may come. That goes on
                when this has returned; ``session.connection.wait_closed()`` waits for it, as the
                end of ``async with WebTransportClient()`` does.
            error_code: ``code`` by its name of 0.20.

        Raises:
            ValueError: ``code`` does not fit into 32 bits.
            TypeError: ``reason`` is no text.
            InvalidStateError: This is not the session's loop.
        """
        code = code if error_code is None else error_code
        check_code("code", code)
        reason = reason_text(reason)
        link = self._link
        if link is None:
            return
        check_loop(link.loop)
        if self._state == SessionState.CLOSED:
            if close_connection and self._closed_by == "remote" and link.is_done:
                self._connection._begin_close()
            return
        if self._state == SessionState.CLOSING:
            await self.wait_closed()
        else:
            await self._finish(code, reason, self._connection.config.close_timeout)
        if close_connection and link.is_done:
            self._connection._begin_close()

    async def wait_closed(self) -> None:
        """Wait until the session has ended and its SESSION_CLOSED handlers have run."""
        if self._state == SessionState.CLOSED:
            return
        link = self._link or self._initialized()
        check_loop(link.loop)
        future: asyncio.Future[None] = link.loop.create_future()
        if self._closed_waiters is None:
            self._closed_waiters = []
        await wait_among(self._closed_waiters, future)

    # Looking at it.

    def stats(self) -> WebTransportConnectionStats:
        """What the connection has done so far, with the session's datagrams; also after the end.

        Raises:
            SessionError: The session is not initialized.
        """
        link, transport = self._initialized(), self._datagrams
        engine = link.engine.stats()
        if transport is not None:
            return WebTransportConnectionStats.of(engine, transport.stats())
        assert self._control_id is not None
        try:
            dropped = link.engine.datagrams_dropped(self._control_id)
        except (EngineClosed, SessionRefused):
            dropped = 0
        datagrams = WebTransportDatagramStats(
            dropped_incoming=dropped,
            expired_incoming=0,
            expired_outgoing=0,
            lost_outgoing=engine.extra["datagrams_lost"],
        )
        return WebTransportConnectionStats.of(engine, datagrams)

    async def diagnostics(self) -> SessionDiagnostics:
        """A snapshot of the figures."""
        transport = self._datagrams
        if transport is not None:
            self._stats.datagrams_sent = transport.datagrams_sent
            self._stats.datagrams_received = transport.datagrams_received
        info = self._connection.get_session_info(session_id=self._session_id)
        return SessionDiagnostics(
            stats=self._stats,
            state=self._state,
            is_connection_active=self._connection.is_connected,
            datagram_receive_buffer_size=(
                0 if transport is None else transport.get_receive_buffer_size()
            ),
            send_credit_available=(
                0 if info is None else max(0, info.peer_max_data - info.local_data_sent)
            ),
            receive_credit_available=(
                0 if info is None else max(0, info.local_max_data - info.peer_data_sent)
            ),
        )

    async def monitor_health(self, *, check_interval: float = 60.0) -> None:
        """Warn in the log when the connection has been silent for 300 s, until the session ends.

        Args:
            check_interval: Seconds between two looks.
        """
        while not self.is_closed:
            last = self._connection.last_activity_time
            if last and time.time() - last > STALE_AFTER:
                logger.warning("session %s: no activity for %.0f s", self, time.time() - last)
            try:
                async with asyncio.timeout(check_interval):
                    await self.wait_closed()
            except builtins.TimeoutError:
                continue

    async def export_keying_material(
        self, *, label: bytes | str, context: bytes | str, length: int
    ) -> bytes:
        """Key material that only the two ends can know (webtrans-http3-16 §4.9).

        Raises:
            SessionError: The session is not established.
            ValueError: ``length`` is not in 1..8160, or ``label`` or ``context`` has more than 255
                bytes.
        """
        link = self._established()
        if not 0 < length <= MAX_KEYING_MATERIAL:
            raise ValueError(f"length must be in 1..{MAX_KEYING_MATERIAL}, it is {length}")
        assert self._control_id is not None
        try:
            return link.engine.export_keying_material(
                self._control_id,
                label.encode() if isinstance(label, str) else label,
                context.encode() if isinstance(context, str) else context,
                length,
            )
        except (EngineClosed, SessionRefused) as error:
            raise self._error(f"no keying material: {error}") from error
