"""A session handler that is made of a stream handler."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from pywebtransport._words import peer_path
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server.router import SessionHandler
from pywebtransport.session.session import WebTransportSession
from pywebtransport.stream.stream import WebTransportReceiveStream, WebTransportStream

__all__ = ["StreamHandler", "each_stream"]

logger = logging.getLogger("pywebtransport.server")

StreamHandler: TypeAlias = Callable[[WebTransportStream], Awaitable[None]]
"""Called with each stream that the peer opens; one that it only writes is a receive stream."""


def each_stream(handler: StreamHandler) -> SessionHandler:
    """A session handler that calls ``handler`` with each stream, in a task of its own."""

    @functools.wraps(handler)
    async def serve(session: WebTransportSession) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for stream in session.incoming_streams():
                task = asyncio.create_task(serve_stream(handler, session, stream))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()

    return serve


async def serve_stream(
    handler: StreamHandler,
    session: WebTransportSession,
    stream: WebTransportStream | WebTransportReceiveStream,
) -> None:
    """Call the handler; its failure ends its stream and no other."""
    try:
        await handler(stream)  # type: ignore[arg-type]
        if isinstance(stream, WebTransportStream):
            await stream.close()
        await stream.stop_receiving()
    except asyncio.CancelledError:
        await stream.abort()
        raise
    except Exception as error:
        await stream.abort(code=ErrorCodes.INTERNAL_ERROR)
        if isinstance(error, WebTransportError):
            logger.info("stream %d of %s: %s", stream.stream_id, peer_path(session.path), error)
        else:
            logger.exception(
                "handler of stream %d of %s failed", stream.stream_id, peer_path(session.path)
            )
