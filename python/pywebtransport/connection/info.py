"""Figures of one connection."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from pywebtransport.types import Address, ConnectionState

__all__ = ["ConnectionDiagnostics", "ConnectionInfo"]

ERROR_LIMIT = 10
SILENCE_LIMIT = 300.0
ONE_WAY_LIMIT = 1000
RTT_LIMIT = 1.0


@dataclass(kw_only=True)
class ConnectionInfo:
    """Identity, addresses and counters; points in time as ``time.time()`` gives them."""

    connection_id: str
    state: ConnectionState
    local_address: Address | None = None
    remote_address: Address | None = None
    established_at: float | None = None
    closed_at: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    error_count: int = 0
    last_activity: float | None = None

    @property
    def uptime(self) -> float:
        """Seconds since the handshake, until the connection closed; 0 before."""
        if self.established_at is None:
            return 0.0
        return (time.time() if self.closed_at is None else self.closed_at) - self.established_at

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ConnectionDiagnostics:
    """A snapshot: round-trip time in seconds, congestion window in bytes, loss as a share."""

    stats: ConnectionInfo
    rtt: float
    cwnd: int
    packets_in_flight: int
    packet_loss_rate: float
    counters: dict[str, Any] = field(default_factory=dict)
    """What the engine counts beside that: limits that were met, datagrams by their fate."""

    @property
    def issues(self) -> list[str]:
        """What looks wrong, in words."""
        stats = self.stats
        issues: list[str] = []
        if stats.state != ConnectionState.CONNECTED:
            issues.append(f"Connection not established (state: {stats.state.value})")
        if stats.error_count > ERROR_LIMIT:
            issues.append(f"High error count: {stats.error_count}")
        if stats.last_activity and time.time() - stats.last_activity > SILENCE_LIMIT:
            issues.append(f"No activity for {time.time() - stats.last_activity:.0f}s")
        if stats.packets_sent > ONE_WAY_LIMIT and not stats.packets_received:
            issues.append(f"{stats.packets_sent} packets sent, none received")
        if self.rtt > RTT_LIMIT:
            issues.append(f"High round-trip time: {self.rtt:.2f}s")
        return issues
