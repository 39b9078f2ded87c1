"""Sessions and streams of one protocol handler, kept up to date by the driver."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pywebtransport.constants import (
    SETTINGS_WT_INITIAL_MAX_DATA,
    SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI,
    SETTINGS_WT_INITIAL_MAX_STREAMS_UNI,
)
from pywebtransport.protocol.session_info import StreamInfo, WebTransportSessionInfo
from pywebtransport.protocol.utils import (
    can_receive_data_on_stream,
    can_send_data_on_stream,
    get_stream_direction_from_id,
)
from pywebtransport.types import EventType, Headers, SessionId, SessionState, StreamState
from pywebtransport.utils import generate_session_id

if TYPE_CHECKING:
    from pywebtransport._engine.driver import Driver

__all__ = ["Registry", "StreamRecord"]

MAX_CLOSED_SESSIONS = 64
"""Ended sessions that are remembered, for ``recover_session``; the oldest go."""
LIMITS = frozenset(
    f"{end}_max_{what}"
    for end in ("local", "peer")
    for what in ("data", "streams_bidi", "streams_uni")
)
REJECTED = 1
"""The code with which a session that was not accepted is reported closed."""


class StreamRecord:
    """A stream and its halves that are still open."""

    __slots__ = ("can_receive", "can_send", "info", "opening")

    def __init__(self, info: StreamInfo, *, is_client: bool) -> None:
        self.info = info
        self.can_send = can_send_data_on_stream(stream_id=info.stream_id, is_client=is_client)
        self.can_receive = can_receive_data_on_stream(stream_id=info.stream_id, is_client=is_client)
        self.opening: dict[str, Any] | None = None
        """The payload of a STREAM_OPENED that nobody has been told of yet."""


class Registry:
    """A ``DriverOwner``; what is to be emitted waits in :attr:`events`."""

    def __init__(
        self,
        *,
        is_client: bool,
        local_limits: tuple[int, int, int],
        driver: Callable[[], Driver],
    ) -> None:
        """``local_limits``: data, bidirectional and unidirectional streams as announced."""
        self._driver = driver
        self._is_client = is_client
        self._local_limits = local_limits
        self._peer_limits = (0, 0, 0)
        self._closed: deque[SessionId] = deque()
        self.events: deque[tuple[EventType, dict[str, Any]]] = deque()
        self.sessions: dict[SessionId, WebTransportSessionInfo] = {}
        self.streams: dict[int, StreamRecord] = {}
        self.stats: dict[str, Any] = {
            "bytes_sent": 0,
            "bytes_received": 0,
            "sessions_created": 0,
            "streams_created": 0,
            "datagrams_sent": 0,
            "datagrams_received": 0,
            "errors": 0,
            "connected_at": None,
        }
        self.last_activity: float | None = None
        self.peer_settings: dict[int, int] = {}
        self._by_stream: dict[int, WebTransportSessionInfo] = {}
        self._spare_credit: dict[SessionId, int] = {}

    # what the handler's own calls change

    def add_session(self, stream_id: int, path: str, headers: Headers) -> WebTransportSessionInfo:
        max_data, max_bidi, max_uni = self._local_limits
        info = WebTransportSessionInfo(
            session_id=generate_session_id(),
            control_stream_id=stream_id,
            state=SessionState.CONNECTING,
            path=path,
            created_at=time.time(),
            headers=headers,
            local_max_data=max_data,
            local_max_streams_bidi=max_bidi,
            local_max_streams_uni=max_uni,
        )
        self.sessions[info.session_id] = self._by_stream[stream_id] = info
        self.stats["sessions_created"] += 1
        return info

    def session_ready(self, info: WebTransportSessionInfo, **answer: Any) -> None:
        info.state = SessionState.CONNECTED
        info.ready_at = time.time()
        info.peer_max_data, info.peer_max_streams_bidi, info.peer_max_streams_uni = (
            self._peer_limits
        )
        self._emit(EventType.SESSION_READY, **info.to_dict(), **answer)

    def update_limits(self, info: WebTransportSessionInfo) -> WebTransportSessionInfo:
        """Both ends raise them as the session goes on."""
        if info.control_stream_id in self._by_stream:
            flow = self._driver().session_flow(info.control_stream_id)
            for name in LIMITS & flow.keys():
                setattr(info, name, flow[name])
        return info

    def add_stream(self, info: WebTransportSessionInfo, stream_id: int) -> StreamRecord:
        record = StreamRecord(
            StreamInfo(
                stream_id=stream_id,
                session_id=info.session_id,
                direction=get_stream_direction_from_id(
                    stream_id=stream_id, is_client=self._is_client
                ),
                state=StreamState.OPEN,
                created_at=time.time(),
            ),
            is_client=self._is_client,
        )
        self.streams[stream_id] = record
        self.stats["streams_created"] += 1
        is_ours = bool(stream_id & 1) != self._is_client
        kind = "uni" if stream_id & 2 else "bidi"
        counter = f"{'local' if is_ours else 'peer'}_streams_{kind}_opened"
        setattr(info, counter, getattr(info, counter) + 1)
        return record

    def reserve(self, record: StreamRecord, size: int) -> int:
        """Spend the session's credit for ``size`` bytes; how much there is, when that is less."""
        session_id = record.info.session_id
        credit = self._spare_credit.pop(session_id, 0)
        if credit < size:
            credit += self._driver().reserve_send(record.info.stream_id, size - credit)
        # What does not suffice is kept: given back, it would end the core's wait for more.
        left = credit - size if credit >= size else credit
        if left:
            self._spare_credit[session_id] = left
        return min(credit, size)

    def sent(self, record: StreamRecord, size: int) -> None:
        record.info.bytes_sent += size
        self.stats["bytes_sent"] += size
        session = self.sessions.get(record.info.session_id)
        if session is not None:
            session.local_data_sent += size

    def sending_ended(self, record: StreamRecord, *, code: int | None = None) -> None:
        """FIN or reset left; the stream is over when nothing is to come either."""
        record.can_send = False
        record.info.state = (
            StreamState.HALF_CLOSED_LOCAL if code is None else StreamState.RESET_SENT
        )
        self._end_if_over(record, code)

    def receiving_ended(self, record: StreamRecord, *, code: int | None = None) -> None:
        """FIN or reset arrived, or nobody wants the rest."""
        record.can_receive = False
        record.info.state = (
            StreamState.HALF_CLOSED_REMOTE if code is None else StreamState.RESET_RECEIVED
        )
        self._end_if_over(record, code)

    def _end_if_over(self, record: StreamRecord, code: int | None) -> None:
        info = record.info
        if code is not None:
            info.close_code = code
        if record.can_send or record.can_receive or info.closed_at is not None:
            return
        info.state = StreamState.CLOSED
        info.closed_at = time.time()
        self.streams.pop(info.stream_id, None)
        self._emit(EventType.STREAM_CLOSED, stream_id=info.stream_id, error_code=info.close_code)

    def told_opened(self, stream_id: int) -> None:
        """STREAM_OPENED is being emitted: data that comes now is an event of its own."""
        record = self.streams.get(stream_id)
        if record is not None:
            record.opening = None

    def end_session(self, info: WebTransportSessionInfo, code: int, reason: str) -> None:
        self._by_stream.pop(info.control_stream_id, None)
        self._spare_credit.pop(info.session_id, None)
        info.state = SessionState.CLOSED
        info.closed_at = time.time()
        info.close_code, info.close_reason = code, reason
        self._closed.append(info.session_id)
        while len(self._closed) > MAX_CLOSED_SESSIONS:
            self.sessions.pop(self._closed.popleft(), None)
        self._emit(EventType.SESSION_CLOSED, session_id=info.session_id, code=code, reason=reason)

    def _emit(self, event_type: EventType, **data: Any) -> None:
        self.events.append((event_type, data))

    # told by the driver

    def core_consumed(self, stream_id: int, size: int) -> None:
        """QUIC credit is the business of whoever owns the connection."""

    def datagram_received(self, session_id: int, data: bytes) -> None:
        self.stats["datagrams_received"] += 1
        info = self._by_stream.get(session_id)
        if info is not None:
            self._emit(EventType.DATAGRAM_RECEIVED, session_id=info.session_id, data=data)

    def goaway_received(self, request_id: int) -> None:
        """Each session it concerns is told of by ``session_draining``."""

    def session_closed(
        self, session_id: int, code: int, reason: str, _by: str, error: int | None
    ) -> None:
        if error is not None:
            self.stats["errors"] += 1
        info = self._by_stream.get(session_id)
        if info is not None:
            self.end_session(info, code, reason)

    def session_draining(self, session_id: int) -> None:
        info = self._by_stream.get(session_id)
        if info is not None:
            info.state = SessionState.DRAINING
            self._emit(EventType.SESSION_DRAINING, session_id=info.session_id)

    def session_established(
        self, session_id: int, protocol: str | None, headers: Mapping[str, str], dialect: str
    ) -> None:
        info = self._by_stream.get(session_id)
        if info is not None:
            self.session_ready(
                info, response_headers=dict(headers), protocol=protocol, dialect=dialect
            )

    def session_rejected(
        self,
        session_id: int,
        status: int,
        _headers: Mapping[str, str],
        _error: int | None,
        reason: str,
    ) -> None:
        self.stats["errors"] += 1
        info = self._by_stream.get(session_id)
        if info is not None:
            self.end_session(info, REJECTED, f"HTTP status {status}" if status else reason)

    def session_requested(
        self,
        session_id: int,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        dialect: str,
    ) -> None:
        info = self.add_session(session_id, path, dict(headers))
        asked = {"authority": authority, "protocols": list(protocols), "dialect": dialect}
        self._emit(EventType.SESSION_REQUEST, **info.to_dict(), **asked)

    def request_received(self, *_request: Any) -> None:
        """Ordinary requests are answered with 404 before they come here, so nor do these."""

    request_aborted = request_trailers = request_received

    def session_writable(self, session_id: int) -> None:
        self._limit_raised(session_id, EventType.SESSION_MAX_DATA_UPDATED, "max_data")

    def settings_received(self, dialect: str | None) -> None:
        settings = self.peer_settings = self._driver().core.peer_settings() or {}
        self._peer_limits = (
            settings.get(SETTINGS_WT_INITIAL_MAX_DATA, 0),
            settings.get(SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI, 0),
            settings.get(SETTINGS_WT_INITIAL_MAX_STREAMS_UNI, 0),
        )
        self._emit(EventType.SETTINGS_RECEIVED, dialect=dialect, settings=settings)

    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        # The application gets it with the event, or nobody does: the session's credit goes back.
        self._driver().stream_consumed(stream_id, len(data), time.monotonic())
        record = self.streams.get(stream_id)
        if record is None or not record.can_receive:
            return
        record.info.bytes_received += len(data)
        self.stats["bytes_received"] += len(data)
        session = self.sessions.get(record.info.session_id)
        if session is not None:
            session.peer_data_sent += len(data)
        if record.opening is not None:
            record.opening["data"] += data
            record.opening["end_stream"] = fin
        else:
            self._emit(
                EventType.STREAM_DATA_RECEIVED, stream_id=stream_id, data=data, end_stream=fin
            )
        if fin:
            self.receiving_ended(record)

    def stream_opened(self, session_id: int, stream_id: int, _unidirectional: bool) -> None:
        info = self._by_stream.get(session_id)
        if info is not None:
            record = self.add_stream(info, stream_id)
            record.opening = {"data": b"", "end_stream": False}
            self._emit(
                EventType.STREAM_OPENED,
                **record.info.to_dict(),
                initial_payload=record.opening,
            )

    def stream_reset(self, stream_id: int, code: int | None, raw: int) -> None:
        record = self.streams.get(stream_id)
        if record is not None and record.can_receive:
            self._emit(EventType.STREAM_ERROR, stream_id=stream_id, error_code=code, http_code=raw)
            self.receiving_ended(record, code=raw if code is None else code)

    def stream_stopped(self, stream_id: int, code: int | None, raw: int) -> None:
        record = self.streams.get(stream_id)
        if record is not None and record.can_send:
            self.sending_ended(record, code=raw if code is None else code)

    def streams_available(self, session_id: int, unidirectional: bool) -> None:
        if unidirectional:
            event_type, name = EventType.SESSION_MAX_STREAMS_UNI_UPDATED, "max_streams_uni"
        else:
            event_type, name = EventType.SESSION_MAX_STREAMS_BIDI_UPDATED, "max_streams_bidi"
        self._limit_raised(session_id, event_type, name)

    def _limit_raised(self, session_id: int, event_type: EventType, name: str) -> None:
        info = self._by_stream.get(session_id)
        if info is not None:
            limit = getattr(self.update_limits(info), f"peer_{name}")
            self._emit(event_type, session_id=info.session_id, **{name: limit})
