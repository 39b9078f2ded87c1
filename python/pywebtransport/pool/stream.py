"""A pool of bidirectional streams of one session."""

from __future__ import annotations

from pywebtransport.manager import StreamManager
from pywebtransport.pool._base import AsyncObjectPool
from pywebtransport.stream import WebTransportStream

__all__ = ["StreamPool"]


class StreamPool(AsyncObjectPool[WebTransportStream]):
    """Streams made by ``stream_manager.create_bidirectional_stream``."""

    def __init__(self, *, stream_manager: StreamManager, max_size: int) -> None:
        super().__init__(max_size=max_size)
        self._stream_manager = stream_manager

    async def release(self, stream: WebTransportStream) -> None:
        """Return a stream; after ``close()`` it is closed instead.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(stream)

    async def _create(self) -> WebTransportStream:
        return await self._stream_manager.create_bidirectional_stream()

    async def _dispose(self, obj: WebTransportStream) -> None:
        await obj.close()

    def _is_closed(self, obj: WebTransportStream) -> bool:
        return obj.is_closed
