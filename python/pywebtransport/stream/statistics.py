"""Figures of one stream."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from pywebtransport.types import StreamId

__all__ = [
    "StreamDiagnostics",
    "StreamStats",
    "WebTransportReceiveStreamStats",
    "WebTransportSendStreamStats",
    "WebTransportStreamStats",
]


@dataclass(kw_only=True)
class StreamStats:
    """A snapshot of a stream's counters.

    Sizes are in bytes, times in seconds, points in time as ``time.time()`` gives them. An
    operation that did not have to wait counts as 0 seconds. Reads that end the data, and reads
    and writes that fail, are not in ``reads_count`` and ``writes_count``.
    """

    stream_id: StreamId
    created_at: float
    closed_at: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    writes_count: int = 0
    reads_count: int = 0
    total_write_time: float = 0.0
    total_read_time: float = 0.0
    max_write_time: float = 0.0
    max_read_time: float = 0.0
    write_errors: int = 0
    read_errors: int = 0
    flow_control_errors: int = 0

    @property
    def avg_read_time(self) -> float:
        """Seconds per successful read."""
        return self.total_read_time / self.reads_count if self.reads_count else 0.0

    @property
    def avg_write_time(self) -> float:
        """Seconds per successful write."""
        return self.total_write_time / self.writes_count if self.writes_count else 0.0

    @property
    def uptime(self) -> float:
        """Seconds since the stream was opened, until it closed."""
        return (time.time() if self.closed_at is None else self.closed_at) - self.created_at

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class StreamDiagnostics:
    """The counters, and what this side holds: bytes read ahead, and bytes not handed over yet."""

    stats: StreamStats
    read_buffer_size: int
    write_buffer_size: int


@dataclass(frozen=True, kw_only=True)
class WebTransportSendStreamStats:
    """Of the half that this side writes, in bytes, with the members of W3C WebTransport.

    None: no engine tells.
    """

    bytes_written: int
    """Taken from the application."""
    bytes_sent: int | None = None
    """Sent at least once."""
    bytes_acknowledged: int | None = None
    """That the peer has acknowledged."""


@dataclass(frozen=True, kw_only=True)
class WebTransportReceiveStreamStats:
    """Of the half that this side reads, in bytes, with the members of W3C WebTransport."""

    bytes_received: int
    """Taken from QUIC, which may have more until the application reads on."""
    bytes_read: int
    """Given to the application."""


@dataclass(frozen=True, kw_only=True)
class WebTransportStreamStats(WebTransportSendStreamStats, WebTransportReceiveStreamStats):
    """Of both halves of a bidirectional stream."""
