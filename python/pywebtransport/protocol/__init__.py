"""HTTP/3 and WebTransport on a QUIC connection that somebody else drives."""

from __future__ import annotations

from pywebtransport.protocol.handler import WebTransportProtocolHandler
from pywebtransport.protocol.session_info import StreamInfo, WebTransportSessionInfo
from pywebtransport.protocol.utils import (
    can_receive_data_on_stream,
    can_send_data_on_stream,
    get_stream_direction_from_id,
    validate_session_id,
    validate_stream_id,
    webtransport_code_to_http_code,
)

__all__ = [
    "StreamInfo",
    "WebTransportProtocolHandler",
    "WebTransportSessionInfo",
    "can_receive_data_on_stream",
    "can_send_data_on_stream",
    "get_stream_direction_from_id",
    "validate_session_id",
    "validate_stream_id",
    "webtransport_code_to_http_code",
]
