"""The receiving half of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import NoReturn, Self

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._keywords import first_by_position
from pywebtransport._link.link import Link
from pywebtransport.constants import DEFAULT_STREAM_LINE_LIMIT
from pywebtransport.exceptions import TimeoutError
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
        return self._receiving == FINISHED and self._sending in (OPEN, FINISHING)

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
        if self._pending:
            return self._take(size)
        while True:
            if self._receiving != OPEN:
                return self._ended()
            if self._readable:
                try:
                    data = link.engine.stream_read(self._stream_id, size)
                except (EngineClosed, SessionRefused):
                    self._lose()
                    continue
                if data:
                    length = len(data)
                    self._reads += 1
                    self._bytes_received += length
                    link.budget -= length >> 14
                    return data
                if data is not None:
                    self._end()
                    continue
                self._readable = False
            await self._wait_readable(link)

    @first_by_position
    async def read_all(self, max_size: int | None = None) -> bytes:
        """Return everything up to the end of the data.

        Args:
            max_size: Bytes after which to give up; ``None`` for no limit.

        Raises:
            StreamError: There is more than ``max_size``, or as :meth:`read`; also when the session
                was closed with code 0 before the stream ended. :meth:`read` gives what came.
            TimeoutError: Nothing came within ``config.read_timeout``.
        """
        link = self._link or self._linked()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        parts: list[bytes] = []
        total = 0
        try:
            while True:
                if self._pending:
                    parts.append(self._take(-1))
                    total += len(parts[-1])
                if max_size is not None and total > max_size:
                    raise self._error(
                        f"stream {self._stream_id} carries more than max_size={max_size} bytes"
                    )
                if self._receiving != OPEN:
                    if self._receiving != FINISHED:
                        self._fail()
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                if self._readable:
                    room = -1 if max_size is None else max_size - total + 1
                    data = link.engine.stream_read(self._stream_id, room)
                    if data:
                        self._reads += 1
                        self._bytes_received += len(data)
                        total += len(data)
                        parts.append(data)
                        link.budget -= 1 + (total >> 14)
                        if link.budget < 0:
                            await link.breathe()
                        continue
                    if data is not None:
                        self._end()
                        continue
                    self._readable = False
                await self._wait_readable(link)
        except (EngineClosed, SessionRefused):
            self._lose()
            self._give_back(parts)
            self._fail()
        except BaseException:
            self._give_back(parts)
            raise

    async def read_iter(self, *, chunk_size: int = 8192) -> AsyncIterator[bytes]:
        """Yield chunks of up to ``chunk_size`` bytes until the end of the data.

        Raises what :meth:`read` raises but TimeoutError: silence ends no iteration.
        """
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
            asyncio.IncompleteReadError: The data ended before; ``partial`` is what there was.
            StreamError, TimeoutError: As :meth:`read`.
        """
        if n < 0:
            raise ValueError(f"n must not be negative, it is {n}")
        if n == 0:
            return b""
        link = self._link or self._linked()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        if len(self._pending) - self._offset >= n:
            return self._take(n)
        parts: list[bytes] = []
        missing = n
        try:
            while missing:
                if self._pending:
                    part = self._take(missing)
                elif missing > READ_AHEAD:
                    part = await self._read_some(link, missing)
                elif await self._fill(link):
                    part = self._take(missing)
                else:
                    part = b""
                if not part:
                    partial = b"".join(parts)
                    parts.clear()
                    raise asyncio.IncompleteReadError(partial, n)
                parts.append(part)
                missing -= len(part)
        except BaseException:
            self._give_back(parts)
            raise
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
                self._probe()
                return line
        found = bytearray()
        searched = 0
        try:
            while True:
                if self._pending or await self._fill(link):
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
        link = self._linked()
        if self._receiving != OPEN:
            return
        self._receiving = STOPPED
        self._pending = b""
        self._offset = 0
        try:
            link.engine.stream_stop(self._stream_id, error_code)
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
        self._offset = end
        return pending[offset:end]

    def _give_back(self, parts: list[bytes]) -> None:
        """An operation that cannot complete leaves the data to the next one."""
        if self._receiving == STOPPED or not parts:
            return
        self._pending = b"".join((*parts, self._pending[self._offset :]))
        self._offset = 0

    async def _fill(self, link: Link) -> bool:
        """Wait until something is pending; False at the end of the data."""
        while not self._pending:
            data = await self._read_some(link, READ_AHEAD)
            if not data:
                return False
            self._pending = data
        return True

    async def _read_some(self, link: Link, size: int) -> bytes:
        """Up to ``size`` bytes as soon as there are any; ``b""`` at the end of the data."""
        while (data := self._read_now(size)) is None:
            await self._wait_readable(link)
        return data

    def _read_now(self, size: int) -> bytes | None:
        """As :meth:`read`, without waiting: None when nothing has arrived."""
        if self._pending:
            return self._take(size)
        if self._receiving == OPEN:
            if not self._readable:
                return None
            link = self._linked()
            try:
                data = link.engine.stream_read(self._stream_id, size)
            except (EngineClosed, SessionRefused):
                self._lose()
                return self._ended()
            if data:
                self._bytes_received += len(data)
                link.budget -= len(data) >> 14
                return data
            if data is None:
                self._readable = False
                return None
            self._end()
        return self._ended()

    def _when_readable(self, tell: Callable[[asyncio.Future[bool]], object]) -> None:
        """After :meth:`_read_now` gave None: call ``tell`` once, when it would not."""
        self._reader = self._linked().create_future()
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
        if self._receiving != OPEN or self._sending in (OPEN, FINISHING) or self._pending:
            return
        if self._arrival >= 0:
            return  # It counts against the peer's limit until it is accepted.
        if self._link is not None and self._readable and self._reader is None:
            self._look()

    def _look(self) -> None:
        """Take what the engine has, if there is anything, to be read later."""
        try:
            data = self._linked().engine.stream_read(self._stream_id, READ_AHEAD)
        except (EngineClosed, SessionRefused):
            self._lose()
            return
        if data:
            self._bytes_received += len(data)
            self._pending = data
        elif data is None:
            self._readable = False
        else:
            self._end()

    def _end(self) -> None:
        """The engine has said that there is no more."""
        if self._receiving == OPEN:
            self._receiving = FINISHED
            self._close_if_done()

    def _ended(self) -> bytes:
        """What a read returns, or raises, when the engine has no more."""
        if self._pending:
            return self._take(-1)
        if self._receiving != FINISHED and not self._ended_well():
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
        parts = [self._pending[self._offset :]]
        data: bytes | None = b""
        try:
            while data := link.engine.stream_read(self._stream_id, -1):
                self._bytes_received += len(data)
                parts.append(data)
        except (EngineClosed, SessionRefused):
            data = None
        self._pending, self._offset = b"".join(parts), 0
        if data is not None:
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

    async def _wait_readable(self, link: Link) -> None:
        """Until the engine notifies; the caller looks again at what there is."""
        reader = self._reader
        if reader is not None and not reader.done():
            raise self._error(f"stream {self._stream_id} is being read by another task")
        waits = link.reads
        started = link.time()
        self._reader = future = link.create_future()
        try:
            waits.add(future, started)
            expired = await future
        finally:
            waits.discard(future)
            if self._reader is future:
                self._reader = None
        elapsed = link.time() - started
        costs = self._costs or self._count()
        costs.total_read_time += elapsed
        if elapsed > costs.max_read_time:
            costs.max_read_time = elapsed
        if expired:
            costs.read_errors += 1
            raise TimeoutError(
                f"nothing to read on stream {self._stream_id} within"
                f" read_timeout={waits.timeout:g} s; with read_timeout=None in the configuration a"
                " read waits for as long as the session lives",
                timeout_duration=waits.timeout,
                operation="read",
            )

    def _on_readable(self) -> None:
        self._readable = True
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(False)
        else:
            self._probe()

    def _on_reset(self, code: int) -> None:
        if self._receiving != OPEN:
            return
        self._receiving = RESET
        self._code = code
        self._tell_cut(EventType.STREAM_RESET_RECEIVED, code)
        self._wake_reader()
        self._close_if_done()
