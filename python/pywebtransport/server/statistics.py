"""Figures of one server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pywebtransport.types import ConnectionState, SessionState

__all__ = ["ServerDiagnostics", "ServerStats"]

MINIMUM_SAMPLE = 20


@dataclass(kw_only=True)
class ServerStats:
    """Counters since the server began to listen; ``uptime`` in seconds."""

    connections_accepted: int = 0
    connections_rejected: int = 0
    connection_errors: int = 0
    protocol_errors: int = 0
    http_requests: int = 0
    """Ordinary HTTP requests that came to ``request_handler``."""
    requests_abandoned: int = 0
    """Requests for sessions whose client left before they were answered."""
    uptime: float = 0.0
    start_time: float | None = None
    """As ``time.time()`` gives it."""

    @property
    def total_connections_attempted(self) -> int:
        """Accepted and rejected."""
        return self.connections_accepted + self.connections_rejected

    @property
    def success_rate(self) -> float:
        """The accepted share; 1.0 before the first."""
        total = self.total_connections_attempted
        return self.connections_accepted / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ServerDiagnostics:
    """A snapshot: counters, and how many connections and sessions are in which state."""

    stats: ServerStats
    connection_states: dict[ConnectionState, int]
    session_states: dict[SessionState, int]
    is_serving: bool
    certfile_path: str
    keyfile_path: str
    max_connections: int
    handlers: int = 0
    """Tasks of session handlers, and of request handlers; one may outlive its session, and runs
    until it returns."""

    @property
    def issues(self) -> list[str]:
        """What looks wrong, in words."""
        stats = self.stats
        issues: list[str] = []
        if not self.is_serving:
            issues.append("Server is not serving")
        total = stats.total_connections_attempted
        if total > MINIMUM_SAMPLE and stats.connections_rejected / total > 0.1:
            issues.append(f"High rejection rate: {stats.connections_rejected}/{total}")
        connected = self.connection_states.get(ConnectionState.CONNECTED, 0)
        if self.max_connections and connected / self.max_connections > 0.9:
            issues.append(f"High connection usage: {connected}/{self.max_connections}")
        for name, path in (("Certificate", self.certfile_path), ("Key", self.keyfile_path)):
            if path and not Path(path).exists():
                issues.append(f"{name} file not found: {path}")
        return issues
