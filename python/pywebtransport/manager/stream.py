"""A register of one session's streams, which also opens streams up to a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import attrgetter
from typing import Any

from pywebtransport._link.sides import Session
from pywebtransport.constants import DEFAULT_MAX_STREAMS, DEFAULT_STREAM_CLEANUP_INTERVAL
from pywebtransport.exceptions import StreamError
from pywebtransport.manager.base import ResourceManager
from pywebtransport.stream.stream import (
    StreamType,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.types import StreamId, StreamState

__all__ = ["StreamManager", "StreamType"]

DIRECTION = attrgetter("direction")


class StreamManager(ResourceManager[StreamId, StreamType]):
    """Streams that are open, and slots for those opened here.

    ``stream_factory(is_unidirectional)`` opens a stream and gives its id. Each stream opened here
    takes one of ``max_streams`` slots until it has ended or is removed; streams that are added
    take none.
    """

    _closed_states = frozenset(
        {StreamState.CLOSED, StreamState.RESET_SENT, StreamState.RESET_RECEIVED}
    )
    _error = StreamError
    _plural = "streams"

    def __init__(
        self,
        *,
        stream_factory: Callable[[bool], Awaitable[StreamId]],
        session_factory: Callable[[], Session],
        max_streams: int = DEFAULT_MAX_STREAMS,
        stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL,
    ) -> None:
        super().__init__(limit=max_streams, cleanup_interval=stream_cleanup_interval)
        self._stream_factory = stream_factory
        self._session_factory = session_factory
        self._own: set[StreamId] = set()
        """Streams opened here, each with its slot."""
        self._opening = 0
        """Slots taken by streams whose factory has not answered yet."""

    async def __aiter__(self) -> AsyncIterator[StreamType]:
        for stream in await self.get_all_resources():
            yield stream

    def __contains__(self, item: object) -> bool:
        return isinstance(item, int) and item in (self._members or ())

    async def add_resource(self, *, resource: StreamType) -> None:
        """As :meth:`add_stream`."""
        await self.add_stream(stream=resource)

    async def add_stream(self, *, stream: StreamType) -> None:
        """Take a stream in; one that is known stays as it is. It takes no slot."""
        if stream.stream_id not in self._active_members():
            self._insert(stream.stream_id, stream)

    async def create_bidirectional_stream(self) -> WebTransportStream:
        """Open a stream; it still has to be initialized.

        Raises StreamError at once when no slot is free.
        """
        stream_id = await self._open(is_unidirectional=False)
        stream = WebTransportStream(session=self._session_factory(), stream_id=stream_id)
        self._keep(stream)
        return stream

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """As :meth:`create_bidirectional_stream`, for sending only."""
        stream_id = await self._open(is_unidirectional=True)
        stream = WebTransportSendStream(session=self._session_factory(), stream_id=stream_id)
        self._keep(stream)
        return stream

    async def remove_stream(self, *, stream_id: StreamId) -> StreamType | None:
        """Forget a stream without closing it, and free its slot; None when it is unknown."""
        return self._remove(stream_id)

    async def cleanup_closed_streams(self) -> int:
        """Forget streams that have ended and free their slots; how many there were."""
        return await self.cleanup_closed_resources()

    async def get_stats(self) -> dict[str, Any]:
        """As of every manager, with the free slots and the number of streams per direction."""
        stats = await super().get_stats()
        if stats:
            stats["semaphore_locked"] = self._free_slots <= 0
            stats["semaphore_value"] = self._free_slots
            stats["directions"] = dict(Counter(map(DIRECTION, (self._members or {}).values())))
        return stats

    async def shutdown(self) -> None:
        """Close every stream, all at the same time; what fails is logged. Idempotent."""
        await super().shutdown()
        self._own.clear()

    @property
    def _free_slots(self) -> int:
        return self._limit - len(self._own) - self._opening

    async def _open(self, *, is_unidirectional: bool) -> StreamId:
        self._active_members()
        if self._free_slots <= 0:
            raise StreamError(
                f"no free slot: {self._limit} streams opened here are still open; close one, or "
                "raise max_streams"
            )
        self._opening += 1
        try:
            return await self._stream_factory(is_unidirectional)
        finally:
            self._opening -= 1

    def _keep(self, stream: StreamType) -> None:
        self._active_members()
        self._own.add(stream.stream_id)
        self._insert(stream.stream_id, stream)

    def _remove(self, member_id: StreamId) -> StreamType | None:
        self._own.discard(member_id)
        return super()._remove(member_id)

    def _member_ended(self, member: StreamType) -> None:
        self._own.discard(member.stream_id)
        super()._member_ended(member)

    def _id_of(self, member: StreamType) -> StreamId:
        return member.stream_id

    async def _close(self, member: StreamType) -> None:
        await member.close()
