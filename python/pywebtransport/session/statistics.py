"""Figures of one session."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Self

from pywebtransport._engine.base import EngineStats
from pywebtransport.datagram.statistics import WebTransportDatagramStats
from pywebtransport.types import SessionId, SessionState

__all__ = ["SessionDiagnostics", "SessionStats", "WebTransportConnectionStats"]

MINIMUM_SAMPLE = 50
IDLE_LIMIT = 3600.0
DATAGRAM_BACKLOG = 100


@dataclass(kw_only=True)
class SessionStats:
    """What a session has done so far; points in time as ``time.time()`` gives them."""

    session_id: SessionId
    created_at: float
    ready_at: float | None = None
    closed_at: float | None = None
    streams_created: int = 0
    streams_closed: int = 0
    stream_errors: int = 0
    bidirectional_streams: int = 0
    unidirectional_streams: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    protocol_errors: int = 0

    @property
    def active_streams(self) -> int:
        """Streams of either side that have not ended."""
        return self.streams_created - self.streams_closed

    @property
    def uptime(self) -> float:
        """Seconds since the session was established, until it closed; 0 before."""
        if self.ready_at is None:
            return 0.0
        return (time.time() if self.closed_at is None else self.closed_at) - self.ready_at

    def to_dict(self) -> dict[str, Any]:
        """The fields, ``uptime`` and ``active_streams``."""
        return asdict(self) | {"uptime": self.uptime, "active_streams": self.active_streams}


@dataclass(frozen=True, kw_only=True)
class SessionDiagnostics:
    """A snapshot. Credits are in bytes, 0 where the session has no flow control of its own.

    Received bytes use up credit at the latest when the application reads them.
    """

    stats: SessionStats
    state: SessionState
    is_connection_active: bool
    datagram_receive_buffer_size: int
    send_credit_available: int
    receive_credit_available: int

    @property
    def issues(self) -> list[str]:
        """What looks wrong, in words."""
        stats = self.stats
        issues: list[str] = []
        if self.state not in (SessionState.CONNECTED, SessionState.CLOSED):
            issues.append(f"Session not connected (state: {self.state.value})")
        operations = stats.streams_created + stats.datagrams_sent + stats.datagrams_received
        errors = stats.stream_errors + stats.protocol_errors
        if operations > MINIMUM_SAMPLE and errors / operations > 0.1:
            issues.append(f"High error rate: {errors}/{operations}")
        if stats.uptime > IDLE_LIMIT and not stats.active_streams:
            issues.append(f"Session appears stale: {stats.uptime:.0f}s and no active streams")
        if not self.is_connection_active:
            issues.append("Underlying connection not available or not connected")
        if self.datagram_receive_buffer_size > DATAGRAM_BACKLOG:
            issues.append(f"{self.datagram_receive_buffer_size} datagrams wait to be received")
        return issues


@dataclass(frozen=True, kw_only=True)
class WebTransportConnectionStats:
    """Of the connection that carries a session, with the members of W3C WebTransport.

    Sizes in bytes, times in seconds (W3C has milliseconds). None: the engine does not tell. A
    packet is a UDP datagram.
    """

    bytes_sent: int
    bytes_received: int
    bytes_lost: int
    """In packets that were taken for lost."""
    packets_sent: int
    packets_received: int
    packets_lost: int
    smoothed_rtt: float
    rtt_variation: float | None
    """The native engine does not tell."""
    min_rtt: float | None
    """None before the first round trip."""
    estimated_send_rate: int | None
    """Bits a second: a congestion window each smoothed round trip. None before the first one."""
    datagrams: WebTransportDatagramStats
    bytes_sent_overhead: int | None = None
    """No engine tells."""
    bytes_acknowledged: int | None = None
    """No engine tells."""
    at_send_capacity: bool | None = None
    """No engine tells."""

    @classmethod
    def of(cls, engine: EngineStats, datagrams: WebTransportDatagramStats) -> Self:
        """From what an engine counts."""
        return cls(
            bytes_sent=engine.bytes_sent,
            bytes_received=engine.bytes_received,
            bytes_lost=engine.extra["bytes_lost"],
            packets_sent=engine.packets_sent,
            packets_received=engine.packets_received,
            packets_lost=engine.packets_lost,
            smoothed_rtt=engine.rtt,
            rtt_variation=engine.extra.get("rtt_variation"),
            min_rtt=engine.extra["min_rtt"],
            estimated_send_rate=int(engine.cwnd * 8 / engine.rtt) if engine.rtt else None,
            datagrams=datagrams,
        )
