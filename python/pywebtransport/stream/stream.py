"""A stream that both sides read and write, and the documented home of the stream classes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from pywebtransport._keywords import first_by_position
from pywebtransport.stream.base import OPEN
from pywebtransport.stream.receive import WebTransportReceiveStream
from pywebtransport.stream.send import WebTransportSendStream
from pywebtransport.stream.statistics import (
    StreamDiagnostics,
    StreamStats,
    WebTransportStreamStats,
)
from pywebtransport.types import StreamDirection, StreamState
from pywebtransport.utils import get_logger

__all__ = [
    "StreamDiagnostics",
    "StreamStats",
    "StreamType",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]

logger = get_logger(name=__name__)

MINIMUM_SAMPLE = 10
"""Operations before an error rate or an average says something."""


class WebTransportStream(WebTransportReceiveStream, WebTransportSendStream):
    """A bidirectional stream.

    ``async with`` sends the end of the stream on a clean exit, and aborts both directions with an
    exception.
    """

    __slots__ = ()

    _direction = StreamDirection.BIDIRECTIONAL
    _halves = (OPEN, OPEN)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await WebTransportSendStream.__aexit__(self, exc_type, exc_val, exc_tb)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def close(self) -> None:
        """Send the end of the stream; reading goes on. Does nothing when it is not writable."""
        await WebTransportSendStream.close(self)

    @first_by_position
    async def abort(self, code: int = 0) -> None:
        """End both directions at once, with a 32-bit application code for the peer.

        Raises:
            ValueError: ``code`` does not fit into 32 bits.
        """
        await self.reset(error_code=code)
        await self.stop_receiving(error_code=code)

    def stats(self) -> WebTransportStreamStats:
        """How far the data of both halves has come; also after the end."""
        return WebTransportStreamStats(
            bytes_written=self._bytes_written(),
            bytes_received=self._bytes_received,
            bytes_read=self._bytes_read(),
        )

    def _is_whole(self) -> bool:
        """Whether it is as good as new: both halves open, nothing to read, nothing to send."""
        if self._receiving != OPEN or self._sending != OPEN or self._backlog is not None:
            return False
        if self._pending or (self._reader is not None and not self._reader.done()):
            return False
        if self._link is not None and self._readable:
            self._look(self._link)
        return self._receiving == OPEN and not self._pending

    def _forget_user(self) -> None:
        """Whoever has it next finds no order and no listeners of who had it before."""
        self.remove_all_listeners()
        if self.send_order:
            self.send_order = 0

    def diagnose_issues(
        self,
        *,
        error_rate_threshold: float = 0.1,
        latency_threshold: float = 1.0,
        stale_threshold: float = 3600.0,
    ) -> list[str]:
        """Describe what looks wrong.

        Args:
            error_rate_threshold: Share of failed operations, after ten.
            latency_threshold: Average seconds per read or write.
            stale_threshold: Seconds without any byte since the stream was opened.
        """
        stats = self.diagnostics.stats
        issues: list[str] = []
        if (state := self.state) in (StreamState.RESET_SENT, StreamState.RESET_RECEIVED):
            issues.append(f"Stream was reset (state: {state.value})")
        for what, done, failed, average in (
            ("read", stats.reads_count, stats.read_errors, stats.avg_read_time),
            ("write", stats.writes_count, stats.write_errors, stats.avg_write_time),
        ):
            total = done + failed
            if total > MINIMUM_SAMPLE and failed / total > error_rate_threshold:
                issues.append(f"High {what} error rate: {failed}/{total}")
            if average > latency_threshold:
                issues.append(f"Slow {what} operations: {average:.2f}s average")
        if stats.uptime > stale_threshold and not stats.bytes_sent + stats.bytes_received:
            issues.append(f"Stream appears stale: no data in {stats.uptime:.0f}s")
        return issues

    async def monitor_health(
        self, *, check_interval: float = 30.0, error_rate_threshold: float = 0.1
    ) -> None:
        """Warn in the log about a high error rate, until the stream is closed.

        Args:
            check_interval: Seconds between two looks.
            error_rate_threshold: Share of failed operations, after ten.
        """
        while not self.is_closed:
            stats = self.diagnostics.stats
            failed = stats.read_errors + stats.write_errors
            total = stats.reads_count + stats.writes_count + failed
            if total > MINIMUM_SAMPLE and failed / total > error_rate_threshold:
                logger.warning(
                    "stream %d: %d of %d operations failed", self.stream_id, failed, total
                )
            try:
                async with asyncio.timeout(check_interval):
                    await self.wait_closed()
            except TimeoutError:
                continue


StreamType = WebTransportStream | WebTransportReceiveStream | WebTransportSendStream
"""Any kind of stream."""
