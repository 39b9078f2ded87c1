"""A server that can do every workload."""

from __future__ import annotations

import asyncio
import contextlib

from pywebtransport.cli.measure import HEAD, PROTOCOL
from pywebtransport.config import ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server import ServerApp
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream

__all__ = ["answering_app"]

CHUNK = 256 * 1024
ANY_PATH = "/.*"


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
