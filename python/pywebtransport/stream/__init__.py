"""Streams of a session, of the three kinds, and messages of typed objects on them."""

from __future__ import annotations

from pywebtransport.stream.broadcaster import StreamBroadcaster
from pywebtransport.stream.statistics import (
    WebTransportReceiveStreamStats,
    WebTransportSendStreamStats,
    WebTransportStreamStats,
)
from pywebtransport.stream.stream import (
    StreamDiagnostics,
    StreamStats,
    StreamType,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.stream.structured import StructuredStream

__all__ = [
    "StreamBroadcaster",
    "StreamDiagnostics",
    "StreamStats",
    "StreamType",
    "StructuredStream",
    "WebTransportReceiveStream",
    "WebTransportReceiveStreamStats",
    "WebTransportSendStream",
    "WebTransportSendStreamStats",
    "WebTransportStream",
    "WebTransportStreamStats",
]
