"""What :class:`~pywebtransport.protocol.h3_engine.WebTransportH3Engine` reports."""

from __future__ import annotations

from dataclasses import dataclass

from pywebtransport.types import Headers, StreamId

__all__ = [
    "CapsuleReceived",
    "DatagramReceived",
    "H3Event",
    "HeadersReceived",
    "WebTransportStreamDataReceived",
]


class H3Event:
    """Base of these events."""


@dataclass(kw_only=True)
class CapsuleReceived(H3Event):
    """A whole capsule arrived on a CONNECT stream (RFC 9297 §3.2)."""

    capsule_data: bytes
    """Its value, without type and length."""
    capsule_type: int
    """Such as ``CLOSE_WEBTRANSPORT_SESSION_TYPE``; also types that nobody knows."""
    stream_id: StreamId
    """The CONNECT stream."""


@dataclass(kw_only=True)
class DatagramReceived(H3Event):
    """A datagram of a session arrived (RFC 9297 §2.1)."""

    data: bytes
    """Its payload."""
    stream_id: StreamId
    """The session's CONNECT stream, which may be unknown here."""


@dataclass(kw_only=True)
class HeadersReceived(H3Event):
    """A request or a response arrived."""

    headers: Headers
    """Names as they came, pseudo-header fields included; repeated fields joined by ``", "``."""
    stream_id: StreamId
    stream_ended: bool
    """Whether nothing follows."""


@dataclass(kw_only=True)
class WebTransportStreamDataReceived(H3Event):
    """Bytes of the application arrived on a WebTransport stream."""

    data: bytes
    """Empty when only the end arrived."""
    control_stream_id: StreamId
    """The session's CONNECT stream, which may be unknown here."""
    stream_id: StreamId
    stream_ended: bool
    """Whether nothing follows."""
