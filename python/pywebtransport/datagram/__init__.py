"""Datagrams of a session: plain, typed, repeated until acknowledged, to many sessions at once."""

from __future__ import annotations

from pywebtransport.datagram.broadcaster import DatagramBroadcaster
from pywebtransport.datagram.reliability import DatagramReliabilityLayer
from pywebtransport.datagram.statistics import WebTransportDatagramStats
from pywebtransport.datagram.structured import StructuredDatagramTransport
from pywebtransport.datagram.transport import (
    DatagramMessage,
    DatagramStats,
    DatagramTransportDiagnostics,
    WebTransportDatagramTransport,
)

__all__ = [
    "DatagramBroadcaster",
    "DatagramMessage",
    "DatagramReliabilityLayer",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "StructuredDatagramTransport",
    "WebTransportDatagramStats",
    "WebTransportDatagramTransport",
]
