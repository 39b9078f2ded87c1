"""A peer that gives up after less silence than we do."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import raw_http3 as h3
from tests.support.raw_peer import raw_client

IDLE_TIMEOUT = 0.5


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_keep_alive_knows_the_peers_idle_timeout(serve, keep_alive: bool):
    """The smaller of both counts (RFC 9000 §10.1); here time itself is the subject."""
    site = await serve(keep_alive=keep_alive)
    async with raw_client(site.port, idle_timeout=IDLE_TIMEOUT) as peer:
        peer.send(peer.open(unidirectional=True), h3.control_stream(h3.SETTINGS_OF["02"]))
        session_id = peer.open()
        peer.send(session_id, h3.connect_frame())
        await peer.response(session_id)
        await asyncio.sleep(4 * IDLE_TIMEOUT)
        assert (peer.closed is None) == keep_alive
