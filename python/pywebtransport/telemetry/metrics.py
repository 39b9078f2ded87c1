"""The metrics of a server: names, kinds and where each is found in a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pywebtransport.server.ledger import ServerSnapshot

__all__ = ["METRICS", "Metric", "Sample"]

Sample = tuple[dict[str, str], float]
"""Labels, and the value that they stand for."""


@dataclass(frozen=True)
class Metric:
    """One metric, as both systems see it; Prometheus' ``_total`` is not part of the name."""

    name: str
    help: str
    is_counter: bool
    read: Callable[[ServerSnapshot], Iterable[Sample]]


def _metric(name: str, help: str, read: Callable[[ServerSnapshot], Any], label: str = "") -> Metric:
    """``read`` gives a number, or with ``label`` a dict."""

    def samples(snapshot: ServerSnapshot) -> Iterable[Sample]:
        value = read(snapshot)
        if label:
            return [({label: str(key)}, each) for key, each in value.items()]
        return [({}, value)]

    return Metric(f"webtransport_{name}", help, not name.endswith("_open"), samples)


METRICS = (
    _metric("connections_open", "QUIC connections that are open.", lambda s: s.connections),
    _metric("connections", "QUIC connections that were taken.", lambda s: s.connections_accepted),
    _metric("sessions_open", "Sessions that are open or asked for.", lambda s: s.sessions),
    _metric("sessions_accepted", "Sessions that were accepted.", lambda s: s.sessions_accepted),
    _metric(
        "sessions_rejected",
        "Sessions that were refused, by status; 0: the client left before its answer.",
        lambda s: s.sessions_rejected,
        "status",
    ),
    _metric(
        "sessions_closed",
        "Sessions that have ended, by who ended them.",
        lambda s: s.sessions_closed,
        "by",
    ),
    _metric("http_requests", "Ordinary HTTP requests.", lambda s: s.http_requests),
    _metric("handlers_open", "Handlers that run.", lambda s: s.handlers),
    _metric("handshakes_begun", "QUIC handshakes that began.", lambda s: s.handshakes.begun),
    _metric(
        "handshakes_retried",
        "Clients that had to prove their address first.",
        lambda s: s.handshakes.retried,
    ),
    _metric(
        "handshakes_refused",
        "Handshakes that were refused, by reason.",
        lambda s: {
            "full": s.handshakes.refused_full,
            "network": s.handshakes.refused_network,
            "leaving": s.handshakes.refused_leaving,
        },
        "reason",
    ),
    _metric(
        "limits_hit",
        "What was refused for a limit, by its name in ServerConfig.",
        lambda s: s.limits_hit,
        "limit",
    ),
    _metric(
        "bytes",
        "Bytes of UDP payload.",
        lambda s: {"sent": s.traffic.bytes_sent, "received": s.traffic.bytes_received},
        "direction",
    ),
    _metric(
        "packets",
        "QUIC packets.",
        lambda s: {"sent": s.traffic.packets_sent, "received": s.traffic.packets_received},
        "direction",
    ),
    _metric(
        "packets_lost",
        "Packets sent that the peer has not acknowledged in time.",
        lambda s: s.traffic.packets_lost,
    ),
    _metric("datagrams_sent", "Datagrams that were sent.", lambda s: s.traffic.datagrams_sent),
    _metric(
        "datagrams_lost",
        "Datagrams sent, in packets that did not arrive.",
        lambda s: s.traffic.datagrams_lost,
    ),
    _metric(
        "datagrams_dropped",
        "Datagrams given up here, by place: not sent, not read in time, of no session.",
        lambda s: {
            "outgoing": s.traffic.datagrams_dropped_outgoing,
            "incoming": s.traffic.datagrams_dropped_incoming,
            "early": s.traffic.datagrams_dropped_early,
        },
        "place",
    ),
)
