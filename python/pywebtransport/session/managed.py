"""The stream manager of a session: a live view of the streams that it has."""

from __future__ import annotations

from typing import Any, cast

from pywebtransport._link.sides import Session
from pywebtransport.exceptions import StreamError
from pywebtransport.manager.stream import StreamManager
from pywebtransport.session.base import SessionBase
from pywebtransport.stream.stream import (
    StreamType,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.types import StreamId

__all__ = ["SessionStreams"]


class SessionStreams(StreamManager):
    """The session keeps the streams and their slots itself: it has each of them, until it ends."""

    def __init__(self, *, session: SessionBase) -> None:
        self._session = session

        async def open_stream(is_unidirectional: bool) -> StreamId:
            raise AssertionError("the session opens its streams")

        super().__init__(
            stream_factory=open_stream,
            session_factory=lambda: cast(Session, session),
            max_streams=session._max_streams,
            stream_cleanup_interval=session._stream_cleanup_interval,
        )

    def __contains__(self, item: object) -> bool:
        return isinstance(item, int) and self._find(item) is not None

    def __len__(self) -> int:
        return self._session._stats.active_streams

    @property
    def _members(self) -> dict[StreamId, StreamType]:
        link = self._session._initialized()
        return {
            stream_id: stream  # type: ignore[misc]
            for stream_id, stream in link.streams.items()
            if stream._session is self._session
        }

    @_members.setter
    def _members(self, members: dict[StreamId, StreamType] | None) -> None:
        """The streams are where they are."""

    @property
    def _free_slots(self) -> int:
        return self._session._max_streams - self._session._local_streams

    async def create_bidirectional_stream(self) -> WebTransportStream:
        """As of the session."""
        return await cast(Session, self._session).create_bidirectional_stream()  # type: ignore[no-any-return]

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """As of the session."""
        return await cast(Session, self._session).create_unidirectional_stream()  # type: ignore[no-any-return]

    async def add_stream(self, *, stream: StreamType) -> None:
        """Does nothing for a stream of the session; StreamError for another."""
        if self._find(stream.stream_id) is not stream:
            raise StreamError(
                f"stream {stream.stream_id} is none of session {self._session._session_id}",
                stream_id=stream.stream_id,
            )

    async def remove_stream(self, *, stream_id: StreamId) -> StreamType | None:
        """The stream, or None. It stays, and keeps its slot, until it ends."""
        return self._find(stream_id)

    async def get_resource(self, *, resource_id: StreamId) -> StreamType | None:
        """The stream of this id, or None."""
        return self._find(resource_id)

    async def get_stats(self) -> dict[str, Any]:
        """As of every stream manager, since the session began."""
        stats, totals = await super().get_stats(), self._session._stats
        return stats | {
            "total_created": totals.streams_created,
            "total_closed": totals.streams_closed,
            "max_concurrent": max(self._session._most_streams, totals.active_streams),
        }

    def _find(self, stream_id: StreamId) -> StreamType | None:
        stream = self._session._initialized().streams.get(stream_id)
        return stream if stream is not None and stream._session is self._session else None  # type: ignore[return-value]
