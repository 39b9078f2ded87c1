"""The vocabulary of the API: names for plain types, states, events, and what callers implement."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager as AsyncContextManager
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "URL",
    "Address",
    "AsyncContextManager",
    "AsyncGenerator",
    "AsyncIterator",
    "AuthHandlerProtocol",
    "Buffer",
    "ConnectionHandle",
    "ConnectionId",
    "ConnectionState",
    "Data",
    "ErrorCode",
    "EventData",
    "EventType",
    "Headers",
    "MiddlewareProtocol",
    "Priority",
    "RequestId",
    "SSLContext",
    "Serializer",
    "SessionId",
    "SessionState",
    "StreamDirection",
    "StreamId",
    "StreamState",
    "Timeout",
    "Timestamp",
    "URLParts",
    "WebTransportProtocol",
    "Weight",
]

Address: TypeAlias = tuple[str, int]
"""Host and UDP port."""
Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes that need not be copied."""
ConnectionHandle: TypeAlias = int
"""A number that no other connection of the process has."""
ConnectionId: TypeAlias = str
"""``conn_`` and a UUID."""
Data: TypeAlias = bytes | str
"""What can be sent; text goes as UTF-8."""
ErrorCode: TypeAlias = int
"""A code on the wire; an application code has 32 bits."""
EventData: TypeAlias = Any
"""What an event carries: a dictionary, where nothing else is said."""
Headers: TypeAlias = dict[str, str]
"""Field names in lower case, and their values."""
Priority: TypeAlias = int
"""The larger, the sooner."""
RequestId: TypeAlias = int
"""Numbers the requests of one connection."""
SSLContext: TypeAlias = ssl.SSLContext
"""The standard library's."""
SessionId: TypeAlias = str
"""An opaque token; not the id on the wire."""
StreamId: TypeAlias = int
"""A QUIC stream id, 0 to 2**62 - 1."""
Timeout: TypeAlias = float | None
"""Seconds; ``None`` waits for ever."""
Timestamp: TypeAlias = float
"""Seconds since the epoch, as ``time.time()`` gives them."""
URL: TypeAlias = str
"""``https://host:port/path?query``."""
URLParts: TypeAlias = tuple[str, int, str]
"""Host, port, and path with its query."""
Weight: TypeAlias = int
"""A share, relative to the other weights."""


class ConnectionState(StrEnum):
    """Where a QUIC connection is in its life."""

    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"
    DRAINING = "draining"


class EventType(StrEnum):
    """What an :class:`~pywebtransport.events.EventEmitter` of the library emits."""

    CAPSULE_RECEIVED = "capsule_received"
    CONNECTION_ESTABLISHED = "connection_established"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_CLOSED = "connection_closed"
    DATAGRAM_ERROR = "datagram_error"
    DATAGRAM_RECEIVED = "datagram_received"
    DATAGRAM_SENT = "datagram_sent"
    PROTOCOL_ERROR = "protocol_error"
    SETTINGS_RECEIVED = "settings_received"
    SESSION_CLOSED = "session_closed"
    SESSION_DRAINING = "session_draining"
    SESSION_MAX_DATA_UPDATED = "session_max_data_updated"
    SESSION_MAX_STREAMS_BIDI_UPDATED = "session_max_streams_bidi_updated"
    SESSION_MAX_STREAMS_UNI_UPDATED = "session_max_streams_uni_updated"
    SESSION_READY = "session_ready"
    SESSION_REQUEST = "session_request"
    STREAM_CLOSED = "stream_closed"
    STREAM_DATA_RECEIVED = "stream_data_received"
    STREAM_ERROR = "stream_error"
    STREAM_OPENED = "stream_opened"
    STREAM_RESET_RECEIVED = "stream_reset_received"
    STOP_SENDING_RECEIVED = "stop_sending_received"
    TIMEOUT_ERROR = "timeout_error"


class SessionState(StrEnum):
    """Where a WebTransport session is in its life."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


class StreamDirection(StrEnum):
    """Which way bytes travel, seen from this end."""

    BIDIRECTIONAL = "bidirectional"
    SEND_ONLY = "send_only"
    RECEIVE_ONLY = "receive_only"


class StreamState(StrEnum):
    """Where a stream is in its life."""

    OPEN = "open"
    HALF_CLOSED_LOCAL = "half_closed_local"
    HALF_CLOSED_REMOTE = "half_closed_remote"
    CLOSED = "closed"
    RESET_SENT = "reset_sent"
    RESET_RECEIVED = "reset_received"


@runtime_checkable
class AuthHandlerProtocol(Protocol):
    """Decides from the request headers whether a client may open a session."""

    async def __call__(self, *, headers: Headers) -> bool: ...


@runtime_checkable
class MiddlewareProtocol(Protocol):
    """Looks at a session before its handler does; ``False`` rejects it."""

    async def __call__(self, *, session: Any) -> bool: ...


@runtime_checkable
class Serializer(Protocol):
    """Turns objects into bytes and back."""

    def serialize(self, *, obj: Any) -> bytes:
        """The bytes of ``obj``; SerializationError when it has none."""

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
        """The object, of ``obj_type`` if that is given; SerializationError for other bytes."""


@runtime_checkable
class WebTransportProtocol(Protocol):
    """The shape of an asyncio datagram protocol."""

    def connection_made(self, transport: Any) -> None:
        """The socket is open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed; ``exc`` says why, None: it was asked for."""

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """A packet came from ``addr``."""

    def error_received(self, exc: Exception) -> None:
        """A packet could not be sent."""
