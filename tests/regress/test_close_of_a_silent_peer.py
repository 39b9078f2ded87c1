"""A close waits for the peer's FIN, but not long for one that has acknowledged ours."""

from __future__ import annotations

import asyncio
import ssl
import time

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport._engine.rules import LINGER
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import SERVER_SETTINGS, RawServer

CLOSE_TIMEOUT = 3 * LINGER


@pytest.mark.parametrize("peer_does", ["end its half", "acknowledge", "nothing"])
async def test_how_long_a_close_takes(
    engine: str, certificate: Certificate, peer_does: str
) -> None:
    config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE, close_timeout=CLOSE_TIMEOUT)
    async with RawServer(certificate) as server, WebTransportClient(config=config) as client:
        connecting = asyncio.create_task(client.connect(url=f"https://127.0.0.1:{server.port}/"))
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), h3.control_stream(SERVER_SETTINGS))
        session_id, _ = await peer.request()
        peer.send(session_id, h3.response_frame(200))
        await connecting
        peer.is_mute = peer_does == "nothing"
        started = time.monotonic()
        closing = asyncio.create_task(client.close())
        await peer.until(lambda: peer.streams[session_id].fin)
        assert not peer.closed
        if peer_does == "end its half":
            peer.send(session_id, fin=True)
        await closing
        seconds = time.monotonic() - started
    least, most = {
        "end its half": (0.0, LINGER),
        "acknowledge": (LINGER, 2 * LINGER),
        "nothing": (CLOSE_TIMEOUT, 2 * CLOSE_TIMEOUT),
    }[peer_does]
    assert least - 0.1 < seconds < most
