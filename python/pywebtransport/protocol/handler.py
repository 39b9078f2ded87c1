"""The protocol handler: WebTransport on a sans-I/O QUIC connection, told by events.

Whoever owns the QUIC connection (aioquic's, qh3's, ``pywebtransport.quic``'s) feeds packets to
it, passes each of its events to :meth:`WebTransportProtocolHandler.handle_quic_event`, and sends
what there is to send when ``trigger_transmission`` is called. Nothing here waits for a socket.

Sessions have two names: the opaque text that the methods and events take, and the id of the
stream that carries their CONNECT request.
"""

from __future__ import annotations

import asyncio
import builtins
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pywebtransport._engine.driver import Driver, core_config, max_datagram_payload
from pywebtransport._native import CoreError
from pywebtransport._words import reason_text
from pywebtransport.config import BaseConfig, ClientConfig, ServerConfig
from pywebtransport.constants import SETTINGS_WT_MAX_SESSIONS
from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import (
    ConnectionError,
    FlowControlError,
    ProtocolError,
    SessionError,
    StreamError,
    TimeoutError,
    datagram_too_large,
    no_datagrams,
)
from pywebtransport.protocol._registry import Registry
from pywebtransport.protocol.session_info import WebTransportSessionInfo
from pywebtransport.protocol.utils import can_receive_data_on_stream, can_send_data_on_stream
from pywebtransport.types import (
    ConnectionState,
    Data,
    EventType,
    Headers,
    SessionId,
    SessionState,
    StreamId,
)
from pywebtransport.utils import ensure_bytes

if TYPE_CHECKING:
    from pywebtransport._engine.driver import QuicConnectionLike as QuicConnection
    from pywebtransport.connection import WebTransportConnection

    QuicEvent: TypeAlias = object
    """An event of whichever library the connection is from."""

__all__ = ["WebTransportProtocolHandler"]

DEGRADED_ERROR_RATE = 0.1
"""Errors per session above which the health is no longer good."""
MAX_APPLICATION_CODE = 2**32 - 1
ENDS_OF_STREAM = (EventType.STREAM_ERROR, EventType.STREAM_CLOSED)
"""Which come without ``end_stream``."""


class WebTransportProtocolHandler(EventEmitter):
    """HTTP/3 and WebTransport on one QUIC connection, for either role."""

    def __init__(
        self,
        *,
        quic_connection: QuicConnection,
        trigger_transmission: Callable[[], None] | None = None,
        is_client: bool = True,
        connection: WebTransportConnection | None = None,
    ) -> None:
        """``connection``, kept by a weak reference, lends its configuration."""
        super().__init__()
        self._quic = quic_connection
        self._is_client = is_client
        self._connection = None if connection is None else weakref.ref(connection)
        self._transmit = trigger_transmission or _do_nothing
        self._state = ConnectionState.IDLE
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        config: BaseConfig = ClientConfig() if is_client else ServerConfig()
        if connection is not None:
            config = connection.config
        self._registry = Registry(
            is_client=is_client,
            local_limits=(
                config.initial_max_data,
                config.initial_max_streams_bidi,
                config.initial_max_streams_uni,
            ),
            driver=lambda: self._driver,
        )
        self._driver = Driver(
            quic=quic_connection,
            config=core_config(config, is_client=is_client),
            owner=self._registry,
            max_datagram_frame_size=config.max_datagram_size,
        )

    # facts

    @property
    def quic_connection(self) -> QuicConnection:
        """The QUIC connection that was given."""
        return self._quic

    @property
    def connection(self) -> WebTransportConnection | None:
        """The connection object this belongs to, while that exists."""
        return None if self._connection is None else self._connection()

    @property
    def connection_state(self) -> ConnectionState:
        """IDLE, CONNECTED or CLOSED."""
        return self._state

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is complete and the handler not closed."""
        return self._state is ConnectionState.CONNECTED

    @property
    def stats(self) -> dict[str, Any]:
        """Counters since the beginning; a copy."""
        return dict(self._registry.stats)

    def get_session_info(self, *, session_id: SessionId) -> WebTransportSessionInfo | None:
        """The live object of this session, None when there is none."""
        info = self._registry.sessions.get(session_id)
        return None if info is None else self._registry.update_limits(info)

    def get_all_sessions(self) -> list[WebTransportSessionInfo]:
        """The live objects of the sessions, ended ones included while they are remembered."""
        return [self._registry.update_limits(info) for info in self._registry.sessions.values()]

    def get_health_status(self) -> dict[str, Any]:
        """A summary for monitoring."""
        stats = self._registry.stats
        sessions = stats["sessions_created"]
        error_rate = stats["errors"] / max(1, sessions)
        if not self.is_connected:
            status = "unhealthy"
        else:
            status = "degraded" if error_rate > DEGRADED_ERROR_RATE else "healthy"
        connected_at = stats["connected_at"]
        return {
            "status": status,
            "connection_state": self._state,
            "active_sessions": sum(
                info.state is SessionState.CONNECTED for info in self._registry.sessions.values()
            ),
            "active_streams": len(self._registry.streams),
            "total_sessions": sessions,
            "total_streams": stats["streams_created"],
            "error_rate": error_rate,
            "last_activity": self._registry.last_activity,
            "uptime": 0.0 if connected_at is None else time.time() - connected_at,
        }

    # from the owner of the QUIC connection

    def connection_established(self) -> None:
        """The handshake is complete. HandshakeCompleted says so too."""
        if self._state is ConnectionState.IDLE:
            self._state = ConnectionState.CONNECTED
            self._registry.stats["connected_at"] = time.time()

    async def handle_quic_event(self, *, event: QuicEvent) -> None:
        """Process one event of the QUIC connection and emit what follows from it.

        Returns when the handlers have run. A handler that waits for the peer, in
        ``establish_session`` for one, starts a task for that: the answer is a later event.
        """
        if self._state is ConnectionState.CLOSED:
            return
        now = time.monotonic()
        self._registry.last_activity = time.time()
        match type(event).__name__:
            case "HandshakeCompleted":
                self.connection_established()
                self._driver.handle_event(event, now)
            case "ConnectionTerminated":
                self._terminated(event)
            case _:
                self._driver.handle_event(event, now)
        self._driver.handle_timeout(now)
        self._arm_timer()
        self._transmit()
        await self._tell()

    def _terminated(self, event: Any) -> None:
        """The QUIC connection is gone, and its sessions with it."""
        code = event.error_code if event.frame_type is None else None
        self._driver.handle_closed(code, event.reason_phrase)
        self._state = ConnectionState.CLOSED

    async def close(self) -> None:
        """End every session here, emit that, and forget every listener. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._state = ConnectionState.CLOSED
        self._driver.handle_closed(None, "")
        await self._tell()
        await super().close()

    # sessions

    async def create_webtransport_session(
        self, *, path: str, headers: Headers | None = None
    ) -> tuple[SessionId, StreamId]:
        """Client: ask for a session; SESSION_READY or SESSION_CLOSED follows.

        A ``host`` among the headers is the request's authority, else the server name is.
        """
        if not self._is_client:
            raise ProtocolError("only a client creates sessions")
        self._check_session_limit()
        fields = dict(headers or {})
        authority = fields.pop("host", None) or self._server_name()
        try:
            stream_id = self._driver.open_session(
                authority=authority,
                path=path,
                headers=fields,
                protocols=(),
                now=time.monotonic(),
            )
        except CoreError as error:
            raise ConnectionError(f"cannot ask for a session: {error}") from error
        info = self._registry.add_session(stream_id, path, dict(headers or {}))
        self._driver.drain()
        self._flush()
        return info.session_id, stream_id

    async def establish_session(
        self, *, path: str, headers: Headers | None = None, timeout: float = 30.0
    ) -> tuple[SessionId, StreamId]:
        """Client: ask for a session and wait until it is ready; in vain, and it is closed.

        Raises ConnectionError without a connection, SessionError when the server refuses, and
        TimeoutError.
        """
        if not self.is_connected:
            raise ConnectionError("the connection is not established")
        session_id, stream_id = await self.create_webtransport_session(path=path, headers=headers)
        info = self._registry.sessions[session_id]
        try:
            await self._wait(
                lambda: info.state is not SessionState.CONNECTING,
                (EventType.SESSION_READY, EventType.SESSION_CLOSED),
                timeout=timeout,
                operation="establish_session",
            )
        except BaseException:
            self.close_webtransport_session(session_id=session_id)
            raise
        if info.state is SessionState.CLOSED:
            raise SessionError(
                f"session was not established: {info.close_reason}",
                session_id=session_id,
                session_state=info.state,
            )
        return session_id, stream_id

    async def recover_session(self, *, session_id: SessionId, max_retries: int = 3) -> bool:
        """Open a session as this one was opened; 1, 2, 4... seconds between attempts."""
        old = self._registry.sessions.get(session_id)
        if old is None:
            return False
        for attempt in range(max_retries):
            if attempt:
                await asyncio.sleep(2 ** (attempt - 1))
            try:
                await self.establish_session(path=old.path, headers=old.headers)
            except (ConnectionError, SessionError, TimeoutError):
                continue
            return True
        return False

    def accept_webtransport_session(self, *, stream_id: StreamId, session_id: SessionId) -> None:
        """Server: answer a SESSION_REQUEST with status 200; SESSION_READY follows here too."""
        if self._is_client:
            raise ProtocolError("only a server accepts sessions")
        info = self._registry.sessions.get(session_id)
        if info is None or info.control_stream_id != stream_id:
            raise ProtocolError(f"no session {session_id!r} was requested on stream {stream_id}")
        if info.state is not SessionState.CONNECTING:
            raise ProtocolError(f"session {session_id!r} cannot be accepted: it is {info.state}")
        self._registry.session_ready(info)
        try:
            self._driver.accept_session(stream_id, protocol=None, headers={}, now=time.monotonic())
        except CoreError as error:
            raise ProtocolError(f"session cannot be accepted: {error}") from error
        self._flush()

    def reject_session_request(self, *, stream_id: StreamId, status_code: int) -> None:
        """Server: answer a SESSION_REQUEST with this status."""
        if self._is_client:
            raise ProtocolError("only a server rejects sessions")
        try:
            self._driver.reject_session(
                stream_id, status=status_code, headers={}, now=time.monotonic()
            )
        except CoreError as error:
            raise ProtocolError(f"session cannot be rejected: {error}") from error
        self._flush()

    def close_webtransport_session(
        self, *, session_id: SessionId, code: int = 0, reason: str | None = None
    ) -> None:
        """Send CLOSE, end the session's streams, emit SESSION_CLOSED. No-op when it has ended."""
        info = self._registry.sessions.get(session_id)
        if info is None or info.state is SessionState.CLOSED:
            return
        reason = reason_text(reason)
        try:
            self._driver.close_session(
                info.control_stream_id, code=code, reason=reason, now=time.monotonic()
            )
        except CoreError:
            self._registry.end_session(info, code, reason)
        self._flush()

    # streams and datagrams

    def create_webtransport_stream(
        self, *, session_id: SessionId, is_unidirectional: bool = False
    ) -> StreamId:
        """Open a stream; FlowControlError when the session's limit is reached."""
        info = self._connected_session(session_id)
        try:
            opened = self._driver.open_stream(info.control_stream_id, is_unidirectional)
        except CoreError as error:
            raise ProtocolError(f"stream cannot be opened: {error}") from error
        if opened is None:
            self._flush()
            kind = "uni" if is_unidirectional else "bidi"
            raise FlowControlError(
                f"the peer allows no further {kind}directional stream in this session",
                limit_exceeded=getattr(info, f"peer_max_streams_{kind}"),
                current_value=getattr(info, f"local_streams_{kind}_opened"),
            )
        stream_id, header = opened
        self._quic.send_stream_data(stream_id, header)
        self._registry.add_stream(info, stream_id)
        self._flush()
        return stream_id

    def send_webtransport_stream_data(
        self, *, stream_id: StreamId, data: bytes, end_stream: bool = False
    ) -> None:
        """Send on a stream; FlowControlError when the session's data limit does not cover it."""
        record = self._registry.streams.get(stream_id)
        if record is None or not record.can_send:
            raise ProtocolError(f"stream {stream_id} is unknown or takes no more data")
        granted = self._registry.reserve(record, len(data))
        if granted < len(data):
            self._flush()
            raise FlowControlError(
                f"the session's data limit covers {granted} of {len(data)} bytes",
                stream_id=stream_id,
                limit_exceeded=granted,
                current_value=len(data),
            )
        self._quic.send_stream_data(stream_id, data, end_stream)
        self._registry.sent(record, len(data))
        if end_stream:
            self._driver.stream_finished(stream_id)
            self._registry.sending_ended(record)
        self._flush()

    def write_stream_chunked(
        self, *, stream_id: StreamId, data: Data, chunk_size: int = 8192
    ) -> int:
        """Send in chunks, FIN with the last; how much was sent before the first error."""
        payload = ensure_bytes(data=data)
        sent = 0
        while True:
            chunk = payload[sent : sent + chunk_size]
            is_last = sent + len(chunk) == len(payload)
            try:
                self.send_webtransport_stream_data(
                    stream_id=stream_id, data=chunk, end_stream=is_last
                )
            except (FlowControlError, ProtocolError):
                self._registry.stats["errors"] += 1
                return sent
            sent += len(chunk)
            if is_last:
                return sent

    async def read_stream_complete(self, *, stream_id: StreamId, timeout: float = 30.0) -> bytes:
        """Everything a stream brings from now on, until its end.

        Raises StreamError with the peer's code when the stream is reset or its session ends, and
        TimeoutError.
        """
        parts: list[bytes] = []
        last: Event | None = None

        def collect(event: Event) -> None:
            nonlocal last
            data = event.data if isinstance(event.data, dict) else {}
            if last is None and data.get("stream_id") == stream_id:
                payload = data.get("initial_payload", data)
                parts.append(payload.get("data", b""))
                if payload.get("end_stream", event.type in ENDS_OF_STREAM):
                    last = event

        await self._wait(
            lambda: last is not None,
            (EventType.STREAM_OPENED, EventType.STREAM_DATA_RECEIVED, *ENDS_OF_STREAM),
            look=collect,
            timeout=timeout,
            operation="read_stream_complete",
        )
        if last is not None and last.type in ENDS_OF_STREAM:
            assert isinstance(last.data, dict)
            raise StreamError(
                "the stream was reset", stream_id=stream_id, error_code=last.data["error_code"]
            )
        return b"".join(parts)

    def abort_stream(self, *, stream_id: StreamId, error_code: int) -> None:
        """End both halves that are open: RESET_STREAM and STOP_SENDING.

        A code of 32 bits is the application's; a larger one goes over the wire as it is.
        """
        record = self._registry.streams.get(stream_id)
        if record is None:
            return
        if error_code <= MAX_APPLICATION_CODE:
            if record.can_send:
                self._driver.reset_stream(stream_id, error_code)
            if record.can_receive:
                self._driver.stop_stream(stream_id, error_code)
        else:
            self._abort_raw(stream_id, error_code)
        if record.can_send:
            self._registry.sending_ended(record, code=error_code)
        if record.can_receive:
            self._registry.receiving_ended(record, code=error_code)
        self._flush()

    def _abort_raw(self, stream_id: StreamId, code: int) -> None:
        if can_send_data_on_stream(stream_id=stream_id, is_client=self._is_client):
            self._quic.reset_stream(stream_id, code)
            self._driver.stream_finished(stream_id)
        if can_receive_data_on_stream(stream_id=stream_id, is_client=self._is_client):
            self._quic.stop_stream(stream_id, code)

    def send_webtransport_datagram(self, *, session_id: SessionId, data: bytes) -> None:
        """Send a datagram; DatagramError when no packet can hold it."""
        info = self._connected_session(session_id)
        try:
            prefix = self._driver.datagram_prefix(info.control_stream_id)
            room = max_datagram_payload(self._quic)
            if prefix is None or room < len(prefix):
                raise no_datagrams(len(data))
            limit = room - len(prefix)
            if len(data) > limit:
                raise datagram_too_large(size=len(data), max_size=limit)
            self._driver.send_datagram(info.control_stream_id, data)
        except CoreError as error:
            raise ProtocolError(f"datagram cannot be sent: {error}") from error
        self._registry.stats["datagrams_sent"] += 1
        self._flush()

    # private

    def _connected_session(self, session_id: SessionId) -> WebTransportSessionInfo:
        info = self._registry.sessions.get(session_id)
        if info is None or info.state not in (SessionState.CONNECTED, SessionState.DRAINING):
            state = "unknown" if info is None else info.state
            raise ProtocolError(f"session {session_id!r} is not connected but {state}")
        return info

    def _check_session_limit(self) -> None:
        allowed = self._registry.peer_settings.get(SETTINGS_WT_MAX_SESSIONS)
        live = sum(
            info.state is not SessionState.CLOSED for info in self._registry.sessions.values()
        )
        if allowed is not None and live >= allowed:
            raise ConnectionError(f"the server allows {allowed} sessions on a connection")

    def _server_name(self) -> str:
        return str(self._quic.configuration.server_name or "localhost")

    def _flush(self) -> None:
        """After a call of the application: send, and emit as soon as there is somebody to."""
        self._driver.drain()
        self._arm_timer()
        self._transmit()
        if not self._registry.events:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # without asyncio the next handle_quic_event tells it
        if self._telling is None or self._telling.done():
            self._telling = loop.create_task(self._tell())

    async def _tell(self) -> None:
        events = self._registry.events
        while events:
            event_type, data = events.popleft()
            if event_type is EventType.STREAM_OPENED:
                self._registry.told_opened(data["stream_id"])
            elif event_type is EventType.SESSION_REQUEST:
                data["connection"] = self.connection
            await self.emit(event_type=event_type, data=data, source=self)

    async def _wait(
        self,
        is_met: Callable[[], bool],
        kinds: tuple[EventType, ...],
        *,
        timeout: float,
        operation: str,
        look: Callable[[Event], None] | None = None,
    ) -> None:
        """Until ``is_met`` holds after one of these events; ``look`` sees each of them."""
        met = asyncio.get_running_loop().create_future()

        def check(event: Event) -> None:
            if look is not None:
                look(event)
            if is_met() and not met.done():
                met.set_result(None)

        for kind in kinds:
            self.on(event_type=kind, handler=check)
        try:
            async with asyncio.timeout(timeout):
                if not is_met():
                    await met
        except builtins.TimeoutError as error:
            raise TimeoutError(
                f"{operation} took longer than {timeout} s",
                timeout_duration=timeout,
                operation=operation,
            ) from error
        finally:
            for kind in kinds:
                self.off(event_type=kind, handler=check)

    def _arm_timer(self) -> None:
        """Let the core discard what has waited too long, where asyncio can wake us."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._driver.next_timeout()
        if at is None or self._state is ConnectionState.CLOSED:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._timer = loop.call_later(max(0.0, at - time.monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._driver.handle_timeout(time.monotonic())
        self._flush()


def _do_nothing() -> None:
    """Whoever owns the connection sends by itself."""
