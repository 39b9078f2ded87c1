"""The server that the workloads talk to, and what they say to it.

A client offers the application protocol :data:`PROTOCOL`. A server that chooses it answers each
bidirectional stream so: the first :data:`HEAD` bytes are a number, big-endian; the rest is read to
its end; then so many bytes are sent, and the end. Datagrams it sends back as they are.

A server that does not choose it is taken for one that echoes streams and datagrams.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from pywebtransport.config import ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server import ServerApp
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream

__all__ = ["HEAD", "PROTOCOL", "answering_app"]

PROTOCOL = "pywebtransport-bench"
HEAD = 8
CHUNK = 256 * 1024
ANY_PATH = "/.*"

logger = logging.getLogger(__name__)


def answering_app(config: ServerConfig) -> ServerApp:
    """On every path."""
    app = ServerApp(config=config.update(wt_available_protocols=[PROTOCOL]))

    @app.pattern_route(ANY_PATH)
    async def answer(session: WebTransportSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_return_datagrams(session))
            async for stream in session.incoming_bidirectional_streams():
                tasks.create_task(_answer_stream(stream))

    return app


async def _answer_stream(stream: WebTransportStream) -> None:
    with contextlib.suppress(WebTransportError):  # the client has had enough
        size = int.from_bytes(await stream.readexactly(HEAD))
        while await stream.read(CHUNK):
            pass
        chunk = bytes(min(size, CHUNK))
        while size > len(chunk):
            await stream.write(chunk)
            size -= len(chunk)
        await stream.write(chunk[:size], end_stream=True)


async def _return_datagrams(session: WebTransportSession) -> None:
    with contextlib.suppress(WebTransportError):
        transport = await session.create_datagram_transport()
        async for datagram in transport:
            await transport.send(datagram)
