"""Where an engine's notifications go: the sink of one connection.

The link finds the session or stream that a notification is for. Sessions and streams reach the
engine, the clock and the fairness budget through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter

from pywebtransport._engine.base import CloseInfo, EngineConnection, RequestHead, SessionRequest
from pywebtransport._link.deadlines import Deadlines
from pywebtransport._link.sides import ConnectionSide, RequestSide, SessionSide, StreamSide
from pywebtransport._link.unfinished import UnfinishedMessages

__all__ = ["BUDGET", "OPERATION", "Link"]

BUDGET = 64
"""Operations of one connection that may complete in a row without a trip through the loop."""
OPERATION = 16_384
"""Bytes of stream data that count as one more, so that a busy stream leaves the loop to others
after about a millisecond."""

READING_SLICE = 0.0005
"""Seconds for which one who reads datagrams may hold the loop when they keep coming: about as long
as the engine takes to bring them, so that neither gets ahead of the other."""


class Link:
    """Implements ``ConnectionSink`` for a connection."""

    __slots__ = (
        "breathed_at",
        "budget",
        "connection",
        "engine",
        "handlers",
        "has_requests",
        "loop",
        "max_stream_buffer_size",
        "reads",
        "requests",
        "sessions",
        "streams",
        "unfinished",
        "writes",
    )

    def __init__(
        self,
        *,
        connection: ConnectionSide,
        engine: EngineConnection,
        read_timeout: float | None,
        write_timeout: float | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.connection: ConnectionSide | None = connection
        """Until the end: a connection that its link held would wait for the collector."""
        self.max_stream_buffer_size = connection.config.max_stream_buffer_size
        self.unfinished = UnfinishedMessages(connection.config.max_unfinished_message_bytes)
        self.engine = engine
        self.loop = loop
        self.budget = BUDGET
        self.breathed_at = 0.0
        """When the loop last ran in :meth:`breathe_in_time`."""
        deadlines = Deadlines.of(loop)
        self.reads = deadlines.waits(read_timeout)
        self.writes = deadlines.waits(write_timeout)
        self.sessions: dict[int, SessionSide] = {}
        self.streams: dict[int, StreamSide] = {}
        self.requests: dict[int, RequestSide] = {}
        """Ordinary HTTP requests that are not over."""
        self.handlers = 0
        """Of HTTP requests, that have not returned."""
        self.has_requests = False
        """There was one: the client may make more when its last session has ended."""

    async def breathe(self) -> None:
        """Let the loop run once. Called when the budget is spent, before anything is taken."""
        self.budget = BUDGET
        await asyncio.sleep(0)

    async def breathe_in_time(self) -> None:
        """As :meth:`breathe`, but only when :data:`READING_SLICE` is over."""
        self.budget = BUDGET
        if perf_counter() - self.breathed_at >= READING_SLICE:
            await asyncio.sleep(0)
            self.breathed_at = perf_counter()

    @property
    def is_done(self) -> bool:
        """No session is left, and its client makes no HTTP requests."""
        return not self.sessions and not self.has_requests

    # ConnectionSink

    def session_requested(self, request: SessionRequest) -> None:
        if self.connection is not None:
            self.connection._session_requested(request)

    def session_established(
        self, session_id: int, protocol: str | None, headers: Mapping[str, str]
    ) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_established(protocol, headers)

    def session_rejected(
        self, session_id: int, status: int, headers: Mapping[str, str], reason: str
    ) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_rejected(status, headers, reason)

    def session_draining(self, session_id: int) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_draining()

    def session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_closed(code, reason, by, error)

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
        if self.connection is not None:
            self.connection._request_received(
                RequestHead(stream_id, method, scheme, authority, path, headers, expects_continue)
            )

    def request_trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        request = self.requests.get(stream_id)
        if request is not None:
            request._on_trailers(fields)

    def request_aborted(self, stream_id: int, code: int) -> None:
        request = self.requests.get(stream_id)
        if request is not None:
            request._on_given_up(code)

    def streams_available(self, session_id: int, unidirectional: bool) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_streams_available(unidirectional)

    def stream_opened(self, session_id: int, stream_id: int) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_stream_opened(stream_id)

    def stream_readable(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream._on_readable()
        elif (request := self.requests.get(stream_id)) is not None:
            request._on_readable()

    def stream_writable(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream._on_writable()
        elif (request := self.requests.get(stream_id)) is not None:
            request._on_writable()

    def stream_reset(self, stream_id: int, code: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream._on_reset(code)

    def stream_stopped(self, stream_id: int, code: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream._on_stopped(code)

    def datagrams_readable(self, session_id: int) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_datagrams_readable()

    def datagrams_writable(self, session_id: int) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            session._on_datagrams_writable()

    def closed(self, info: CloseInfo) -> None:
        if self.connection is not None:
            self.connection._on_closed(info)
