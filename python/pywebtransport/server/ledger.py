"""What a server adds up: traffic of connections that have ended, answers, limits that were met."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from pywebtransport._engine.base import EngineStats, Handshakes
from pywebtransport.session.base import SessionBase

__all__ = ["Ledger", "ServerSnapshot", "Traffic"]


@dataclass(kw_only=True, slots=True)
class Traffic:
    """Sums over connections; sizes in bytes of UDP payload."""

    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    datagrams_sent: int = 0
    datagrams_lost: int = 0
    """Of those sent, how many were in packets that did not arrive."""
    datagrams_dropped_outgoing: int = 0
    """Given up before they were sent: QUIC's queue was full."""
    datagrams_dropped_incoming: int = 0
    """Not read in time: the session's queue was full."""
    datagrams_dropped_early: int = 0
    """They were of no session."""

    def add(self, stats: EngineStats) -> None:
        """One connection's."""
        self.bytes_sent += stats.bytes_sent
        self.bytes_received += stats.bytes_received
        self.packets_sent += stats.packets_sent
        self.packets_received += stats.packets_received
        self.packets_lost += stats.packets_lost
        for name in OF_DATAGRAMS:
            if count := stats.extra.get(name):
                setattr(self, name, getattr(self, name) + count)

    def copy(self) -> Traffic:
        """Another with the same figures."""
        return Traffic(**{each.name: getattr(self, each.name) for each in fields(self)})


OF_DATAGRAMS = tuple(each.name for each in fields(Traffic) if each.name.startswith("datagrams"))


LIMITS = (
    "max_connections",
    "max_connections_per_address",
    "max_sessions",
    "max_requests_per_connection",
    "allowed_origins",
    "request_timeout",
)
"""Names in ServerConfig."""


@dataclass(kw_only=True)
class ServerSnapshot:
    """A server's figures at one moment. Counters grow from when it began to listen."""

    uptime: float = 0.0
    """Seconds."""
    connections: int = 0
    """Open now."""
    connections_accepted: int = 0
    sessions: int = 0
    """Open now, those asked for and not answered included."""
    sessions_accepted: int = 0
    sessions_rejected: dict[int, int] = field(default_factory=dict)
    """By status; 0: the client left before it was answered."""
    sessions_closed: dict[str, int] = field(default_factory=dict)
    """Accepted ones that have ended, by who ended them: ``"local"``, ``"remote"``,
    ``"transport"``."""
    http_requests: int = 0
    handlers: int = 0
    """Tasks of handlers that run now."""
    handshakes: Handshakes = field(default_factory=Handshakes)
    limits_hit: dict[str, int] = field(default_factory=dict)
    """How often something was refused for a limit, by the name that it has in ``ServerConfig``."""
    traffic: Traffic = field(default_factory=Traffic)


class Ledger:
    """The counters behind a snapshot."""

    def __init__(self) -> None:
        self.limits_hit: Counter[str] = Counter()
        self._accepted = 0
        self._rejected: Counter[int] = Counter()
        self._closed: Counter[str] = Counter()
        self._past = Traffic()
        self._handshakes = Handshakes()
        self._started: float | None = None

    def begin(self) -> None:
        """The server listens."""
        self._started = self._started or time.monotonic()

    def accepted(self) -> None:
        """A session."""
        self._accepted += 1

    def ended(self, session: SessionBase) -> None:
        """It is over, or was refused."""
        if session._stats.ready_at is None:
            self._rejected[session._status or 0] += 1
        else:
            self._closed[session._closed_by or "local"] += 1

    def add(self, stats: EngineStats) -> None:
        """A connection has ended."""
        self._past.add(stats)

    def end(self, handshakes: Handshakes) -> None:
        """A listener closes, with these counts."""
        self._handshakes += handshakes

    def snapshot(
        self,
        *,
        connections: Iterable[EngineStats],
        handshakes: Handshakes | None,
        accepted: int,
        sessions: int,
        http_requests: int,
        handlers: int,
    ) -> ServerSnapshot:
        """With the figures of the connections that are open."""
        traffic = self._past.copy()
        count = 0
        for count, stats in enumerate(connections, 1):  # noqa: B007
            traffic.add(stats)
        total = self._handshakes + (handshakes or Handshakes())
        limits = Counter(self.limits_hit)
        limits["max_connections"] += total.refused_full
        limits["max_connections_per_address"] += total.refused_network
        return ServerSnapshot(
            uptime=0.0 if self._started is None else time.monotonic() - self._started,
            connections=count,
            connections_accepted=accepted,
            sessions=sessions,
            sessions_accepted=self._accepted,
            sessions_rejected=dict(self._rejected),
            sessions_closed=dict(self._closed),
            http_requests=http_requests,
            handlers=handlers,
            handshakes=total,
            limits_hit={name: limits[name] for name in LIMITS},
            traffic=traffic,
        )
