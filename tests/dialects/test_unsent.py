"""Answers that a peer gives no credit for have a limit (`Limits::max_unsent_bytes`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import MiddlewareRejected
from pywebtransport.session import WebTransportSession
from tests.support import raw_http3 as h3
from tests.support.raw_peer import raw_client

from .conftest import Site

LIMIT = 256 << 10
GUESS = LIMIT - 1000
SILENT = {"gives_credit": False, "max_stream_data": 0}


async def test_answers_without_credit(serve: Callable[..., Awaitable[Site]]):
    """At the limit they wait, one byte more is H3_EXCESSIVE_LOAD."""
    site = await serve()
    size = 0

    async def reject(session: WebTransportSession) -> None:
        # "~" is longer in Huffman's code: the field is as long as it looks.
        raise MiddlewareRejected(status_code=429, headers={"x-why": "~" * size})

    site.app.add_middleware(middleware=reject)
    opening = h3.control_stream(h3.SETTINGS_OF["15"])

    size = GUESS
    async with raw_client(site.port) as peer:
        peer.send(peer.open(unidirectional=True), opening)
        stream = peer.open()
        peer.send(stream, h3.connect_frame())
        await peer.until(lambda: peer.streams[stream].is_ended)
        around = len(peer.streams[stream].data) - GUESS

    for excess in (0, 1):
        size = LIMIT - around + excess
        async with raw_client(site.port, **SILENT) as peer:
            peer.send(peer.open(unidirectional=True), opening)
            stream = peer.open()
            peer.send(stream, h3.connect_frame())
            if excess:
                closed = await peer.wait_closed()
                assert closed.code == ErrorCodes.H3_EXCESSIVE_LOAD
            else:
                seen = peer.streams[stream]
                await peer.until(lambda seen=seen: seen.stopped is not None)
                assert peer.closed is None
