"""The same data to many streams."""

from __future__ import annotations

from pywebtransport.constants import MAX_BUFFER_SIZE
from pywebtransport.exceptions import StreamError
from pywebtransport.stream.send import WebTransportSendStream
from pywebtransport.types import Data
from pywebtransport.utils import ensure_bytes, get_logger

__all__ = ["StreamBroadcaster"]

logger = get_logger(name=__name__)


class StreamBroadcaster:
    """Writes to every stream that was added, and waits for none.

    What a peer does not read is kept for it up to ``max_backlog`` bytes; a stream that would need
    more is aborted and forgotten, and so is one that has ended. Works without ``async with``.

    Args:
        max_backlog: Bytes that may wait for one peer (1 MiB).
    """

    def __init__(self, *, max_backlog: int = MAX_BUFFER_SIZE) -> None:
        self._streams: dict[WebTransportSendStream, None] = {}
        self._max_backlog = max_backlog

    def __len__(self) -> int:
        return len(self._streams)

    def __repr__(self) -> str:
        return f"<StreamBroadcaster {len(self)} streams>"

    def add(self, stream: WebTransportSendStream) -> None:
        """Begin to write to a stream; a known one stays as it is."""
        self._streams[stream] = None

    def discard(self, stream: WebTransportSendStream) -> None:
        """Write to it no more; it stays open. An unknown one is ignored."""
        self._streams.pop(stream, None)

    async def broadcast(self, data: Data) -> int:
        """Write to all; returns to how many."""
        payload = ensure_bytes(data=data)
        count = 0
        for stream in list(self._streams):
            try:
                if stream._backlog_size() + len(payload) > self._max_backlog:
                    logger.warning(
                        "%r does not read: more than max_backlog=%d bytes would wait",
                        stream,
                        self._max_backlog,
                    )
                    await stream.abort()
                    self.discard(stream)
                    continue
                stream._write_now(payload, is_last=False)
                count += 1
            except StreamError as error:
                logger.debug("%r is forgotten: %s", stream, error)
                self.discard(stream)
        return count
