"""QUIC connections, and the choice among several servers."""

from __future__ import annotations

from pywebtransport.connection.connection import (
    ConnectionDiagnostics,
    ConnectionInfo,
    WebTransportConnection,
)

__all__ = ["ConnectionDiagnostics", "ConnectionInfo", "WebTransportConnection"]
