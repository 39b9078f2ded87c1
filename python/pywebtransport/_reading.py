"""Reading for the protocols on a stream whose peer may be silent for hours: RPC and PubSub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywebtransport.exceptions import TimeoutError

if TYPE_CHECKING:
    from pywebtransport.stream import WebTransportStream

__all__ = ["read_chunk"]

READ_SIZE = 65536


async def read_chunk(stream: WebTransportStream) -> bytes:
    """The next bytes of a stream, empty at its end.

    The read timeout of the configuration is for exchanges, where silence is a fault.
    """
    while True:
        try:
            return await stream.read(size=READ_SIZE)
        except TimeoutError:
            continue
