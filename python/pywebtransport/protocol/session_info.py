"""What a protocol handler knows about its sessions and streams."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pywebtransport.types import (
    Headers,
    SessionId,
    SessionState,
    StreamDirection,
    StreamId,
    StreamState,
)

__all__ = ["StreamInfo", "WebTransportSessionInfo"]


@dataclass(kw_only=True)
class StreamInfo:
    """One WebTransport stream."""

    stream_id: StreamId
    session_id: SessionId
    direction: StreamDirection
    state: StreamState
    created_at: float
    bytes_sent: int = 0
    bytes_received: int = 0
    closed_at: float | None = None
    close_code: int | None = None
    close_reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name."""
        return asdict(self)


@dataclass(kw_only=True)
class WebTransportSessionInfo:
    """One session: ``local_*`` is what this end announced or used, ``peer_*`` what the peer did.

    The limits are those of session flow control and 0 where it is not spoken.
    """

    session_id: SessionId
    control_stream_id: StreamId
    """The stream that carries the session's CONNECT request."""
    state: SessionState
    path: str
    created_at: float
    headers: Headers = field(default_factory=dict)
    ready_at: float | None = None
    closed_at: float | None = None
    close_code: int | None = None
    close_reason: str | None = None
    local_max_data: int = 0
    local_data_sent: int = 0
    peer_max_data: int = 0
    peer_data_sent: int = 0
    local_max_streams_bidi: int = 0
    local_streams_bidi_opened: int = 0
    peer_max_streams_bidi: int = 0
    peer_streams_bidi_opened: int = 0
    local_max_streams_uni: int = 0
    local_streams_uni_opened: int = 0
    peer_max_streams_uni: int = 0
    peer_streams_uni_opened: int = 0

    @property
    def stream_id(self) -> StreamId:
        """Another name of ``control_stream_id``."""
        return self.control_stream_id

    @stream_id.setter
    def stream_id(self, value: StreamId) -> None:
        self.control_stream_id = value

    def to_dict(self) -> dict[str, Any]:
        """Every field by its name."""
        return asdict(self)


def _with_stream_id(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, which also takes ``stream_id`` for ``control_stream_id``."""

    @functools.wraps(init)
    def __init__(self: WebTransportSessionInfo, **fields: Any) -> None:
        if "stream_id" in fields:
            fields.setdefault("control_stream_id", fields.pop("stream_id"))
        init(self, **fields)

    return __init__


WebTransportSessionInfo.__init__ = _with_stream_id(  # type: ignore[method-assign]
    WebTransportSessionInfo.__init__
)
