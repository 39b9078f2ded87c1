"""A server that answers and ends the connection in one flight: the session was there, and ended."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import SERVER_SETTINGS, RawServer

CODE_ON_THE_WIRE = 0x52E4A40FB9FA
"""4242 (webtrans-http3-16 §4.4)."""
APPLICATION_CLOSE = 0x1D
STREAM_WITH_LENGTH = 0x0A


def one_packet(stream_id: int, answer: bytes) -> bytes:
    """STREAM and CONNECTION_CLOSE, which aioquic would not put together."""
    stream = h3.varint(STREAM_WITH_LENGTH) + h3.varint(stream_id) + h3.varint(len(answer)) + answer
    close = h3.varint(APPLICATION_CLOSE) + h3.varint(CODE_ON_THE_WIRE) + h3.varint(3) + b"bye"
    return stream + close


@pytest.mark.parametrize("flight", ["one packet", "two datagrams"])
async def test_the_session_tells_how_it_ended(
    engine: str, certificate: Certificate, flight: str
) -> None:
    config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE)
    async with RawServer(certificate) as server, WebTransportClient(config=config) as client:
        connecting = asyncio.create_task(client.connect(url=f"https://127.0.0.1:{server.port}/"))
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), h3.control_stream(SERVER_SETTINGS))
        session_id, _ = await peer.request()
        answer = h3.response_frame(200)
        if flight == "one packet":
            peer.frames(one_packet(session_id, answer))
        else:
            peer.send(session_id, answer)
            peer.flush()
            peer.close(CODE_ON_THE_WIRE, "bye")
        peer.flush()
        async with asyncio.timeout(5):
            session = await connecting
            await session.wait_closed()
        assert (session.close_code, session.close_reason) == (4242, "bye")
        assert session.closed_by == "transport"
