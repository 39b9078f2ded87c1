"""A WebTransport session: streams of both kinds and datagrams over one connection."""

from __future__ import annotations

from pywebtransport.session.session import (
    SessionDiagnostics,
    SessionStats,
    WebTransportSession,
)

__all__ = ["SessionDiagnostics", "SessionStats", "WebTransportSession"]
