"""Clients: one session, several, one that reconnects, one with a history."""

from __future__ import annotations

from pywebtransport.client.client import ClientDiagnostics, ClientStats, WebTransportClient

__all__ = ["ClientDiagnostics", "ClientStats", "WebTransportClient"]
