"""The protocol handler at its limits: session flow control, and streams of no session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import FlowControlError
from pywebtransport.protocol import WebTransportSessionInfo
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .link import End, Link


class Owner:
    """As much of a connection as a handler wants."""

    def __init__(self, config: ClientConfig | ServerConfig) -> None:
        self.config = config


def limited_connection(is_client: bool) -> Any:
    limits = {
        "initial_max_data": 1000,
        "initial_max_streams_bidi": 2,
        "initial_max_streams_uni": 2,
    }
    config = ClientConfig(**limits) if is_client else ServerConfig(**limits)
    return Owner(config)


@pytest.fixture
async def limited_link(certificate: Certificate) -> AsyncIterator[Link]:
    """With session flow control: 1,000 bytes, two streams of each kind."""
    link = Link("aioquic", "aioquic", certificate)
    owners = limited_connection(True), limited_connection(False)
    link.client = End(link.client.quic, is_client=True, connection=owners[0])
    link.server = End(link.server.quic, is_client=False, connection=owners[1])
    await link.settle()
    yield link
    assert (link.client.handler.connection, link.server.handler.connection) == owners


async def test_session_limits_are_flow_control_errors(limited_link: Link) -> None:
    link = limited_link
    token, _, _ = await link.session()
    handler = link.client.handler
    info = handler.get_session_info(session_id=token)
    assert info is not None
    assert (info.local_max_data, info.peer_max_data, info.peer_max_streams_uni) == (1000, 1000, 2)
    request = link.server.last(EventType.SESSION_REQUEST)
    assert request["connection"] is link.server.handler.connection is not None
    stream_id = handler.create_webtransport_stream(session_id=token, is_unidirectional=True)
    with pytest.raises(FlowControlError):
        handler.send_webtransport_stream_data(stream_id=stream_id, data=bytes(1001))
    handler.send_webtransport_stream_data(stream_id=stream_id, data=bytes(1000), end_stream=True)
    handler.create_webtransport_stream(session_id=token, is_unidirectional=True)
    with pytest.raises(FlowControlError):
        handler.create_webtransport_stream(session_id=token, is_unidirectional=True)
    assert handler.write_stream_chunked(stream_id=stream_id, data=b"x") == 0


async def test_limits_rise_with_what_has_been_told(limited_link: Link) -> None:
    """What came with an event is consumed: the peer goes on, and is told that it can."""
    link = limited_link
    token, _, _ = await link.session()
    handler, session = link.client.handler, handler_session(link.client)
    stream_id = handler.create_webtransport_stream(session_id=token)
    for _ in range(5):
        with pytest.raises(FlowControlError):
            while True:
                handler.send_webtransport_stream_data(stream_id=stream_id, data=bytes(1000))
        await link.settle()
    updates = [each["max_data"] for each in link.client.of(EventType.SESSION_MAX_DATA_UPDATED)]
    assert len(updates) == 5
    assert updates == sorted(set(updates))
    assert handler_session(link.client).peer_max_data == session.peer_max_data == updates[-1]
    assert handler_session(link.server).local_max_data == updates[-1]

    for is_unidirectional, event_type, name in (
        (False, EventType.SESSION_MAX_STREAMS_BIDI_UPDATED, "max_streams_bidi"),
        (True, EventType.SESSION_MAX_STREAMS_UNI_UPDATED, "max_streams_uni"),
    ):
        for _ in range(4):
            with pytest.raises(FlowControlError):
                while True:
                    handler.create_webtransport_stream(
                        session_id=token, is_unidirectional=is_unidirectional
                    )
            await link.settle()
            for opened in link.server.of(EventType.STREAM_OPENED):
                link.server.handler.abort_stream(stream_id=opened["stream_id"], error_code=0)
                link.client.handler.abort_stream(stream_id=opened["stream_id"], error_code=0)
            await link.settle()
        told = [each[name] for each in link.client.of(event_type)]
        assert len(told) == 4
        assert told[-1] == getattr(handler_session(link.client), f"peer_{name}") > 2


def handler_session(end: End) -> WebTransportSessionInfo:
    (info,) = end.handler.get_all_sessions()
    return info


async def test_streams_of_no_session_are_given_up(certificate: Certificate) -> None:
    """For one too many the oldest, and what has waited too long without anybody's help."""
    owner: Any = Owner(ServerConfig(pending_event_ttl=0.05, max_pending_events_per_session=2))
    link = Link("aioquic", "aioquic", certificate)
    link.server = End(link.server.quic, is_client=False, connection=owner)
    await link.settle()
    stopped: dict[int, int] = {}

    class Recorder:
        """Sees the client's QUIC events in place of its handler."""

        async def handle_quic_event(self, *, event: Any) -> None:
            if type(event).__name__ == "StopSendingReceived":
                stopped[event.stream_id] = event.error_code

    link.client.handler = Recorder()  # type: ignore[assignment]
    ids = []
    for _ in range(3):
        ids.append(link.client.quic.get_next_available_stream_id(is_unidirectional=True))
        # Type 0x54, and the id 400 of a session that nobody has asked for.
        link.client.quic.send_stream_data(ids[-1], b"\x40\x54\x41\x90early")
    await link.settle()
    assert stopped == {ids[0]: ErrorCodes.WT_BUFFERED_STREAM_REJECTED}
    async with asyncio.timeout(5):
        while len(stopped) < 3:
            await link.settle()
    assert stopped == dict.fromkeys(ids, ErrorCodes.WT_BUFFERED_STREAM_REJECTED)
    assert not link.server.of(EventType.STREAM_OPENED)
