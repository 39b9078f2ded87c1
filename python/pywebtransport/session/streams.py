"""How a session comes by its streams: it opens them, or takes those that the peer has opened."""

from __future__ import annotations

import asyncio
import builtins
from typing import TypeVar

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._link.link import Link
from pywebtransport.exceptions import StreamError
from pywebtransport.session.base import SessionBase
from pywebtransport.session.opening import StreamOpeners
from pywebtransport.stream.send import WebTransportSendStream
from pywebtransport.stream.stream import WebTransportReceiveStream
from pywebtransport.types import EventType, SessionState, StreamId

__all__ = ["StreamingSession"]

AnyStream = TypeVar("AnyStream", bound=WebTransportSendStream)


class StreamingSession(SessionBase):
    """What :class:`WebTransportSession` opens and takes its streams with."""

    __slots__ = ()

    def _open_now(self, unidirectional: bool) -> StreamId | None:
        """The id of a new stream, if the peer allows one at once."""
        link = self._link or self._initialized()
        if self._state != SessionState.CONNECTED:
            if self._state == SessionState.CONNECTING and self._waits_for_answer:
                return None
            self._established()
        if self._local_streams >= self._max_streams:
            self._look_for_ends(link)
            if self._local_streams >= self._max_streams:
                self._stats.stream_errors += 1
                raise StreamError(
                    f"max_streams={self._max_streams} streams are open in session"
                    f" {self._session_id}; close some, or raise config.max_streams"
                )
        link.budget -= 1
        openers = self._openers
        if link.budget < 0 or (openers is not None and openers[unidirectional]):
            return None
        try:
            stream_id = link.engine.open_stream(self._control_id, unidirectional)  # type: ignore[arg-type]
        except (EngineClosed, SessionRefused) as error:
            raise self._error(f"no stream can be opened: {error}") from error
        if stream_id is not None:
            # Counted before anything else can run, so that the limit holds.
            self._local_streams += 1
        return stream_id

    async def _open_later(self, unidirectional: bool, timeout: float | None) -> StreamId:
        link = self._initialized()
        if timeout is None:
            timeout = self._connection.config.stream_creation_timeout
        try:
            async with asyncio.timeout(timeout):
                if self._state == SessionState.CONNECTING:
                    await self.ensure_ready()
                if link.budget < 0:
                    await link.breathe()
                stream_id = self._open_now(unidirectional)
                if stream_id is not None:
                    return stream_id
                self._local_streams += 1
                try:
                    stream_id = await self._waiting_for(unidirectional).wait()
                except BaseException:
                    self._local_streams -= 1
                    raise
        except builtins.TimeoutError:
            self._stats.stream_errors += 1
            raise StreamError(
                f"the peer allowed no further"
                f" {'uni' if unidirectional else 'bi'}directional stream within {timeout} s"
            ) from None
        if stream_id is None:
            self._local_streams -= 1
            raise self._closed_error()
        return stream_id

    def _waiting_for(self, unidirectional: bool) -> StreamOpeners:
        if self._openers is None:
            link = self._initialized()
            assert self._control_id is not None
            bidirectional, receiving = (
                StreamOpeners(
                    loop=link.loop,
                    engine=link.engine,
                    control_id=self._control_id,
                    unidirectional=direction,
                )
                for direction in (False, True)
            )
            self._openers = bidirectional, receiving
        return self._openers[unidirectional]

    def _opened(self, kind: type[AnyStream], stream_id: StreamId, send_order: int) -> AnyStream:
        """A stream of this side, whose slot is counted already."""
        link = self._link
        assert link is not None
        stream = kind._made(stream_id, self, link, False)
        self._stats.streams_created += 1
        if send_order:
            stream.send_order = send_order
        if self._is_heard:
            self._tell_stream(EventType.STREAM_OPENED, stream)
        return stream

    def _look_for_ends(self, link: Link) -> None:
        """Streams whose data has ended unread hold a slot; give theirs back."""
        for stream in list(link.streams.values()):
            if stream._session is self and isinstance(stream, WebTransportReceiveStream):
                stream._probe()

    def _take_stream(self, unidirectional: bool | None) -> WebTransportReceiveStream | None:
        """As :meth:`_next_stream`; None when that may have to wait."""
        link, queue = self._link, self._incoming
        if link is None or queue is None or link.budget <= 0:
            return None
        stream = queue.take(unidirectional)
        if stream is not None:
            link.budget -= 1
        return stream

    async def _next_stream(self, unidirectional: bool | None) -> WebTransportReceiveStream | None:
        """The next that the peer opens; None when the session has ended."""
        link = self._initialized()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        if self._state == SessionState.CONNECTING and self._waits_for_answer:
            await self.ensure_ready()
        queue = self._incoming_queue()
        while (stream := queue.take(unidirectional)) is None and not queue.is_ended:
            arrival = queue.arrival(unidirectional)
            try:
                await arrival
            except asyncio.CancelledError:
                queue.give_up(unidirectional, arrival)
                raise
        return stream
