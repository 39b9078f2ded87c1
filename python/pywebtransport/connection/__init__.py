"""QUIC connections, and the choice among several servers."""

from __future__ import annotations

from pywebtransport.connection.connection import (
    ConnectionDiagnostics,
    ConnectionInfo,
    WebTransportConnection,
)
from pywebtransport.connection.load_balancer import ConnectionLoadBalancer

__all__ = [
    "ConnectionDiagnostics",
    "ConnectionInfo",
    "ConnectionLoadBalancer",
    "WebTransportConnection",
]
