"""A WebTransport session: streams of both kinds and datagrams over one connection."""

from __future__ import annotations

from pywebtransport.session.session import (
    SessionDiagnostics,
    SessionStats,
    WebTransportSession,
)
from pywebtransport.session.statistics import WebTransportConnectionStats

__all__ = [
    "SessionDiagnostics",
    "SessionStats",
    "WebTransportConnectionStats",
    "WebTransportSession",
]
