"""Clients: one session, several, one that reconnects, one with a history."""

from __future__ import annotations

from pywebtransport.client.browser import WebTransportBrowser
from pywebtransport.client.client import ClientDiagnostics, ClientStats, WebTransportClient
from pywebtransport.client.fleet import ClientFleet
from pywebtransport.client.reconnecting import ReconnectingClient

__all__ = [
    "ClientDiagnostics",
    "ClientFleet",
    "ClientStats",
    "ReconnectingClient",
    "WebTransportBrowser",
    "WebTransportClient",
]
