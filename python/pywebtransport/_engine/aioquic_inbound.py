"""What the driver tells a connection of the aioquic engine, kept until the application takes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pywebtransport._engine.aioquic_buffers import (
    MAX_DATAGRAM_BYTES,
    NO_SESSION,
    Backlog,
    SessionBuffers,
    StreamBuffers,
    WaitsFor,
)
from pywebtransport._engine.aioquic_quic import Quic
from pywebtransport._engine.base import CloseInfo, ConnectionSink, SessionRequest

__all__ = ["Inbound", "Limits"]

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Limits:
    """What one connection may hold and how long it may wait."""

    stream_buffer: int
    """Bytes a stream accepts before they are sent."""
    send_window: int
    """Bytes all streams together accept before they are acknowledged."""
    incoming_datagrams: int
    """Datagrams queued for each session."""
    max_datagram_frame_size: int
    """As announced to the peer."""
    handshake_timeout: float
    first_session_timeout: float | None
    """Server: how long a client may go on without asking for a session."""
    request_linger: float
    """Server: how long a connection that has carried requests waits for another."""
    close_timeout: float
    """How long a closing connection waits for the peers of its sessions."""
    keep_alive: float | None
    """Seconds of silence until a PING."""
    has_session_credit: bool
    """Sessions offer the peer credit of their own, which has to be renewed as well."""


class Inbound:
    """Streams, sessions and the sink of one connection; a ``DriverOwner``."""

    def __init__(
        self,
        *,
        quic: Quic,
        limits: Limits,
        flush_soon: Callable[[], None],
        fail: Callable[[], None],
    ) -> None:
        """``fail``: what is told did not take it; the connection has to end."""
        self._quic = quic
        self._limits = limits
        self._flush_soon = flush_soon
        self._fail = fail
        self._sink = cast(ConnectionSink, Backlog())
        self.streams: dict[int, StreamBuffers] = {}
        self.sessions: dict[int, SessionBuffers] = {}
        self._ended: dict[int, SessionBuffers] = {}
        """Ended sessions with datagrams that came before the end and have not been read."""
        self.requests: set[int] = set()
        """Sessions asked for and not yet answered."""
        self.had_session = False
        self.had_request = False
        """An ordinary HTTP request was shown."""
        self._responses: set[int] = set()
        """Streams of complete responses, which may not have been acknowledged."""
        self.streams_wanted: dict[tuple[int, bool], None] = {}
        """Sessions and kinds for which ``open_stream`` found QUIC's limit reached."""
        self.datagrams_dropped = 0
        self._writers: dict[int, StreamBuffers] = {}
        """Writers that wait for the connection's buffer, first come first served."""

    def set_sink(self, sink: ConnectionSink) -> None:
        before, self._sink = self._sink, sink
        if isinstance(before, Backlog):
            for name, arguments in before.take():
                self._tell(getattr(sink, name), *arguments)

    def _tell(self, notification: Callable[..., None], *arguments: Any) -> None:
        """An error in the facade ends this connection and no other."""
        try:
            notification(*arguments)
        except Exception:
            logger.exception("%s failed; the connection is closed", notification.__qualname__)
            self._fail()

    def closed(self, info: CloseInfo) -> None:
        self._writers.clear()
        self._tell(self._sink.closed, info)

    def session_begins(self, session_id: int) -> None:
        self.sessions[session_id] = SessionBuffers(self._limits.incoming_datagrams)

    def come_apart(self) -> None:
        """Nothing more is told; what arrived can still be read."""
        self._sink = cast(ConnectionSink, Backlog())
        self._flush_soon = self._fail = _nothing

    # datagrams

    def take_datagrams(self, session_id: int, max_count: int) -> list[bytes]:
        session = self.sessions.get(session_id) or self._ended.get(session_id)
        if session is None:
            return []
        taken = session.take(max_count)
        if not taken:
            session.reader_waits = True
            self._ended.pop(session_id, None)
        return taken

    def datagrams_dropped_of(self, session_id: int) -> int:
        """Of a session that has ended when its end is told: what is only a number is forgotten."""
        session = self.sessions.get(session_id)
        if session is None:
            session = self._ended.get(session_id)
            if session is not None and not session.size:
                del self._ended[session_id]
        return 0 if session is None else session.dropped

    def _keep_datagrams(self, session_id: int, session: SessionBuffers) -> None:
        """What came before the end is still read, unless more recent ends leave no room."""
        if session.size or session.dropped:
            self._ended[session_id] = session
        while sum(each.size for each in self._ended.values()) > MAX_DATAGRAM_BYTES:
            oldest = self._ended.pop(next(iter(self._ended)))
            self.datagrams_dropped += len(oldest.take(oldest.max_count))

    # writers

    def wait(self, stream_id: int, stream: StreamBuffers, what: WaitsFor, wanted: int) -> None:
        """A writer could not place ``wanted`` bytes; stream_writable follows."""
        if not wanted:
            return
        stream.writer_waits = what
        stream.wanted = wanted
        if what is WaitsFor.SESSION:
            self._flush_soon()  # the core tells the peer what blocks us
            session = self.sessions.get(stream.session_id)
            if session is not None:
                session.blocked.append(stream_id)
        elif what is WaitsFor.CONNECTION:
            self._writers[stream_id] = stream

    def tell_writers(self) -> None:
        """Packets took stream data, or the peer took some or gave credit: writers may go on."""
        quic, buffer = self._quic, self._limits.stream_buffer
        sent, quic.drained = quic.drained, set()
        for stream_id in sent:
            stream = self.streams.get(stream_id)
            if (
                stream is not None
                and stream.writer_waits is WaitsFor.BUFFER
                and (outgoing := quic.stream(stream_id)) is not None
                and outgoing.sender.unsent <= buffer // 2
                and outgoing.credit > 0
            ):
                self._tell_writable(stream_id, stream)
        room = self._limits.send_window * 3 // 4 - quic.kept
        while room > 0 and self._writers:
            stream_id, stream = next(iter(self._writers.items()))
            room -= min(stream.wanted, buffer)
            self._tell_writable(stream_id, stream)
        for session_id in quic.outgoing.take_writable():
            self._tell(self._sink.datagrams_writable, session_id)

    def tell_streams_granted(self) -> None:
        self._quic.streams_granted.clear()
        for wanted in list(self.streams_wanted):
            session_id, unidirectional = wanted
            if self._quic.can_open(unidirectional):
                del self.streams_wanted[wanted]
                self._tell(self._sink.streams_available, session_id, unidirectional)

    def _tell_writable(self, stream_id: int, stream: StreamBuffers) -> None:
        stream.writer_waits = None
        self._writers.pop(stream_id, None)
        self._tell(self._sink.stream_writable, stream_id)

    # ends of streams

    def write_ended(self, stream_id: int, stream: StreamBuffers) -> None:
        stream.is_write_ended = True
        stream.writer_waits = None
        self._writers.pop(stream_id, None)
        self._forget_if_done(stream_id, stream)

    def drop(self, stream_id: int, stream: StreamBuffers) -> None:
        """Nobody will read what arrived: its credit goes back."""
        stream.is_read_ended = True
        stream.reader_waits = False
        size = stream.drop()
        incoming = self._quic.stream(stream_id)
        if size and not (incoming is not None and incoming.is_credit_settled):
            self.core_consumed(stream_id, size)
        self.release(stream_id, stream)

    def release(self, stream_id: int, stream: StreamBuffers) -> None:
        """Nothing more is to come; when all is read as well, the peer may have another stream."""
        if stream.size:
            return
        if stream.is_retained:
            stream.is_retained = False
            if self._quic.release_stream(stream_id):
                self._flush_soon()
        self._forget_if_done(stream_id, stream)

    def _forget_if_done(self, stream_id: int, stream: StreamBuffers) -> None:
        if stream.is_done:
            self.streams.pop(stream_id, None)

    # told by the driver

    def core_consumed(self, stream_id: int, size: int) -> None:
        if self._quic.stream_consumed(stream_id, size):
            self._flush_soon()

    def datagram_received(self, session_id: int, data: bytes) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            return
        self.datagrams_dropped += session.append(data)
        if session.reader_waits:
            session.reader_waits = False
            self._tell(self._sink.datagrams_readable, session_id)

    def goaway_received(self, request_id: int) -> None:
        logger.debug("the peer sent GOAWAY %d", request_id)

    def session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None:
        self.requests.discard(session_id)
        session = self.sessions.pop(session_id, None)
        if session is not None:
            self._keep_datagrams(session_id, session)
        if by != "local":
            self._quic.outgoing.end_session(session_id)
        for unidirectional in (False, True):
            self.streams_wanted.pop((session_id, unidirectional), None)
        self._tell(self._sink.session_closed, session_id, code, reason, by, error)

    def session_draining(self, session_id: int) -> None:
        self._tell(self._sink.session_draining, session_id)

    def session_established(
        self, session_id: int, protocol: str | None, headers: Mapping[str, str], _dialect: str
    ) -> None:
        self.requests.discard(session_id)
        self.session_begins(session_id)
        self._tell(self._sink.session_established, session_id, protocol, headers)

    def session_rejected(
        self,
        session_id: int,
        status: int,
        headers: Mapping[str, str],
        _error: int | None,
        reason: str,
    ) -> None:
        logger.debug("session %d was rejected: %d %s", session_id, status, reason)
        self.requests.discard(session_id)
        self._tell(self._sink.session_rejected, session_id, status, headers, reason)

    def session_requested(
        self,
        session_id: int,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        dialect: str,
    ) -> None:
        self.had_session = True
        self.requests.add(session_id)
        self._tell(
            self._sink.session_requested,
            SessionRequest(session_id, authority, path, dict(headers), protocols, dialect),
        )

    def request_received(
        self,
        stream_id: int,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        expects_continue: bool,
    ) -> None:
        self.had_request = True
        self.streams[stream_id] = StreamBuffers(
            NO_SESSION,
            readable=True,
            writable=True,
            is_retained=self._quic.retain_stream(stream_id),
        )
        self._tell(
            self._sink.request_received,
            *(stream_id, method, scheme, authority, path, headers, expects_continue),
        )

    def request_trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        self._tell(self._sink.request_trailers, stream_id, fields)

    def request_aborted(self, stream_id: int, code: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.request_over(stream_id, stream)
            self._tell(self._sink.request_aborted, stream_id, code)

    def response_ended(self, stream_id: int, stream: StreamBuffers) -> None:
        self._responses.add(stream_id)
        self.write_ended(stream_id, stream)

    def request_over(self, stream_id: int, stream: StreamBuffers) -> None:
        self.drop(stream_id, stream)
        self.write_ended(stream_id, stream)

    def has_unacknowledged(self) -> bool:
        """Whether a response that has its end has yet to reach the client."""
        for stream_id in list(self._responses):
            stream = self._quic.stream(stream_id)
            if stream is None or stream.sender.is_finished or stream.sender.is_reset:
                self._responses.discard(stream_id)
        return bool(self._responses)

    def session_writable(self, session_id: int) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            return
        blocked, session.blocked = session.blocked, []
        for stream_id in blocked:
            stream = self.streams.get(stream_id)
            if stream is not None and stream.writer_waits is WaitsFor.SESSION:
                self._tell_writable(stream_id, stream)

    def settings_received(self, dialect: str | None) -> None:
        logger.debug("the peer's SETTINGS arrived, dialect %s", dialect)

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None or stream.is_read_ended:
            self.core_consumed(stream_id, len(data))
            return
        if data:
            stream.append(data)
        if fin:
            stream.is_read_ended = True
            self.release(stream_id, stream)
        if stream.reader_waits:
            stream.reader_waits = False
            self._tell(self._sink.stream_readable, stream_id)

    def stream_opened(self, session_id: int, stream_id: int, unidirectional: bool) -> None:
        self.streams[stream_id] = StreamBuffers(
            session_id,
            readable=True,
            writable=not unidirectional,
            is_retained=self._quic.retain_stream(stream_id),
        )
        self._tell(self._sink.stream_opened, session_id, stream_id)

    def stream_reset(self, stream_id: int, _code: int | None, raw: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.drop(stream_id, stream)
            self._tell(self._sink.stream_reset, stream_id, raw)

    def stream_stopped(self, stream_id: int, _code: int | None, raw: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.write_ended(stream_id, stream)
            self._tell(self._sink.stream_stopped, stream_id, raw)

    def streams_available(self, session_id: int, unidirectional: bool) -> None:
        if self._quic.can_open(unidirectional):
            self._tell(self._sink.streams_available, session_id, unidirectional)
        else:
            self.streams_wanted[session_id, unidirectional] = None


def _nothing() -> None:
    """After the end."""
