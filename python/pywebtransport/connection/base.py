"""The inside of a connection: its sessions, what the engine tells it, its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pywebtransport._engine.base import (
    CloseInfo,
    EngineClosed,
    EngineConnection,
    EngineStats,
    RequestHead,
    SessionRefused,
    SessionRequest,
)
from pywebtransport._engine.rules import refuses_certificate
from pywebtransport._identifiers import random_uuid
from pywebtransport._link.ends import Ending, Register
from pywebtransport._link.link import Link
from pywebtransport._waiting import wait_within
from pywebtransport._words import peer_text
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectCertificateError,
    ConnectionError,
    SessionError,
    WebTransportError,
)
from pywebtransport.session.base import SessionBase
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import (
    Address,
    ConnectionState,
    EventType,
    Headers,
    SessionId,
    SessionState,
)
from pywebtransport.utils import generate_session_id, get_logger

if TYPE_CHECKING:
    from pywebtransport.protocol.session_info import WebTransportSessionInfo

__all__ = ["ConnectionBase", "request_data", "wake"]

logger = get_logger(name=__name__)

HANDLES = itertools.count(1)


class Refusal(NamedTuple):
    """Why a session never became ready."""

    status: int | None
    text: str
    headers: Headers

    @classmethod
    def of(cls, session: SessionBase) -> Self:
        text = session._close_reason
        if session._status is None:
            text = peer_text(text) if text else session._end_text()
        return cls(session._status, text, dict(session._response_headers))


class ConnectionBase(Ending, EventEmitter):
    """What :class:`WebTransportConnection` is made of. Not made by applications.

    What most connections never have is a class attribute until they do.
    """

    _connection_id: str | None = None
    _peer_certificate: bytes | None = None
    _state = ConnectionState.IDLE
    _link: Link | None = None
    _on_request: Callable[[WebTransportSession], None] | None = None
    """Who answers requests, on a server; without it they are SESSION_REQUEST events."""
    _on_http_request: Callable[[ConnectionBase, Link, RequestHead], None] | None = None
    """Who answers ordinary HTTP requests, on a server that does."""
    _is_drained = False
    """Whether one of its sessions was told to end, so that none is added."""
    _on_session_end: Callable[[SessionBase], None] | None = None
    _on_end: Callable[[ConnectionBase], None] | None = None
    _registers: list[Register] | None = None
    _refusal: Refusal | None = None
    """Of the last session that ended before it was ready."""
    _established: SessionBase | None = None
    """The last session that became ready, until somebody has been told.

    The answer and the end can come in one packet, before anyone saw the session ready.
    """
    _session_waiters: list[asyncio.Future[None]] | None = None
    _ready_waiters: list[asyncio.Future[None]] | None = None
    _closed_waiters: list[asyncio.Future[None]] | None = None
    _announcement: asyncio.Task[None] | None = None
    _last_activity = 0.0
    _packets_seen = 0
    _established_at: float | None = None
    _closed_at: float | None = None
    _close_info: CloseInfo | None = None

    def __init__(self, *, config: ClientConfig | ServerConfig) -> None:
        self._config = config
        self._handle = next(HANDLES)
        self._is_client = isinstance(config, ClientConfig)
        self._sessions: dict[SessionId, WebTransportSession] = {}

    @property
    def config(self) -> ClientConfig | ServerConfig:
        """As given."""
        return self._config

    @property
    def connection_id(self) -> str:
        """``conn_`` and a UUID."""
        if self._connection_id is None:
            self._connection_id = f"conn_{random_uuid()}"
        return self._connection_id

    @property
    def is_client(self) -> bool:
        """Whether this side made the connection."""
        return self._is_client

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._state == ConnectionState.CLOSED

    @property
    def remote_address(self) -> Address | None:
        """Where the peer is, or was last."""
        return None if self._link is None else self._link.engine.remote_address

    def _start(self, engine: EngineConnection, request: SessionRequest | None = None) -> None:
        """Take the engine's notifications; ``request`` is what the engine has asked for."""
        config = self._config
        self._link = link = Link(
            connection=self,  # type: ignore[arg-type]
            engine=engine,
            read_timeout=config.read_timeout,
            write_timeout=config.write_timeout,
        )
        self._state = ConnectionState.CONNECTED
        self._established_at = time.time()
        if self._is_heard:
            self._note(EventType.CONNECTION_ESTABLISHED, {"connection_id": self.connection_id})
        if self._ready_waiters is not None:
            wake(self._ready_waiters)
        if request is not None:
            self._new_session(link, request)
        engine.set_sink(link)

    def _request(self, request: SessionRequest) -> WebTransportSession:
        link = self._link
        if link is None or self._state != ConnectionState.CONNECTED:
            raise self._closed_error()
        try:
            session_id = link.engine.open_session(
                authority=request.authority,
                path=request.path,
                headers=request.headers,
                protocols=request.protocols,
            )
        except (EngineClosed, SessionRefused) as error:
            raise ConnectionError(
                f"no session can be requested: {error}", remote_address=self.remote_address
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"no session can be requested: {error}") from error
        self._refusal = self._established = None
        return self._new_session(link, request._replace(session_id=session_id))

    def _new_session(self, link: Link, request: SessionRequest) -> WebTransportSession:
        config = self._config
        session = WebTransportSession(
            self,  # type: ignore[arg-type]
            session_id=generate_session_id(),
            max_streams=(
                config.max_streams
                if isinstance(config, ClientConfig)
                else config.max_streams_per_connection
            ),
            max_incoming_streams=config.max_incoming_streams,
            stream_cleanup_interval=config.stream_cleanup_interval,
            path=request.path,
            headers=request.headers,
            wt_available_protocols=list(request.protocols),
        )
        session._attach(link, request.session_id)
        self._sessions[session._session_id] = session
        return session

    def _adopt(self, session: SessionBase) -> None:
        """An application has made a session object of its own for one of our sessions."""
        previous = self._sessions.get(session._session_id)
        if previous is None:
            raise SessionError(
                f"the connection has no session {session._session_id!r}",
                session_id=session._session_id,
                session_state=session._state,
            )
        session._take_over(previous)
        assert isinstance(session, WebTransportSession)
        self._sessions[session._session_id] = session

    def _session_requested(self, request: SessionRequest) -> None:
        link = self._link
        if link is None:
            return
        session = self._new_session(link, request)
        if self._on_request is not None:
            self._on_request(session)
        elif self._has_listeners(EventType.SESSION_REQUEST):
            self._note(EventType.SESSION_REQUEST, request_data(session))
        else:
            session._reject(404, "nobody listens")

    def _request_received(self, head: RequestHead) -> None:
        if self._link is not None and self._on_http_request is not None:
            self._on_http_request(self, self._link, head)

    def _handler_failed(self, event: Event) -> None:
        """A listener raised: if it was to answer a request, nobody else will."""
        if event.type is EventType.SESSION_REQUEST and event.data is not None:
            session = event.data["session"]
            if session._state == SessionState.CONNECTING:
                session._reject(500, "a listener failed")

    def _session_ready(self, session: SessionBase) -> None:
        if self._is_client and not session._waits_for_answer:
            self._established = session
        if self._session_waiters is not None:
            wake(self._session_waiters)

    def _session_drains(self) -> None:
        self._is_drained = True

    def _session_ended(self, session: SessionBase) -> None:
        self._sessions.pop(session._session_id, None)
        if session._stats.ready_at is None:
            self._refusal = Refusal.of(session)
        if self._on_session_end is not None:
            self._on_session_end(session)
        if self._session_waiters is not None:
            wake(self._session_waiters)

    def _begin_drain(self) -> None:
        """Tell the peer that no new session is welcome, and each session that it should end."""
        link = self._link
        if link is None or self._state != ConnectionState.CONNECTED:
            return
        with contextlib.suppress(EngineClosed, SessionRefused):
            link.engine.send_goaway()
        for control_id in list(link.sessions):
            with contextlib.suppress(EngineClosed, SessionRefused):
                link.engine.drain_session(control_id)

    def _begin_close(self, code: int = 0, reason: str = "") -> None:
        """The engine closes when the peer has read the end of its sessions, and tells so."""
        link = self._link
        if link is not None and self._state == ConnectionState.CONNECTED:
            # Sessions have codes of their own; HTTP/3's mean nothing to an application.
            is_clean = code in (0, ErrorCodes.H3_NO_ERROR)
            session_code = ErrorCodes.NO_ERROR if is_clean else ErrorCodes.INTERNAL_ERROR
            for session in list(link.sessions.values()):
                was_connecting = session._state == SessionState.CONNECTING
                session._is_cut = True
                session._close_now(link, session_code, reason, was_connecting)
            self._state = ConnectionState.CLOSING
            link.engine.close(code=code or ErrorCodes.H3_NO_ERROR, reason=reason)

    async def _close_within(self, limit: float, code: int = 0, reason: str = "") -> None:
        """Close; what was written has ``limit`` seconds to reach the peer, its answer included."""
        if self._state == ConnectionState.CLOSED:
            return
        link = self._link
        if link is None:
            self._state = ConnectionState.CLOSED
            if self._ready_waiters is not None:
                wake(self._ready_waiters)
            return
        deadline = None
        unsent = [session for session in link.sessions.values() if session._has_sent(link)]
        if unsent and self._state == ConnectionState.CONNECTED:
            deadline = link.loop.time() + limit
            is_clean = code in (0, ErrorCodes.H3_NO_ERROR)
            if is_clean:
                await asyncio.gather(*(session._deliver(link, limit) for session in unsent))
        self._begin_close(code, reason)
        try:
            async with asyncio.timeout_at(deadline):
                await link.engine.wait_closed()
        except TimeoutError:
            logger.debug("%s: the peer does not answer; the engine goes on alone", self)
        self._on_closed(CloseInfo(code, reason, "local"))
        if self._announcement is not None and not self._is_delivering_here():
            await wait_within(self._announcement, limit, "a handler of CONNECTION_CLOSED")

    def _on_closed(self, info: CloseInfo) -> None:
        """The QUIC connection is gone; what was not told so by the engine is told now."""
        link = self._link
        if self._close_info is not None or link is None:
            return
        self._close_info = info
        self._closed_at = time.time()
        self._state = ConnectionState.CLOSED
        if link.sessions:
            reason = info.reason or f"connection closed, code {info.code:#x}"
            for session in list(link.sessions.values()):
                session._on_closed(0, reason, info.by)
        if link.streams:
            for stream in list(link.streams.values()):
                stream._lose()
        if link.requests:
            for request in list(link.requests.values()):
                request._lose()
        if self._on_end is not None:
            self._on_end(self)
        link.connection = None
        for waiters in (self._session_waiters, self._ready_waiters):
            if waiters is not None:
                wake(waiters)
        self._leave_all()
        if self._is_heard:
            self._tell_closed(info)
        elif self._closed_waiters is not None:
            wake(self._closed_waiters)

    def _tell_closed(self, info: CloseInfo) -> None:
        data = {"connection_id": self.connection_id, "code": info.code, "reason": info.reason}
        kinds = [EventType.CONNECTION_CLOSED]
        if self._was_lost():
            kinds.insert(0, EventType.CONNECTION_LOST)
        if any(map(self._has_listeners, kinds)):
            self._announcement = asyncio.ensure_future(self._announce_closed(kinds, data))
        else:
            for kind in kinds:
                self._note(kind, data)
            wake(self._closed_waiters or [])

    async def _announce_closed(self, kinds: list[EventType], data: dict[str, Any]) -> None:
        try:
            await self._settle(self._config.close_timeout)
            for kind in kinds:
                await self.emit(event_type=kind, data=data, source=self)
        finally:
            wake(self._closed_waiters or [])

    def _was_lost(self) -> bool:
        return self._close_info is not None and self._close_info.by != "local"

    def _engine_stats(self) -> EngineStats:
        return EngineStats() if self._link is None else self._link.engine.stats()

    def _info(self, session: WebTransportSession) -> WebTransportSessionInfo:
        # Its room loads a handler that few programs need.
        from pywebtransport.protocol.session_info import WebTransportSessionInfo

        assert session._control_id is not None
        return WebTransportSessionInfo(
            session_id=session.session_id,
            control_stream_id=session._control_id,
            state=session.state,
            path=session.path,
            created_at=session._stats.created_at,
            headers=session.headers,
            ready_at=session._stats.ready_at,
            closed_at=session._stats.closed_at,
            **self._session_flow(session._control_id),
        )

    def _session_flow(self, control_id: int) -> dict[str, Any]:
        return {} if self._link is None else self._link.engine.session_flow(control_id)

    def _refused(self, refusal: Refusal) -> WebTransportError:
        if refusal.status is None and self.is_closed:
            return self._closed_error()
        text = f"Session closed before ready: {refusal.text}"
        if refusal.status == 0 and self._sessions:
            text += (
                f"; {len(self._sessions)} other sessions are open on this connection, and without"
                " session flow control, which both ends have to offer (initial_max_data and"
                " initial_max_streams_*), it carries one: open another connection"
            )
        error = ClientError(text)
        error.status_code = refusal.status or None
        error.headers = refusal.headers
        return error

    def _closed_error(self) -> ConnectionError:
        info = self._close_info
        text = "the connection is closed"
        if info is not None and self.is_client and refuses_certificate(info):
            error = ConnectCertificateError(
                "the server does not accept our certificate, the one of certfile= and keyfile=:"
                f" {peer_text(info.reason) if info.reason else f'code {info.code:#x}'}",
                error_code=info.code,
            )
            error.certificate_error = "refused"
            return error
        if info is not None:
            text = f"the connection was closed ({info.by}), code {info.code:#x}"
            if info.reason:
                text += f": {peer_text(info.reason)}"
        return ConnectionError(
            text,
            error_code=None if info is None else info.code,
            remote_address=self.remote_address,
        )


def request_data(session: WebTransportSession) -> dict[str, Any]:
    """What SESSION_REQUEST tells."""
    return {
        "session_id": session.session_id,
        "stream_id": session._control_id,
        "control_stream_id": session._control_id,
        "path": session.path,
        "headers": session.headers,
        "state": SessionState.CONNECTING,
        "created_at": session._stats.created_at,
        "connection": session.connection,
        "session": session,
    }


def wake(waiters: list[asyncio.Future[None]]) -> None:
    for future in waiters:
        if not future.done():
            future.set_result(None)
    waiters.clear()
