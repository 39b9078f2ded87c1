"""Tasks that wait until the peer allows another stream."""

from __future__ import annotations

import asyncio
from collections import deque

from pywebtransport._engine.base import EngineClosed, EngineConnection, SessionRefused

__all__ = ["StreamOpeners"]


class StreamOpeners:
    """First come, first served, for one session and one direction."""

    __slots__ = ("_control_id", "_engine", "_loop", "_unidirectional", "_waiters")

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        engine: EngineConnection,
        control_id: int,
        unidirectional: bool,
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._control_id = control_id
        self._unidirectional = unidirectional
        self._waiters: deque[asyncio.Future[int | None]] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self) -> int | None:
        """The id of a new stream; None when the session ends first."""
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._waiters.append(future)
        if len(self._waiters) == 1:
            # The engine tells of room only after it has been asked and had none.
            self.serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                if future in self._waiters:
                    self._waiters.remove(future)
            elif (stream_id := future.result()) is not None:
                # The stream was opened for a task that no longer wants it.
                self._give_up(stream_id)
            raise

    def serve(self) -> None:
        """The peer allows more: open streams for those who wait."""
        while self._waiters:
            future = self._waiters[0]
            if future.done():
                self._waiters.popleft()
                continue
            try:
                stream_id = self._engine.open_stream(self._control_id, self._unidirectional)
            except (EngineClosed, SessionRefused):
                self.end()
                return
            if stream_id is None:
                return
            self._waiters.popleft()
            future.set_result(stream_id)

    def end(self) -> None:
        """The session has ended."""
        for future in self._waiters:
            if not future.done():
                future.set_result(None)
        self._waiters.clear()

    def _give_up(self, stream_id: int) -> None:
        try:
            self._engine.stream_reset(stream_id, 0)
            if not self._unidirectional:
                self._engine.stream_stop(stream_id, 0)
        except (EngineClosed, SessionRefused):
            return
