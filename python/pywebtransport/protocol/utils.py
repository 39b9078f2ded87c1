"""Small rules about ids, directions, states and codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pywebtransport.constants import MAX_STREAM_ID, ErrorCodes
from pywebtransport.types import (
    ConnectionState,
    SessionState,
    StreamDirection,
    StreamId,
)
from pywebtransport.utils import create_quic_configuration as _create_quic_configuration

if TYPE_CHECKING:
    from aioquic.quic.configuration import QuicConfiguration

__all__ = [
    "can_receive_data",
    "can_receive_data_on_stream",
    "can_send_data",
    "can_send_data_on_stream",
    "create_quic_configuration",
    "get_stream_direction_from_id",
    "is_bidirectional_stream",
    "is_client_initiated_stream",
    "is_server_initiated_stream",
    "is_unidirectional_stream",
    "validate_session_id",
    "validate_stream_id",
    "webtransport_code_to_http_code",
]

MAX_APPLICATION_CODE = 2**32 - 1


def can_receive_data(*, connection_state: ConnectionState, session_state: SessionState) -> bool:
    """Whether a session in this state may receive: also while it drains."""
    return connection_state is ConnectionState.CONNECTED and session_state in (
        SessionState.CONNECTED,
        SessionState.DRAINING,
    )


def can_send_data(*, connection_state: ConnectionState, session_state: SessionState) -> bool:
    """Whether a session in this state may send."""
    return connection_state is ConnectionState.CONNECTED and session_state is SessionState.CONNECTED


def can_receive_data_on_stream(*, stream_id: StreamId, is_client: bool) -> bool:
    """Whether this end receives on the stream: not on its own unidirectional ones."""
    direction = get_stream_direction_from_id(stream_id=stream_id, is_client=is_client)
    return direction is not StreamDirection.SEND_ONLY


def can_send_data_on_stream(*, stream_id: StreamId, is_client: bool) -> bool:
    """Whether this end sends on the stream: not on the peer's unidirectional ones."""
    direction = get_stream_direction_from_id(stream_id=stream_id, is_client=is_client)
    return direction is not StreamDirection.RECEIVE_ONLY


def get_stream_direction_from_id(*, stream_id: StreamId, is_client: bool) -> StreamDirection:
    """The direction that the two low bits of the id say (RFC 9000 §2.1)."""
    validate_stream_id(stream_id=stream_id)
    if is_bidirectional_stream(stream_id=stream_id):
        return StreamDirection.BIDIRECTIONAL
    if is_client_initiated_stream(stream_id=stream_id) == is_client:
        return StreamDirection.SEND_ONLY
    return StreamDirection.RECEIVE_ONLY


def is_bidirectional_stream(*, stream_id: StreamId) -> bool:
    """Whether both ends send on it."""
    return not stream_id & 2


def is_unidirectional_stream(*, stream_id: StreamId) -> bool:
    """Whether only its opener sends on it."""
    return bool(stream_id & 2)


def is_client_initiated_stream(*, stream_id: StreamId) -> bool:
    """Whether the client opened it."""
    return not stream_id & 1


def is_server_initiated_stream(*, stream_id: StreamId) -> bool:
    """Whether the server opened it."""
    return bool(stream_id & 1)


def validate_session_id(*, session_id: Any) -> None:
    """TypeError unless it is text, ValueError when that is empty."""
    if not isinstance(session_id, str):
        raise TypeError(f"a session id is a str, not {type(session_id).__name__}")
    if not session_id:
        raise ValueError("a session id is not empty")


def validate_stream_id(*, stream_id: Any) -> None:
    """TypeError unless it is an integer, ValueError outside 0 to 2**62 - 1."""
    if not isinstance(stream_id, int) or isinstance(stream_id, bool):
        raise TypeError(f"a stream id is an int, not {type(stream_id).__name__}")
    if not 0 <= stream_id <= MAX_STREAM_ID:
        raise ValueError(f"stream id {stream_id} is not between 0 and {MAX_STREAM_ID}")


def webtransport_code_to_http_code(app_error_code: int) -> int:
    """The code of RESET_STREAM and STOP_SENDING for an application's (webtrans-http3-16 §4.4)."""
    if not 0 <= app_error_code <= MAX_APPLICATION_CODE:
        raise ValueError(f"application code {app_error_code} is not a 32-bit number")
    return ErrorCodes.WT_APPLICATION_ERROR_FIRST + app_error_code + app_error_code // 30


def create_quic_configuration(*, is_client: bool = True, **kwargs: Any) -> QuicConfiguration:
    """As :func:`pywebtransport.utils.create_quic_configuration`, for clients by default."""
    return _create_quic_configuration(is_client=is_client, **kwargs)
