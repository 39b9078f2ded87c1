"""Two ends of one bidirectional stream in memory, with the interface of WebTransportStream.

A write is taken whole or, while the other end has more than `window` bytes unread, not yet. So
what a slow reader does to a writer can be seen without a network, a clock or chance.
"""

from __future__ import annotations

import asyncio

from pywebtransport.exceptions import StreamError


class MemoryStream:
    def __init__(self, window: int) -> None:
        self.window = window
        self.peer: MemoryStream = self
        self.stream_id = 0
        self.buffer = bytearray()
        self.end = False
        self.finished = False
        self.aborted: int | None = None
        self.stopped = False
        self.written = bytearray()
        self._changed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        return self.aborted is not None or (self.finished and (self.end or self.stopped))

    def _change(self) -> None:
        for stream in (self, self.peer):
            stream._changed.set()
            stream._changed = asyncio.Event()

    def _check(self) -> None:
        if self.aborted is not None or self.peer.aborted is not None:
            code = self.peer.aborted if self.aborted is None else self.aborted
            raise StreamError("the stream was reset", error_code=code)

    def _count_unfinished(self, before: int, after: int) -> None:
        """There is no connection with a limit."""

    async def read(self, *, size: int = 8192) -> bytes:
        while not self.buffer:
            self._check()
            if self.stopped:
                raise StreamError("reading was stopped")
            if self.end:
                return b""
            await self._changed.wait()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        self._change()
        return data

    async def write(
        self, *, data: bytes, end_stream: bool = False, wait_flush: bool = True
    ) -> None:
        while True:
            self._check()
            if self.finished:
                raise StreamError("the stream is finished")
            if not self.peer.buffer or len(self.peer.buffer) + len(data) <= self.window:
                break
            await self._changed.wait()
        self.written += data
        if not self.peer.stopped:
            self.peer.buffer += data
        if end_stream:
            await self.close()
        self._change()

    async def close(self) -> None:
        self.finished = True
        self.peer.end = True
        self._change()

    async def abort(self, *, code: int = 0) -> None:
        if not self.finished and self.aborted is None:
            self.aborted = code
            self.peer.buffer.clear()
        await self.stop_receiving(error_code=code)

    async def stop_receiving(self, *, error_code: int = 0) -> None:
        self.stopped = True
        self.buffer.clear()
        self._change()


def stream_pair(window: int = 1 << 20) -> tuple[MemoryStream, MemoryStream]:
    one, other = MemoryStream(window), MemoryStream(window)
    one.peer, other.peer = other, one
    return one, other
