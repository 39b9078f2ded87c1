"""Ids, directions, states and codes."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport.protocol import StreamInfo, WebTransportSessionInfo, utils
from pywebtransport.types import ConnectionState, SessionState, StreamDirection, StreamState


@pytest.mark.parametrize(
    ("stream_id", "is_client", "direction"),
    [
        (0, True, StreamDirection.BIDIRECTIONAL),
        (1, True, StreamDirection.BIDIRECTIONAL),
        (2, True, StreamDirection.SEND_ONLY),
        (3, True, StreamDirection.RECEIVE_ONLY),
        (2, False, StreamDirection.RECEIVE_ONLY),
        (3, False, StreamDirection.SEND_ONLY),
    ],
)
def test_direction(stream_id: int, is_client: bool, direction: StreamDirection) -> None:
    options = {"stream_id": stream_id, "is_client": is_client}
    assert utils.get_stream_direction_from_id(**options) is direction
    can_send = direction is not StreamDirection.RECEIVE_ONLY
    can_receive = direction is not StreamDirection.SEND_ONLY
    assert utils.can_send_data_on_stream(**options) is can_send
    assert utils.can_receive_data_on_stream(**options) is can_receive


@pytest.mark.parametrize("stream_id", range(8))
def test_bits_of_a_stream_id(stream_id: int) -> None:
    assert utils.is_bidirectional_stream(stream_id=stream_id) is (stream_id % 4 < 2)
    assert utils.is_unidirectional_stream(stream_id=stream_id) is (stream_id % 4 >= 2)
    assert utils.is_client_initiated_stream(stream_id=stream_id) is (stream_id % 2 == 0)
    assert utils.is_server_initiated_stream(stream_id=stream_id) is (stream_id % 2 == 1)


@pytest.mark.parametrize(
    ("value", "error"), [("0", TypeError), (-1, ValueError), (2**62, ValueError)]
)
def test_bad_stream_id(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        utils.validate_stream_id(stream_id=value)
    utils.validate_stream_id(stream_id=2**62 - 1)


@pytest.mark.parametrize(("value", "error"), [(0, TypeError), ("", ValueError)])
def test_bad_session_id(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        utils.validate_session_id(session_id=value)
    utils.validate_session_id(session_id="x")


@pytest.mark.parametrize(
    ("code", "wire"),
    [
        (0, 0x52E4A40FA8DB),
        (29, 0x52E4A40FA8F8),
        (30, 0x52E4A40FA8FA),
        (255, 0x52E4A40FA9E2),
        (2**32 - 1, 0x52E5AC983162),
    ],
)
def test_code_mapping(code: int, wire: int) -> None:
    assert utils.webtransport_code_to_http_code(code) == wire


@pytest.mark.parametrize("code", [-1, 2**32])
def test_code_outside_32_bits(code: int) -> None:
    with pytest.raises(ValueError, match=str(code)):
        utils.webtransport_code_to_http_code(code)


def test_states_that_may_send_and_receive() -> None:
    connected = ConnectionState.CONNECTED
    may_send = [
        state
        for state in SessionState
        if utils.can_send_data(connection_state=connected, session_state=state)
    ]
    may_receive = [
        state
        for state in SessionState
        if utils.can_receive_data(connection_state=connected, session_state=state)
    ]
    assert may_send == [SessionState.CONNECTED]
    assert set(may_receive) == {SessionState.CONNECTED, SessionState.DRAINING}
    assert not utils.can_send_data(
        connection_state=ConnectionState.CLOSED, session_state=SessionState.CONNECTED
    )


def test_quic_configuration_is_a_clients_by_default() -> None:
    configuration = utils.create_quic_configuration(
        alpn_protocols=["h3"], congestion_control_algorithm="cubic", max_datagram_size=1200
    )
    assert configuration.is_client
    assert configuration.max_datagram_frame_size == 1200


def test_session_info_takes_both_names_of_its_stream() -> None:
    options: dict[str, Any] = {
        "session_id": "s",
        "state": SessionState.CONNECTING,
        "path": "/",
        "created_at": 1.0,
    }
    info = WebTransportSessionInfo(stream_id=4, **options)  # type: ignore[call-arg]
    assert (info.control_stream_id, info.stream_id) == (4, 4)
    info.stream_id = 8
    assert info.to_dict()["control_stream_id"] == 8
    assert "stream_id" not in info.to_dict()
    assert info == WebTransportSessionInfo(control_stream_id=8, **options)


def test_stream_info_as_a_dictionary() -> None:
    info = StreamInfo(
        stream_id=4,
        session_id="s",
        direction=StreamDirection.BIDIRECTIONAL,
        state=StreamState.OPEN,
        created_at=1.0,
    )
    assert info.to_dict()["bytes_sent"] == 0
    assert info.to_dict()["stream_id"] == 4
