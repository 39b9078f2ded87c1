"""A pool of bidirectional streams of one session."""

from __future__ import annotations

from pywebtransport.manager import StreamManager
from pywebtransport.pool._base import ObjectPool
from pywebtransport.stream import WebTransportStream

__all__ = ["StreamPool"]


class StreamPool(ObjectPool[WebTransportStream]):
    """Streams made by ``stream_manager.create_bidirectional_stream``.

    A stream is reused only if neither side has ended a half and nothing waits to be read or sent;
    its listeners are gone then, and its ``send_order`` is 0.
    The pool cannot know of an answer that is still on its way: who gives up waiting for one leaves
    :meth:`get` by the exception, or aborts the stream before releasing it.
    """

    def __init__(self, *, stream_manager: StreamManager, max_size: int) -> None:
        super().__init__(
            max_size=max_size,
            create=stream_manager.create_bidirectional_stream,
            close=_close_stream,
            is_whole=lambda stream: stream._is_whole(),
            forget=lambda stream: stream._forget_user(),
        )

    async def release(self, stream: WebTransportStream) -> None:
        """Return a stream; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(stream)


async def _close_stream(stream: WebTransportStream, is_spoilt: bool) -> None:
    if is_spoilt:
        await stream.abort()
    else:
        await stream.close()
        await stream.stop_receiving()
