"""Figures of one client."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pywebtransport.types import ConnectionState

__all__ = ["ClientDiagnostics", "ClientStats"]

MINIMUM_SAMPLE = 10
SLOW_CONNECT = 5.0


@dataclass(kw_only=True)
class ClientStats:
    """Counters of ``connect()``; times in seconds."""

    created_at: float = field(default_factory=time.time)
    connections_attempted: int = 0
    connections_successful: int = 0
    connections_failed: int = 0
    total_connect_time: float = 0.0
    min_connect_time: float = inf
    max_connect_time: float = 0.0

    @property
    def avg_connect_time(self) -> float:
        """Seconds per successful connect; 0.0 before the first."""
        if not self.connections_successful:
            return 0.0
        return self.total_connect_time / self.connections_successful

    @property
    def success_rate(self) -> float:
        """The successful share of the attempts; 1.0 before the first."""
        if not self.connections_attempted:
            return 1.0
        return self.connections_successful / self.connections_attempted

    def to_dict(self) -> dict[str, Any]:
        """``created_at`` and ``uptime``, then ``connections`` and ``performance``."""
        return {
            "created_at": self.created_at,
            "uptime": time.time() - self.created_at,
            "connections": {
                "attempted": self.connections_attempted,
                "successful": self.connections_successful,
                "failed": self.connections_failed,
                "success_rate": self.success_rate,
            },
            "performance": {
                "avg_connect_time": self.avg_connect_time,
                "min_connect_time": 0.0 if self.min_connect_time == inf else self.min_connect_time,
                "max_connect_time": self.max_connect_time,
            },
        }


@dataclass(frozen=True, kw_only=True)
class ClientDiagnostics:
    """A snapshot: counters, and how many connections are in which state."""

    stats: ClientStats
    connection_states: dict[ConnectionState, int]

    @property
    def issues(self) -> list[str]:
        """What looks wrong, in words."""
        stats = self.stats
        issues: list[str] = []
        if stats.connections_attempted > MINIMUM_SAMPLE and stats.success_rate < 0.9:
            issues.append(f"Low connection success rate: {stats.success_rate:.0%}")
        if stats.avg_connect_time > SLOW_CONNECT:
            issues.append(f"Slow average connect time: {stats.avg_connect_time:.2f}s")
        return issues
