"""The sending half of a stream."""

from __future__ import annotations

import contextlib
from collections import deque
from types import TracebackType
from typing import NoReturn, Self

from pywebtransport._engine.base import EngineClosed, SessionRefused, StreamFinished
from pywebtransport._keywords import first_by_position
from pywebtransport._link.link import OPERATION, Link
from pywebtransport._loop import check_loop
from pywebtransport.exceptions import StreamError, TimeoutError
from pywebtransport.stream.base import (
    ABSENT,
    FINISHED,
    FINISHING,
    LOST,
    OPEN,
    RESET,
    STOPPED,
    Chunk,
    StreamBase,
    check_code,
)
from pywebtransport.stream.statistics import WebTransportSendStreamStats
from pywebtransport.types import Buffer, Data, EventType, StreamDirection

__all__ = ["WebTransportSendStream"]

ENDED = (StreamFinished, EngineClosed, SessionRefused)
"""What the engine raises where nothing more can be sent."""
MAX_SEND_ORDER = 1 << 20
"""What the engines keep apart."""


def check_send_order(order: int) -> None:
    """Before anything changes.

    Raises:
        ValueError: It does not fit into what QUIC's streams are sorted by.
    """
    if not isinstance(order, int) or not -MAX_SEND_ORDER <= order <= MAX_SEND_ORDER:
        raise ValueError(
            f"send_order must be an integer in {-MAX_SEND_ORDER}..{MAX_SEND_ORDER}, it is {order!r}"
        )


class WebTransportSendStream(StreamBase):
    """A stream that this side writes and the peer reads.

    ``async with`` sends the end of the stream on a clean exit, and aborts it with an exception.
    """

    __slots__ = ()

    _direction = StreamDirection.SEND_ONLY
    _halves = (ABSENT, OPEN)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if exc_type is None:
            try:
                await self.close()
            except TimeoutError:
                # The peer takes nothing: what was begun cannot be ended in another way.
                await self.abort()
                raise
        elif not self.is_closed:
            await self.abort()

    @property
    def is_writable(self) -> bool:
        """Whether data can be written: neither side has ended this half."""
        return self._sending == OPEN

    @property
    def can_write(self) -> bool:
        """The same as ``is_writable``."""
        return self._sending == OPEN

    @property
    def send_order(self) -> int:
        """Which of the connection's streams sends first while not all can: the highest; 0 at first.

        Streams of the same order take turns. It is the sendOrder of W3C's WebTransport, of all
        sessions of a connection together. It can be changed at any time; what QUIC has put into a
        packet has gone. The aioquic engine lets all streams take turns, whatever their orders.
        """
        # Few streams have one, so the others have no such attribute.
        return getattr(self, "_send_order", 0)

    @send_order.setter
    def send_order(self, order: int) -> None:
        check_send_order(order)
        self._send_order = order
        if self._sending <= FINISHING:
            with contextlib.suppress(EngineClosed, SessionRefused):
                self._linked().engine.set_stream_priority(self._stream_id, order)

    @first_by_position
    async def write(
        self, data: Data | Buffer, *, end_stream: bool = False, wait_flush: bool = True
    ) -> None:
        """Hand ``data`` over for sending; wait while the peer gives no credit.

        A buffer of any size is sent without being copied first, so leave a ``bytearray`` alone
        until this returns. Writes of several tasks go out one after another, each whole.

        Cancelled before the first byte was taken, a write has no effect; cancelled later, the rest
        is still sent.

        Args:
            data: Bytes, or text that is sent as UTF-8. Empty without ``end_stream``: nothing
                happens.
            end_stream: Send the end of the stream with the last byte.
            wait_flush: False: return when the data is buffered, as long as no more than
                ``config.max_stream_buffer_size`` (1 MiB) is.

        Raises:
            StreamError: The stream has ended; ``error_code`` is the peer's when it asked to stop.
            TimeoutError: No credit within ``config.write_timeout`` (30 s). What has begun to be
                sent stays queued; :meth:`flush` waits for it.
            TypeError: ``data`` is neither text nor a buffer.
        """
        link = self._link or self._linked()
        if type(data) is not bytes:
            data = _as_buffer(data)
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        if self._sending != OPEN:
            self._refuse()
        size = len(data)
        accepted = 0
        if self._backlog is None:
            if not size and not end_stream:
                return
            # As in `_write_now`: what both do would be one call more for each small message.
            try:
                accepted = link.engine.stream_write(self._stream_id, data, end_stream)
            except ENDED as error:
                self._cannot_send(error)
            self._bytes_sent += accepted
            if accepted == size:
                self._writes += 1
                if size >= OPERATION:
                    link.budget -= size // OPERATION
                if end_stream:
                    self._finish_sending()
                return
        if not wait_flush:
            limit = link.max_stream_buffer_size
            wait_flush = self._backlog_size() + size - accepted > limit
        chunk = self._keep(link, data, accepted, end_stream, wait_flush)
        if wait_flush:
            await self._wait_accepted(link, chunk)

    @first_by_position
    async def write_all(
        self, data: Data | Buffer, *, chunk_size: int = 8192, end_stream: bool = True
    ) -> None:
        """Write everything and, unless ``end_stream`` is False, the end of the stream.

        ``chunk_size`` is accepted for compatibility: a buffer of any size is handed over whole.

        Raises what :meth:`write` raises; on StreamError the stream has been aborted with code 1.
        """
        try:
            await self.write(data=data, end_stream=end_stream)
        except StreamError:
            await self.abort(code=1)
            raise

    async def flush(self) -> None:
        """Wait until everything written has been handed over.

        Raises:
            StreamError: The stream ended before.
            TimeoutError: Not within ``config.write_timeout`` (30 s).
        """
        link = self._link or self._linked()
        if self._backlog is None:
            return
        marker = Chunk(memoryview(b""), False, False, link.loop.create_future())
        self._backlog.append(marker)
        await self._wait_accepted(link, marker)

    async def close(self) -> None:
        """Send the end of the stream. Does nothing when the stream is not writable."""
        if self._sending != OPEN:
            return
        try:
            await self.write(data=b"", end_stream=True)
        except StreamError:
            # The stream has ended in another way meanwhile, which is what was asked for.
            return

    @first_by_position
    async def reset(self, error_code: int = 0) -> None:
        """Drop what is unsent and tell the peer a 32-bit application code (RESET_STREAM).

        Nothing happens when this half has ended already.

        Raises:
            ValueError: ``error_code`` does not fit into 32 bits.
        """
        check_code("error_code", error_code)
        self._reset_now(error_code)

    def _reset_now(self, code: int) -> None:
        link = self._linked()
        if self._sending > FINISHING:
            return
        check_loop(link.loop)
        self._sending = RESET
        try:
            link.engine.stream_reset(self._stream_id, code)
        except (EngineClosed, SessionRefused, StreamFinished):
            self._sending = LOST
        self._drop_backlog()
        self._close_if_done()

    @first_by_position
    async def abort(self, code: int = 0) -> None:
        """End the stream at once, with a 32-bit application code for the peer (RESET_STREAM)."""
        await self.reset(error_code=code)

    def _cannot_send(self, error: Exception) -> NoReturn:
        if isinstance(error, StreamFinished):
            self._on_stopped(None)
        else:
            self._lose()
        self._refuse()

    def _keep(self, link: Link, data: Buffer, accepted: int, fin: bool, wait: bool) -> Chunk:
        """Keep what the engine did not accept; the notification that it can take more sends it."""
        if self._backlog is None:
            self._backlog = deque()
        view = memoryview(data if wait else bytes(data))[accepted:]
        chunk = Chunk(view, fin, accepted > 0, link.loop.create_future() if wait else None)
        self._backlog.append(chunk)
        if fin:
            self._sending = FINISHING
        return chunk

    def _write_now(self, data: Data | Buffer, *, is_last: bool) -> None:
        """Write all of it, now or when the peer gives credit, without waiting."""
        link = self._link or self._linked()
        if type(data) is not bytes:
            data = _as_buffer(data)
        if self._sending != OPEN:
            self._refuse()
        accepted = 0
        if self._backlog is None:
            try:
                accepted = link.engine.stream_write(self._stream_id, data, is_last)
            except ENDED as error:
                self._cannot_send(error)
            self._bytes_sent += accepted
            if accepted == len(data):
                self._writes += 1
                if is_last:
                    self._finish_sending()
                return
        self._keep(link, data, accepted, is_last, False)

    async def _wait_accepted(self, link: Link, chunk: Chunk) -> None:
        waits = link.writes
        started = link.loop.time()
        while True:
            future = chunk.future
            assert future is not None
            sent = self._bytes_sent
            try:
                waits.add(future, link.loop.time())
                expired = await future
            except BaseException:
                self._abandon(chunk)
                raise
            finally:
                waits.discard(future)
            if expired and (self._backlog is None or chunk not in self._backlog):
                # It went, or was dropped, in the turn of the loop in which the time ran out.
                expired = False
            if not expired or self._bytes_sent == sent:
                break
            # Some credit came, so the peer reads: the time runs anew.
            chunk.future = link.loop.create_future()
        elapsed = link.loop.time() - started
        costs = self._costs or self._count()
        costs.total_write_time += elapsed
        if elapsed > costs.max_write_time:
            costs.max_write_time = elapsed
        if expired:
            costs.write_errors += 1
            left = len(chunk.view)
            self._abandon(chunk)
            raise TimeoutError(
                f"the peer gave no credit on stream {self._stream_id} within"
                f" write_timeout={waits.timeout:g} s; {left} bytes of this write are left",
                timeout_duration=waits.timeout,
                operation="write",
            )
        if self._sending not in (OPEN, FINISHING, FINISHED):
            self._refuse()

    def _abandon(self, chunk: Chunk) -> None:
        """Nobody waits for a chunk any more: forget it, or send the rest if part of it went."""
        chunk.future = None
        if self._backlog is None or chunk not in self._backlog:
            return
        if chunk.started:
            chunk.view = memoryview(bytes(chunk.view))
            return
        self._backlog.remove(chunk)
        if chunk.fin:
            self._sending = OPEN
        if not self._backlog:
            self._backlog = None

    def _finish_sending(self) -> None:
        self._sending = FINISHED
        if self._receiving > FINISHING:
            self._close_if_done()
        elif self._readable:
            self._probe()

    def _refuse(self) -> NoReturn:
        self._count().write_errors += 1
        stream_id = self._stream_id
        if self._sending == STOPPED and not self._ended_with_session(self._stop_code):
            text = f"the peer asked to stop sending on stream {stream_id}"
            raise self._reset_error(text, self._stop_code)
        if self._sending in (STOPPED, LOST):
            raise self._ended_error()
        if self._sending == ABSENT:
            raise self._error(f"stream {stream_id} is receive only")
        what = "reset" if self._sending == RESET else "ended"
        raise self._error(f"stream {stream_id} is not writable: this side has {what} it")

    def stats(self) -> WebTransportSendStreamStats:
        """How far the data has come; also after the end."""
        return WebTransportSendStreamStats(bytes_written=self._bytes_written())

    def _bytes_written(self) -> int:
        return self._bytes_sent + self._backlog_size()

    def _on_writable(self) -> None:
        link = self._link
        backlog = self._backlog
        if backlog is None or link is None:
            return
        try:
            while backlog:
                chunk = backlog[0]
                size = len(chunk.view)
                accepted = 0
                if size or chunk.fin:
                    accepted = link.engine.stream_write(self._stream_id, chunk.view, chunk.fin)
                self._bytes_sent += accepted
                if accepted < size:
                    chunk.view = chunk.view[accepted:]
                    chunk.started = chunk.started or accepted > 0
                    return
                backlog.popleft()
                self._writes += size > 0
                if chunk.future is not None and not chunk.future.done():
                    chunk.future.set_result(False)
                if chunk.fin:
                    # What is left are those who wait until everything was handed over.
                    self._drop_backlog()
                    self._finish_sending()
                    return
        except StreamFinished:
            return  # stream_stopped says why
        except (EngineClosed, SessionRefused):
            self._lose()
            return
        self._backlog = None

    def _on_stopped(self, code: int | None) -> None:
        if self._sending > FINISHING:
            return
        self._sending = STOPPED
        self._stop_code = code
        self._tell_cut(EventType.STOP_SENDING_RECEIVED, code)
        self._drop_backlog()
        self._close_if_done()


def _as_buffer(data: Data | Buffer) -> Buffer:
    """What the engine takes: flat bytes, not copied where that can be avoided."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray):
        return data
    if isinstance(data, memoryview):
        if data.c_contiguous:
            return data.cast("B") if data.format != "B" or data.ndim != 1 else data
        return data.tobytes()
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise TypeError(f"data must be bytes-like or str, not {type(data).__name__}") from None
