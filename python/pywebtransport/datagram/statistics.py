"""Figures of one datagram transport."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from pywebtransport.types import SessionId

__all__ = [
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "WebTransportDatagramStats",
    "measured",
]


def measured(datagrams: Sequence[Sized]) -> tuple[int, int, int]:
    """Bytes of all of them, of the smallest and of the largest; there must be one."""
    # Most batches have few sizes, and a set is quicker than `min` and `max` of a list.
    sizes = set(map(len, datagrams))
    return sum(map(len, datagrams)), min(sizes), max(sizes)


@dataclass(kw_only=True)
class DatagramStats:
    """Counters. Sizes in bytes, times in seconds; what did not have to wait counts as 0 seconds."""

    session_id: SessionId
    created_at: float
    datagrams_sent: int = 0
    bytes_sent: int = 0
    send_failures: int = 0
    send_drops: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0
    receive_drops: int = 0
    receive_errors: int = 0
    total_send_time: float = 0.0
    total_receive_time: float = 0.0
    max_send_time: float = 0.0
    max_receive_time: float = 0.0
    min_datagram_size: float = inf
    max_datagram_size: int = 0
    total_datagram_size: int = 0

    @property
    def avg_datagram_size(self) -> float:
        """Bytes per datagram, both directions."""
        count = self.datagrams_sent + self.datagrams_received
        return self.total_datagram_size / count if count else 0.0

    @property
    def avg_receive_time(self) -> float:
        """Seconds waited per received datagram."""
        return self.total_receive_time / self.datagrams_received if self.datagrams_received else 0.0

    @property
    def avg_send_time(self) -> float:
        """Seconds in the sender per sent datagram."""
        return self.total_send_time / self.datagrams_sent if self.datagrams_sent else 0.0

    @property
    def receive_success_rate(self) -> float:
        """Received, of received and failed."""
        total = self.datagrams_received + self.receive_errors
        return self.datagrams_received / total if total else 1.0

    @property
    def send_success_rate(self) -> float:
        """Sent, of sent and failed."""
        total = self.datagrams_sent + self.send_failures
        return self.datagrams_sent / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The fields without the totals, with averages and rates instead."""
        values = {name: value for name, value in asdict(self).items() if "total_" not in name}
        if self.min_datagram_size == inf:
            values["min_datagram_size"] = 0
        return values | {
            "avg_datagram_size": self.avg_datagram_size,
            "avg_receive_time": self.avg_receive_time,
            "avg_send_time": self.avg_send_time,
            "receive_success_rate": self.receive_success_rate,
            "send_success_rate": self.send_success_rate,
        }


@dataclass(frozen=True, kw_only=True)
class DatagramTransportDiagnostics:
    """The counters, and for each queue its size, its limit and its entries by priority."""

    stats: DatagramStats
    queue_stats: dict[str, dict[str, int]]
    is_closed: bool

    @property
    def issues(self) -> list[str]:
        """What looks wrong, in words."""
        stats = self.stats
        issues: list[str] = []
        if self.is_closed:
            issues.append("Datagram transport is closed")
        if stats.send_success_rate < 0.9:
            issues.append(f"Low send success rate: {stats.send_success_rate:.0%}")
        total = stats.datagrams_sent + stats.datagrams_received
        drops = stats.send_drops + stats.receive_drops
        if total and drops / total > 0.1:
            issues.append(f"High drop rate: {drops}/{total}")
        for name, queue in self.queue_stats.items():
            size, limit = queue.get("size", 0), queue.get("max_size", 0)
            if limit and size / limit > 0.9:
                issues.append(f"{name.capitalize()} queue nearly full: {size}/{limit}")
        if stats.avg_send_time > 0.1:
            issues.append(f"Slow sends: {stats.avg_send_time:.3f}s average")
        return issues


@dataclass(frozen=True, kw_only=True)
class WebTransportDatagramStats:
    """Counts of datagrams, with the members of W3C WebTransport."""

    dropped_incoming: int
    """Received ones that made room for newer ones before they were read."""
    expired_incoming: int
    """0: received ones have no age limit."""
    expired_outgoing: int
    """Not sent, because their ``ttl`` was over."""
    lost_outgoing: int
    """Sent in packets that QUIC took for lost, of all sessions of the connection together."""
