"""Datagrams of a session: plain, typed, repeated until acknowledged, to many sessions at once."""

from __future__ import annotations

from pywebtransport.datagram.structured import StructuredDatagramTransport
from pywebtransport.datagram.transport import (
    DatagramMessage,
    DatagramStats,
    DatagramTransportDiagnostics,
    WebTransportDatagramTransport,
)

__all__ = [
    "DatagramMessage",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "StructuredDatagramTransport",
    "WebTransportDatagramTransport",
]
