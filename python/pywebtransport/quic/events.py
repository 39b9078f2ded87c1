"""What :meth:`pywebtransport.quic.QuicConnection.next_event` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

__all__ = [
    "ConnectionTerminated",
    "DatagramFrameReceived",
    "HandshakeCompleted",
    "PingAcknowledged",
    "ProtocolNegotiated",
    "QuicEvent",
    "StopSendingReceived",
    "StreamDataReceived",
    "StreamReset",
]


class QuicEvent:
    """Base of all QUIC events."""


@dataclass
class ConnectionTerminated(QuicEvent):
    """The connection ended; the last event."""

    error_code: int
    """The code of CONNECTION_CLOSE; 0 when there was none (idle timeout, stateless reset)."""
    frame_type: Optional[int]  # noqa: UP045
    """The frame a transport error is about (0: not known); None: the application closed."""
    reason_phrase: str
    """Why, for people."""


@dataclass
class DatagramFrameReceived(QuicEvent):
    """A DATAGRAM frame arrived (RFC 9221)."""

    data: bytes


@dataclass
class HandshakeCompleted(QuicEvent):
    """TLS finished."""

    alpn_protocol: Optional[str]  # noqa: UP045
    """The application protocol agreed on."""
    early_data_accepted: bool
    """Always False: 0-RTT is not used."""
    session_resumed: bool
    """Always False: a connection made here keeps no tickets of another."""


@dataclass
class PingAcknowledged(QuicEvent):
    """A packet sent with or after the PING of that ``uid`` was acknowledged."""

    uid: int


@dataclass
class ProtocolNegotiated(QuicEvent):
    """The application protocol is agreed on; comes right before HandshakeCompleted."""

    alpn_protocol: Optional[str]  # noqa: UP045


@dataclass
class StopSendingReceived(QuicEvent):
    """The peer asks to stop sending on a stream, which has been reset in answer."""

    error_code: int
    stream_id: int


@dataclass
class StreamDataReceived(QuicEvent):
    """Data, in order, arrived on a stream."""

    data: bytes
    """Empty when only the end arrived."""
    end_stream: bool
    """True: nothing follows on this stream."""
    stream_id: int


@dataclass
class StreamReset(QuicEvent):
    """The peer reset its sending side of a stream."""

    error_code: int
    stream_id: int
