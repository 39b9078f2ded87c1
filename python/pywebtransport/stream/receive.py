"""The receiving half of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from operator import index
from types import TracebackType
from typing import NoReturn, Self

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._keywords import first_by_position
from pywebtransport._link.link import OPERATION, Link
from pywebtransport._loop import check_loop
from pywebtransport.constants import DEFAULT_STREAM_LINE_LIMIT, ErrorCodes
from pywebtransport.exceptions import TimeoutError, wrong_loop
from pywebtransport.stream.base import (
    ABSENT,
    FINISHED,
    FINISHING,
    LOST,
    OPEN,
    RESET,
    STOPPED,
    StreamBase,
    application_code,
    check_code,
)
from pywebtransport.stream.statistics import WebTransportReceiveStreamStats
from pywebtransport.types import EventType, StreamDirection

__all__ = ["WebTransportReceiveStream"]

READ_AHEAD = 16384
"""Bytes that a read of a few bytes or of a line asks the engine for."""


class WebTransportReceiveStream(StreamBase):
    """A stream that the peer writes and this side reads.

    One task reads at a time. Credit goes back to the peer as the application reads, so a reader
    that stops, stops the sender. Every method can be cancelled and called again; nothing is lost.

    ``async with`` aborts the stream on leaving, unless it has ended. ``async for`` gives chunks,
    and does not mind silence: no ``read_timeout`` applies to it.
    """

    __slots__ = ()

    _direction = StreamDirection.RECEIVE_ONLY
    _halves = (OPEN, ABSENT)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if not self.is_closed:
            await self.abort()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                data = await self.read()
            except TimeoutError:
                continue  # Keep-alive tells when the peer is gone; silence ends no iteration.
            if not data:
                raise StopAsyncIteration
            return data

    @property
    def is_readable(self) -> bool:
        """Whether :meth:`read` returns rather than raises, unless the stream is closed."""
        if self._receiving == OPEN or self._pending:
            return True
        return self._receiving == FINISHED and self._sending <= FINISHING

    @property
    def can_read(self) -> bool:
        """The same as ``is_readable``."""
        return self.is_readable

    @first_by_position
    async def read(self, size: int = 8192, *, max_bytes: int | None = None) -> bytes:
        """Return up to ``size`` bytes as soon as there are any; ``b""`` at the end of the data.

        Args:
            size: The most to return. -1: everything that has arrived. 0: wait for data, return
                ``b""``.
            max_bytes: ``size`` by its name of 0.20.

        Raises:
            StreamError: The peer reset the stream (``error_code`` is its code), this side has
                stopped reading, or the session has ended.
            TimeoutError: Nothing came within ``config.read_timeout`` (60 s).
            ValueError: ``size`` is below -1.
        """
        if max_bytes is not None:
            size = max_bytes
        link = self._link or self._linked()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        if size <= 0:
            if size == 0:
                await self._fill(link)
                return b""
            if size < -1:
                raise ValueError(f"size must be -1 for everything, or not negative, it is {size}")
        while (data := self._read_now(size)) is None:
            if await self._notice(link):
                raise self._silence(link)
        return data

    @first_by_position
    async def read_all(self, max_size: int | None = None) -> bytes:
        """Return everything up to the end of the data.

        Args:
            max_size: Bytes after which to give up; ``None`` for no limit.

        Raises:
            StreamError: There is more than ``max_size``, or as :meth:`read`; also when the session
                was closed with code 0 before the stream ended. :meth:`read` gives what came.
            TimeoutError: Nothing came within ``config.read_timeout``.
            ValueError: ``max_size`` is negative.
        """
        if max_size is not None and index(max_size) < 0:
            raise ValueError(f"max_size must be None or not negative, it is {max_size}")
        link = self._link or self._linked()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        parts: list[bytes] = []
        total = 0
        try:
            while True:
                if self._pending or (self._readable and self._receiving == OPEN):
                    room = -1 if max_size is None else max_size - total + 1
                    data = self._take(room) if self._pending else self._pull(link, room)
                    if not data:
                        continue
                    parts.append(data)
                    total += len(data)
                    if max_size is not None and total > max_size:
                        raise self._error(
                            f"stream {self._stream_id} carries more than max_size={max_size} bytes"
                        )
                    if link.budget < 0:
                        await link.breathe()
                elif self._receiving != OPEN:
                    if self._receiving == FINISHING:
                        self._end()
                    elif self._receiving != FINISHED:
                        self._fail()
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                elif await self._notice(link):
                    raise self._silence(link)
        except BaseException:
            self._give_back(parts)
            raise

    async def read_iter(self, *, chunk_size: int = 8192) -> AsyncIterator[bytes]:
        """Yield chunks of up to ``chunk_size`` bytes until the end of the data.

        Raises what :meth:`read` raises but TimeoutError: silence ends no iteration. ValueError:
        ``chunk_size`` is 0.
        """
        if not chunk_size:
            raise ValueError("chunk_size must be -1 for everything, or positive, it is 0")
        while True:
            try:
                data = await self.read(size=chunk_size)
            except TimeoutError:
                continue
            if not data:
                return
            yield data

    @first_by_position
    async def readexactly(self, n: int) -> bytes:
        """Return exactly ``n`` bytes.

        Raises:
            ValueError: ``n`` is negative.
            TypeError: ``n`` is no integer.
            asyncio.IncompleteReadError: The data ended before; ``partial`` is what there was.
            StreamError, TimeoutError: As :meth:`read`.
        """
        if index(n) < 0:
            raise ValueError(f"n must not be negative, it is {n}")
        if n == 0:
            return b""
        link = self._link or self._linked()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        data = self._exactly_now(link, n)
        return await self._gather(link, n) if data is None else data

    async def _read_message(self, n: int) -> bytes:
        """As :meth:`readexactly`, for a message whose size the peer has named."""
        link = self._linked()
        data = self._exactly_now(link, n) if n else b""
        return await self._gather(link, n, is_message=True) if data is None else data

    def _exactly_now(self, link: Link, n: int) -> bytes | None:
        """As :meth:`readexactly`, without waiting: None when not all of it has arrived."""
        if not self._pending and self._readable and self._receiving == OPEN:
            self._pending = self._pull(link, max(n, READ_AHEAD))
        if len(self._pending) - self._offset < n:
            return None
        data = self._take(n)
        if not self._pending:
            self._probe()
        return data

    async def _gather(self, link: Link, n: int, *, is_message: bool = False) -> bytes:
        """As :meth:`readexactly`; what has come of a message is counted."""
        parts: list[bytes] = []
        missing = n
        counted = 0
        try:
            while missing:
                part = self._take(missing) if await self._fill(link, missing) else b""
                if not part:
                    partial = b"".join(parts)
                    parts.clear()
                    raise asyncio.IncompleteReadError(partial, n)
                parts.append(part)
                missing -= len(part)
                if is_message and missing:
                    self._count_unfinished(counted, n - missing)
                    counted = n - missing
        except BaseException:
            self._give_back(parts)
            raise
        finally:
            if counted:
                link.unfinished.change(counted, 0)
        self._probe()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @first_by_position
    async def readline(self, limit: int = DEFAULT_STREAM_LINE_LIMIT) -> bytes:
        """Return one line with its ``\\n``, or what is left at the end of the data.

        Args:
            limit: The longest line, in bytes.

        Raises:
            StreamError: The line is longer, or as :meth:`read`.
            TimeoutError: As :meth:`read`.
        """
        return await self.readuntil(separator=b"\n", limit=limit)

    @first_by_position
    async def readuntil(self, separator: bytes = b"\n", *, limit: int | None = None) -> bytes:
        """Return the data up to and with ``separator``, or what is left at the end of the data.

        Args:
            separator: What ends a message; kept in the result.
            limit: The longest message with its separator, in bytes; ``None`` for no limit.

        Raises:
            ValueError: ``separator`` is empty.
            StreamError: The separator is not within ``limit``, or as :meth:`read`.
            TimeoutError: As :meth:`read`.
        """
        if not separator:
            raise ValueError("separator must not be empty")
        link = self._link or self._linked()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        if self._pending:
            at = self._pending.find(separator, self._offset)
            size = at + len(separator) - self._offset
            if at >= 0 and (limit is None or size <= limit):
                line = self._take(size)
                if not self._pending:
                    self._probe()
                return line
        found = bytearray()
        searched = 0
        try:
            while True:
                if await self._fill(link):
                    # Never more than one read-ahead past the separator is put back.
                    found += self._take(READ_AHEAD)
                else:
                    line = bytes(found)
                    found.clear()
                    return line
                at = found.find(separator, searched)
                end = at + len(separator)
                if limit is not None and (end > limit if at >= 0 else len(found) >= limit):
                    raise self._error(
                        f"no separator {separator!r} within limit={limit} bytes"
                        f" on stream {self._stream_id}"
                    )
                if at >= 0:
                    line = bytes(found[:end])
                    del found[:end]
                    return line
                searched = max(0, len(found) - len(separator) + 1)
        finally:
            if found:
                self._give_back([bytes(found)])
            else:
                self._probe()

    @first_by_position
    async def stop_receiving(self, error_code: int = 0) -> None:
        """Ask the peer to stop sending, with a 32-bit application code, and drop what is unread.

        Nothing happens when the data has ended already.

        Raises:
            ValueError: ``error_code`` does not fit into 32 bits.
        """
        check_code("error_code", error_code)
        self._stop_now(error_code)

    def _stop_now(self, code: int) -> None:
        link = self._linked()
        if self._receiving > FINISHING:
            return
        check_loop(link.loop)
        self._receiving = STOPPED
        self._pending = b""
        self._offset = 0
        try:
            link.engine.stream_stop(self._stream_id, code)
        except (EngineClosed, SessionRefused):
            self._receiving = LOST
        self._wake_reader()
        self._close_if_done()

    @first_by_position
    async def abort(self, code: int = 0) -> None:
        """End the stream at once, with a 32-bit application code for the peer (STOP_SENDING)."""
        await self.stop_receiving(error_code=code)

    async def close(self) -> None:
        """Stop receiving, with code 0."""
        await self.stop_receiving()

    def _take(self, size: int) -> bytes:
        """Up to ``size`` bytes (-1: all) of what was read ahead."""
        pending, offset = self._pending, self._offset
        end = offset + size
        self._reads += 1
        if size < 0 or end >= len(pending):
            self._pending = b""
            self._offset = 0
            return pending[offset:] if offset else pending
        part = pending[offset:end]
        self._offset = end
        return part

    def _count_unfinished(self, before: int, after: int) -> None:
        """Count ``after`` bytes of a message that is not whole, instead of ``before``.

        Raises:
            StreamError: The connection has too many; the peer is asked to stop.
        """
        unfinished = self._linked().unfinished
        if not unfinished.change(before, after):
            self._stop_now(ErrorCodes.INTERNAL_ERROR)
            raise self._error(
                f"with {after} bytes of a message on stream {self._stream_id} there would be more"
                f" than max_unfinished_message_bytes={unfinished.limit} of all messages of the"
                " connection that have come in part"
            )

    def _give_back(self, parts: list[bytes]) -> None:
        """An operation that cannot complete leaves the data to the next one."""
        if self._receiving == STOPPED or not parts:
            return
        self._pending = b"".join((*parts, self._pending[self._offset :]))
        self._offset = 0

    async def _fill(self, link: Link, size: int = READ_AHEAD) -> bool:
        """Wait until something is pending, about ``size`` bytes; False at the end of the data."""
        while not self._pending:
            if self._receiving != OPEN:
                self._ended()
                return False
            if self._readable:
                self._pending = self._pull(link, max(size, READ_AHEAD))
            elif await self._notice(link):
                raise self._silence(link)
        return True

    def _read_now(self, size: int) -> bytes | None:
        """As :meth:`read`, without waiting: None when nothing has arrived."""
        if self._pending:
            data = self._take(size)
        elif self._receiving != OPEN:
            return self._ended()
        elif not self._readable:
            return None
        else:
            data = self._pull(self._link or self._linked(), size)
            if not data:
                return None if self._receiving == OPEN else self._ended()
            self._reads += 1
        if self._receiving == FINISHING and not self._pending:
            self._end()
        return data

    def _pull(self, link: Link, size: int) -> bytes:
        """Up to ``size`` bytes (-1: all) from the engine; ``b""``: it has none now, or at all."""
        try:
            data, is_end = link.engine.stream_read(self._stream_id, size)
        except (EngineClosed, SessionRefused):
            self._lose()
            return b""
        length = len(data)
        if is_end:
            self._receiving = FINISHING
        elif length < size or size < 0:
            self._readable = False
        self._bytes_received += length
        if length >= OPERATION:
            link.budget -= length // OPERATION
        return data

    def _when_readable(self, tell: Callable[[asyncio.Future[bool]], object]) -> None:
        """After :meth:`_read_now` gave None: call ``tell`` once, when it would not."""
        self._reader = self._linked().loop.create_future()
        self._reader.add_done_callback(tell)

    def stats(self) -> WebTransportReceiveStreamStats:
        """How far the data has come; also after the end."""
        return WebTransportReceiveStreamStats(
            bytes_received=self._bytes_received, bytes_read=self._bytes_read()
        )

    def _bytes_read(self) -> int:
        return self._bytes_received - (len(self._pending) - self._offset)

    def _probe(self) -> None:
        """See whether the data has ended, where that would end the stream.

        An application that knows how much to expect does not read on to the end. Without this
        its streams would stay open, and count, until the session ends.
        """
        if self._receiving > FINISHING or self._pending:
            return
        if self._receiving == FINISHING:
            self._end()
        elif (
            self._readable
            and self._sending > FINISHING
            and self._arrival < 0  # Else it counts against the peer's limit until it is accepted.
            and self._link is not None
            and (self._reader is None or self._reader.done())
        ):
            self._look(self._link)

    def _look(self, link: Link) -> None:
        """Take what the engine has, if there is anything, to be read later."""
        self._pending = self._pull(link, READ_AHEAD)
        if self._receiving == FINISHING and not self._pending:
            self._end()

    def _end(self) -> None:
        """There is no more, and everything has been read."""
        self._receiving = FINISHED
        if self._sending > FINISHING:
            self._close_if_done()

    def _ended(self) -> bytes:
        """What a read returns, or raises, when the engine has no more."""
        if self._receiving == FINISHING:
            self._end()
        elif self._receiving != FINISHED and not self._ended_well():
            self._fail()
        return b""

    def _ended_well(self) -> bool:
        """Whether it ended by a close of the session that says that all is well."""
        is_cut = self._receiving in (LOST, RESET) and application_code(self._code) is None
        return is_cut and self._session._ended_well()

    def _take_rest(self) -> None:
        link = self._link
        if link is None or self._receiving != OPEN:
            return
        try:
            data, is_end = link.engine.stream_read(self._stream_id, -1)
        except (EngineClosed, SessionRefused):
            return
        self._bytes_received += len(data)
        self._pending, self._offset = self._pending[self._offset :] + data, 0
        if is_end:
            self._receiving = FINISHED

    def _fail(self) -> NoReturn:
        self._count().read_errors += 1
        stream_id = self._stream_id
        if self._receiving == RESET and not self._ended_with_session(self._code):
            raise self._reset_error(f"the peer reset stream {stream_id}", self._code)
        if self._receiving == STOPPED:
            raise self._error(f"stream {stream_id} is not readable: this side stopped receiving")
        if self._receiving == ABSENT:
            raise self._error(f"stream {stream_id} is send only")
        raise self._ended_error()

    def _notice(self, link: Link) -> asyncio.Future[bool]:
        """Done when there may be something to read; True: nothing came in time."""
        reader = self._reader
        if reader is not None:
            if not reader.done():
                if link.loop is not asyncio.get_running_loop():
                    raise wrong_loop(link.loop.is_closed())
                raise self._error(f"stream {self._stream_id} is being read by another task")
            link.reads.discard(reader)
        reader = link.loop.create_future()
        link.reads.add(reader, link.loop.time())
        self._reader = reader
        return reader

    def _silence(self, link: Link) -> TimeoutError:
        """Nothing came in time."""
        timeout = link.reads.timeout
        costs = self._count()
        costs.read_errors += 1
        costs.total_read_time += timeout
        costs.max_read_time = max(costs.max_read_time, timeout)
        return TimeoutError(
            f"nothing to read on stream {self._stream_id} within read_timeout={timeout:g} s;"
            " with read_timeout=None in the configuration a read waits for as long as the session"
            " lives",
            timeout_duration=timeout,
            operation="read",
        )

    def _on_readable(self) -> None:
        self._readable = True
        reader = self._reader
        if reader is not None and not reader.done():
            self._wake_reader()
        else:
            self._probe()

    def _on_reset(self, code: int) -> None:
        if self._receiving != OPEN:
            return  # FINISHING as well: it had come whole.
        self._receiving = RESET
        self._code = code
        self._tell_cut(EventType.STREAM_RESET_RECEIVED, code)
        self._wake_reader()
        self._close_if_done()
