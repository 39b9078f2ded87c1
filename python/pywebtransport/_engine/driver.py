"""A sans-I/O QUIC connection of aioquic's shape, joined with the protocol core.

The one place where QUIC events become calls into the core and the core's actions become calls
on QUIC. It is used by the aioquic engine and by ``WebTransportProtocolHandler``, which accepts
any QUIC connection with aioquic's methods and event names (aioquic, qh3, pywebtransport.quic).
There is no I/O, no clock and no buffering here: whoever owns a driver feeds it, passes the
time in, transmits afterwards and takes what it is told.

After each call the core is drained: actions first, then events, in order. An owner may call
back into the driver while it is told something; what that causes is drained after it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from pywebtransport._engine.rules import settings_timeout
from pywebtransport._native import (
    CORE_NOTIFICATIONS,
    CoreClosed,
    CoreConfig,
    CoreConnection,
    CoreError,
    CorePanic,
    CoreSessionError,
)
from pywebtransport._words import reason_text

if TYPE_CHECKING:
    from pywebtransport.config import BaseConfig

__all__ = [
    "Driver",
    "DriverOwner",
    "QuicConnectionLike",
    "core_config",
    "max_datagram_payload",
    "peer_max_datagram_frame_size",
]

DATAGRAM_OVERHEAD = 3
"""Type and length of a DATAGRAM frame (RFC 9221 §4)."""
H3_INTERNAL_ERROR = 0x102
PACKET_OVERHEAD = 1 + 20 + 4 + 16 + DATAGRAM_OVERHEAD
"""What else is in a packet at most: first byte, connection id, packet number, AEAD tag."""

logger = logging.getLogger(__name__)


class QuicConnectionLike(Protocol):
    """What a QUIC connection has to offer."""

    @property
    def configuration(self) -> Any: ...
    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int: ...
    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None: ...
    def reset_stream(self, stream_id: int, error_code: int) -> None: ...
    def stop_stream(self, stream_id: int, error_code: int) -> None: ...
    def send_datagram_frame(self, data: bytes) -> None: ...
    def close(
        self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None: ...


class DriverOwner(Protocol):
    """Whom a driver tells; the names are those of the core's events."""

    def datagram_received(self, session_id: int, data: bytes) -> None: ...
    def goaway_received(self, request_id: int) -> None: ...
    def session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None: ...
    def session_draining(self, session_id: int) -> None: ...
    def session_established(
        self, session_id: int, protocol: str | None, headers: Mapping[str, str], dialect: str
    ) -> None: ...
    def session_rejected(
        self,
        session_id: int,
        status: int,
        headers: Mapping[str, str],
        error: int | None,
        reason: str,
    ) -> None: ...
    def session_requested(
        self,
        session_id: int,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        dialect: str,
    ) -> None: ...
    def request_aborted(self, stream_id: int, code: int) -> None: ...
    def request_received(
        self,
        stream_id: int,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        expects_continue: bool,
    ) -> None: ...
    def request_trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None: ...
    def session_writable(self, session_id: int) -> None: ...
    def settings_received(self, dialect: str | None) -> None: ...
    def stream_data(self, stream_id: int, data: bytes, fin: bool) -> None: ...
    def stream_opened(self, session_id: int, stream_id: int, unidirectional: bool) -> None: ...
    def stream_reset(self, stream_id: int, code: int | None, raw: int) -> None: ...
    def stream_stopped(self, stream_id: int, code: int | None, raw: int) -> None: ...
    def streams_available(self, session_id: int, unidirectional: bool) -> None: ...

    def core_consumed(self, stream_id: int, size: int) -> None:
        """The core took so many stream bytes; negative: it gave payload back."""


class Driver:
    """One QUIC connection with its HTTP/3 and WebTransport state."""

    def __init__(
        self,
        *,
        quic: QuicConnectionLike,
        config: CoreConfig,
        owner: DriverOwner,
        max_datagram_frame_size: int,
    ) -> None:
        self.core = CoreConnection(config)
        self.is_connected = False
        self._quic = quic
        self._owner = owner
        self._max_datagram_frame_size = max_datagram_frame_size
        self._payload: set[int] = set()
        """WebTransport streams whose header is done: the core only counts their bytes."""
        self._responses: set[int] = set()
        """Streams on which the application has begun a response and not ended it."""
        self._is_draining = False
        self._is_closed = False
        self._prefixes: dict[int, bytes] = {}
        own: dict[str, Callable[..., None]] = {
            "close_connection": self._close_connection,
            "reset_stream": self._reset_stream,
            "send_stream": self._send_stream,
            "stop_sending": self._stop_stream,
            "stream_data": self._on_stream_data,
            "stream_opened": self._on_stream_opened,
            "stream_reset": self._on_stream_reset,
            "session_closed": self._on_session_closed,
        }
        self._notify: tuple[Callable[..., None], ...] = tuple(
            own[name] if name in own else getattr(owner, name) for name in CORE_NOTIFICATIONS
        )
        self._on_quic_event: dict[str, Callable[[Any, float], None]] = {
            "DatagramFrameReceived": self._datagram_frame_received,
            "HandshakeCompleted": self._handshake_completed,
            "StopSendingReceived": self._stop_sending_received,
            "StreamDataReceived": self._stream_data_received,
            "StreamReset": self._stream_reset_received,
        }

    # from QUIC

    def handle_event(self, event: Any, now: float) -> None:
        """Feed one QUIC event; events of other kinds are ignored."""
        handler = self._on_quic_event.get(type(event).__name__)
        if handler is None or self._is_closed:
            return
        try:
            handler(event, now)
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))

    def handle_closed(self, code: int | None, reason: str) -> None:
        """The QUIC connection is gone; ``code``: the peer's application code, if it gave one."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.core.handle_closed(code, reason)
            self.drain()
        except (CoreClosed, CorePanic):
            pass  # the sessions were lost with the core; the owner ends them itself

    def handle_timeout(self, now: float) -> None:
        """The time of ``next_timeout`` has come."""
        try:
            self.core.handle_timeout(now)
            self.drain()
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))

    def set_rtt(self, rtt: float) -> None:
        """The smoothed round-trip time, by which session windows are tuned."""
        try:
            self.core.set_rtt(rtt)
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))

    def next_timeout(self) -> float | None:
        if self._is_closed:
            return None
        try:
            return self.core.poll_timeout()
        except CoreClosed:
            return None

    def drain(self) -> None:
        """Carry out and tell what the core has queued."""
        if self._is_draining:
            return  # the outer call goes on until nothing is left
        self._is_draining = True
        try:
            while items := self.core.drain():
                for item in items:
                    self._notify[item[0]](*item[1:])
        finally:
            self._is_draining = False

    def fail(self, reason: str) -> None:
        """An internal error ends this connection and no other."""
        if not self._is_closed:
            self._is_closed = True
            self._quic.close(error_code=H3_INTERNAL_ERROR, reason_phrase=reason[:200])

    def come_apart(self) -> None:
        """Forget QUIC and the owner, which know the driver: nothing more comes from them."""
        self._is_closed = True
        self._on_quic_event.clear()
        self._notify = ()
        del self._quic, self._owner

    @property
    def is_opening(self) -> bool:
        """Whether the peer's SETTINGS or the answer to the first session are still to come."""
        try:
            stats = self.core.stats()
            is_unanswered = stats["sessions"] > 0 and stats["sessions_established"] == 0
            return is_unanswered or self.core.peer_settings() is None
        except CoreClosed:
            return False

    # sessions

    def open_session(
        self,
        *,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str],
        now: float,
    ) -> int:
        """The new session's id; to be followed by :meth:`drain` once the owner knows it, since it
        may have been refused already."""
        stream_id = self._reserve_stream(unidirectional=False)
        self.core.connect(stream_id, authority, path, list(headers.items()), list(protocols), now)
        return stream_id

    def accept_session(
        self, session_id: int, *, protocol: str | None, headers: Mapping[str, str], now: float
    ) -> None:
        self.core.accept(session_id, protocol, list(headers.items()), now)
        self.drain()

    def reject_session(
        self, session_id: int, *, status: int, headers: Mapping[str, str], now: float
    ) -> None:
        self.core.reject(session_id, status, list(headers.items()), now)
        self.drain()

    def close_session(self, session_id: int, *, code: int, reason: str, now: float) -> None:
        self.core.close_session(session_id, code, reason, now)
        self.drain()

    def close_all(self, *, code: int, reason: str, now: float) -> None:
        """End every session before a close of the connection with this code."""
        self.core.close_all(code, reason, now)
        self.drain()

    def session_flow(self, session_id: int) -> dict[str, int]:
        """The limits of a session and their use; empty where there are none."""
        try:
            return self.core.session_flow(session_id)
        except CoreClosed:
            return {}

    # requests

    def respond(
        self, stream_id: int, *, status: int, headers: Sequence[tuple[bytes, bytes]], fin: bool
    ) -> None:
        self.core.respond(stream_id, status, list(headers), fin)
        self._responses.add(stream_id)
        self.drain()

    def body_frame(self, stream_id: int, size: int, wanted: int) -> bytes | None:
        """What goes before ``size`` bytes of a body that goes on for ``wanted`` at least; None: it
        is not sent, and they are dropped."""
        return self.core.body_frame(stream_id, size, wanted)

    def finish_response(self, stream_id: int, *, trailers: Sequence[tuple[bytes, bytes]]) -> None:
        self.core.finish_response(stream_id, list(trailers))
        self.drain()

    def end_request(self, stream_id: int, code: int) -> None:
        self.core.end_request(stream_id, code)
        self.drain()

    # streams and datagrams

    def open_stream(self, session_id: int, unidirectional: bool) -> tuple[int, bytes] | None:
        """A new stream's id and the header to write first; None: the session has none left."""
        if not self.core.check_open(session_id, unidirectional):
            self.drain()
            return None
        stream_id = self._quic.get_next_available_stream_id(unidirectional)
        header = self.core.open_stream(session_id, stream_id, unidirectional)
        if header is None:
            self.drain()
            return None
        if not unidirectional:
            self._payload.add(stream_id)
        return stream_id, header

    def reset_stream(self, stream_id: int, code: int) -> None:
        self.core.reset_stream(stream_id, code)
        self.drain()

    def stop_stream(self, stream_id: int, code: int) -> None:
        self.core.stop_stream(stream_id, code)
        self.drain()

    def reserve_send(self, stream_id: int, size: int) -> int:
        """How much of this the session's credit covers; that much is spent."""
        try:
            return self.core.reserve_send(stream_id, size)
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))
            return 0

    def release_send(self, stream_id: int, unused: int) -> None:
        """Give back what ``reserve_send`` granted and QUIC never got."""
        try:
            self.core.release_send(stream_id, unused)
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))

    def stream_finished(self, stream_id: int) -> None:
        """The application's FIN was handed to QUIC."""
        try:
            self.core.stream_finished(stream_id)
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))

    def stream_consumed(self, stream_id: int, size: int, now: float) -> None:
        """The application read so much payload: the session's credit goes back."""
        try:
            self.core.stream_consumed(stream_id, size, now)
        except (CoreClosed, CorePanic) as error:
            self.fail(str(error))

    def send_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> None:
        prefix = self.datagram_prefix(session_id)
        if prefix is not None:
            self._quic.send_datagram_frame(prefix + data)

    def datagram_prefix(self, session_id: int) -> bytes | None:
        """What goes before each payload of a session; None: the peer takes no datagrams."""
        prefix = self._prefixes.get(session_id)
        if prefix is None:
            try:
                prefix = self._prefixes[session_id] = self.core.datagram_prefix(session_id)
            except (CoreClosed, CorePanic, CoreSessionError):
                raise
            except CoreError:
                return None
        return prefix

    def _reserve_stream(self, *, unidirectional: bool) -> int:
        """The core writes on this stream later; until then its id must not be given away."""
        stream_id = self._quic.get_next_available_stream_id(unidirectional)
        self._quic.send_stream_data(stream_id, b"")
        return stream_id

    # QUIC events

    def _handshake_completed(self, _event: Any, now: float) -> None:
        if self.is_connected:
            return
        self.is_connected = True
        self.core.handle_connected(
            self._reserve_stream(unidirectional=True),
            peer_max_datagram_frame_size(self._quic),
            self._max_datagram_frame_size,
            getattr(self._quic, "peer_resets_at", False),
            hasattr(self._quic, "peer_resets_at"),
            now,
        )
        self.drain()

    def _stream_data_received(self, event: Any, now: float) -> None:
        stream_id, data, fin = event.stream_id, event.data, event.end_stream
        if stream_id in self._payload:
            self.core.handle_stream_bytes(stream_id, len(data), fin, now)
            if fin:
                self._payload.discard(stream_id)
            self._owner.stream_data(stream_id, data, fin)
        else:
            self.core.handle_stream_data(stream_id, data, fin, now)
            self.drain()
            self._owner.core_consumed(stream_id, len(data))

    def _stream_reset_received(self, event: Any, now: float) -> None:
        self._payload.discard(event.stream_id)
        final_size = getattr(event, "final_size", 0)  # 0: what arrived is all that is known
        self.core.handle_stream_reset(event.stream_id, event.error_code, final_size, now)
        self.drain()

    def _stop_sending_received(self, event: Any, now: float) -> None:
        if withheld := getattr(event, "withheld", 0):
            self.core.release_send(event.stream_id, withheld)
        self.core.handle_stop_sending(event.stream_id, event.error_code, now)
        self.drain()

    def _datagram_frame_received(self, event: Any, now: float) -> None:
        self.core.handle_datagram(event.data, now)
        self.drain()

    # the core's actions and events

    def _close_connection(self, code: int, reason: str) -> None:
        # aioquic cannot send one that does not fit into a packet.
        self._quic.close(error_code=code, reason_phrase=reason_text(reason))

    def _send_stream(self, stream_id: int, data: bytes, fin: bool) -> None:
        self._quic.send_stream_data(stream_id, data, fin)
        if stream_id not in self._responses:
            self.core.handle_unsent(unsent_bytes(self._quic, stream_id))
        elif fin:
            self._responses.discard(stream_id)

    def _reset_stream(self, stream_id: int, code: int, reliable_size: int) -> None:
        self._responses.discard(stream_id)
        try:
            if reliable_size:
                cast(Any, self._quic).reset_stream_at(stream_id, code, reliable_size)
            else:
                self._quic.reset_stream(stream_id, code)
        except Exception as error:
            # Each library has its own error for a stream that has ended by itself.
            logger.debug("stream %d could not be reset: %s", stream_id, error)

    def _stop_stream(self, stream_id: int, code: int) -> None:
        try:
            self._quic.stop_stream(stream_id, code)
        except Exception as error:
            logger.debug("stream %d could not be stopped: %s", stream_id, error)

    def _on_stream_opened(self, session_id: int, stream_id: int, unidirectional: bool) -> None:
        self._payload.add(stream_id)
        self._owner.stream_opened(session_id, stream_id, unidirectional)

    def _on_stream_data(self, stream_id: int, data: bytes, fin: bool) -> None:
        if fin:
            self._payload.discard(stream_id)
        self._owner.core_consumed(stream_id, -len(data))
        self._owner.stream_data(stream_id, data, fin)

    def _on_stream_reset(self, stream_id: int, code: int | None, raw: int) -> None:
        self._payload.discard(stream_id)
        self._owner.stream_reset(stream_id, code, raw)

    def _on_session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None:
        self._prefixes.pop(session_id, None)
        self._owner.session_closed(session_id, code, reason, by, error)


def core_config(
    config: BaseConfig, *, is_client: bool, serves_requests: bool = False
) -> CoreConfig:
    """What the core has to know of a configuration; share it between connections."""
    scale = config.flow_control_window_auto_scale
    return CoreConfig(
        is_client=is_client,
        strict=config.strict,
        initial_max_data=config.initial_max_data,
        initial_max_streams_bidi=config.initial_max_streams_bidi,
        initial_max_streams_uni=config.initial_max_streams_uni,
        max_data_window=config.flow_control_window_size if scale else 0,
        max_streams_window=config.quic_max_concurrent_bidi_streams if scale else 0,
        session_credit=config.session_credit,
        max_sessions=getattr(config, "max_sessions_per_connection", None),
        max_early_streams=config.max_total_pending_events,
        max_early_streams_per_session=config.max_pending_events_per_session,
        max_early_datagrams=config.max_total_pending_events,
        early_timeout=config.pending_event_ttl,
        close_timeout=config.close_timeout,
        max_field_section_size=config.max_field_section_size,
        settings_timeout=settings_timeout(config),
        serves_requests=serves_requests,
        max_requests=getattr(config, "max_requests_per_connection", None),
        headers_timeout=getattr(config, "request_head_timeout", None),
        grease_seed=int.from_bytes(os.urandom(8)),
    )


def max_datagram_payload(quic: Any) -> int:
    """The largest DATAGRAM payload that fits into one packet; 0: the peer takes none."""
    largest = getattr(quic, "max_datagram_size", None)  # pywebtransport.quic
    if largest is None:
        room = quic.configuration.max_datagram_size - PACKET_OVERHEAD
        largest = max(0, min(room, peer_max_datagram_frame_size(quic) - DATAGRAM_OVERHEAD))
    return int(largest)


def unsent_bytes(quic: Any, stream_id: int) -> int:
    """What QUIC holds back of a stream; 0 for a QUIC that does not tell (qh3)."""
    tell = getattr(quic, "unsent", None)
    if tell is not None:
        return int(tell(stream_id))
    stream = getattr(quic, "_streams", {}).get(stream_id)  # aioquic has no method for it
    return 0 if stream is None else stream.sender._buffer_stop - stream.sender.highest_offset


def peer_max_datagram_frame_size(quic: Any) -> int:
    """The peer's transport parameter, for which aioquic and qh3 have no method."""
    largest = getattr(quic, "max_datagram_size", None)  # pywebtransport.quic
    if largest is None:
        largest = getattr(quic, "_remote_max_datagram_frame_size", None)
    return largest or 0
