"""The stream manager of a session: a live view of the streams that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywebtransport.manager import StreamManager, StreamType
from pywebtransport.types import StreamId

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession
    from pywebtransport.stream import WebTransportSendStream, WebTransportStream

__all__ = ["SessionStreams"]


class SessionStreams(StreamManager):
    """The session keeps the streams and their slots itself; nothing is entered or shut down."""

    def __init__(self, *, session: WebTransportSession) -> None:
        self._session = session

        async def open_stream(is_unidirectional: bool) -> StreamId:
            stream_id = session._open_now(is_unidirectional)
            if stream_id is None:
                stream_id = await session._open_later(is_unidirectional, None)
            return stream_id

        super().__init__(
            stream_factory=open_stream,
            session_factory=lambda: session,
            max_streams=session._max_streams,
            stream_cleanup_interval=session._stream_cleanup_interval,
        )

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
        return await self._session.create_bidirectional_stream()

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """As of the session."""
        return await self._session.create_unidirectional_stream()
