"""How the protocols that keep one stream for hours, RPC and PubSub, read it and end it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from pywebtransport.exceptions import TimeoutError, WebTransportError

if TYPE_CHECKING:
    from pywebtransport.stream import WebTransportStream

__all__ = ["finish", "read_chunk"]

READ_SIZE = 65536
FINISH_TIMEOUT = 5.0
"""Seconds in which the peer must take what is written before a stream ends."""


async def read_chunk(stream: WebTransportStream, held: int) -> bytes:
    """The next bytes of a stream, empty at its end.

    ``held`` is how much of a message has come before, and waits for them. The read timeout of the
    configuration is for exchanges, where silence is a fault.
    """
    stream._count_unfinished(0, held)
    try:
        while True:
            try:
                return await stream.read(size=READ_SIZE)
            except TimeoutError:
                continue
    finally:
        stream._count_unfinished(held, 0)


async def finish(stream: WebTransportStream) -> None:
    """End both directions. What has been written still reaches the peer."""
    with suppress(WebTransportError, asyncio.TimeoutError):
        async with asyncio.timeout(FINISH_TIMEOUT):
            await stream.close()
    # A sending half that has its end is left alone by this; the other one is told to stop.
    with suppress(WebTransportError):
        await stream.abort()
