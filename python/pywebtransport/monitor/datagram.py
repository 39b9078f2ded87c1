"""Watching a datagram transport."""

from __future__ import annotations

from itertools import islice
from statistics import fmean
from typing import Any

from pywebtransport.datagram import WebTransportDatagramTransport
from pywebtransport.monitor._base import BaseMonitor, newest
from pywebtransport.utils import get_timestamp

__all__ = ["DatagramMonitor"]

MIN_TREND_SAMPLES = 10
TREND_FACTOR = 1.25


class DatagramMonitor(BaseMonitor):
    """Samples a transport's counters and its outgoing queue.

    Alerts, repeated on every sample that shows them: ``high_queue_size`` (above
    ``queue_size_threshold`` of the high-water mark), ``low_success_rate`` (below
    ``success_rate_threshold``), ``increasing_send_time`` (over the last
    ``trend_analysis_window`` samples the second half took 1.25 times the first).
    Raises TypeError when ``datagram_transport`` is something else.
    """

    def __init__(
        self,
        datagram_transport: WebTransportDatagramTransport,
        *,
        monitoring_interval: float = 5.0,
        samples_maxlen: int = 100,
        alerts_maxlen: int = 50,
        queue_size_threshold: float = 0.9,
        success_rate_threshold: float = 0.8,
        trend_analysis_window: int = 10,
    ) -> None:
        if not isinstance(datagram_transport, WebTransportDatagramTransport):
            raise TypeError(
                "DatagramMonitor watches a WebTransportDatagramTransport, "
                f"got {type(datagram_transport).__name__}"
            )
        super().__init__(
            monitoring_interval=monitoring_interval,
            metrics_maxlen=samples_maxlen,
            alerts_maxlen=alerts_maxlen,
        )
        self._transport = datagram_transport
        self._queue_size_threshold = queue_size_threshold
        self._success_rate_threshold = success_rate_threshold
        self._window = max(2, trend_analysis_window)

    def get_samples(self, *, limit: int | None = None) -> list[dict[str, Any]]:
        """The last ``limit`` samples, newest last; None: all."""
        return newest(self._metrics, len(self._metrics) if limit is None else limit)

    async def _sample(self) -> dict[str, Any]:
        stats = self._transport.diagnostics.stats
        return {
            "timestamp": get_timestamp(),
            "datagrams_sent": stats.datagrams_sent,
            "datagrams_received": stats.datagrams_received,
            "send_success_rate": stats.send_success_rate,
            "avg_send_time": stats.avg_send_time,
            "outgoing_queue_size": self._transport.get_send_buffer_size(),
        }

    def _check(self) -> None:
        sample = self._metrics[-1]
        size, mark = sample["outgoing_queue_size"], self._transport.outgoing_high_water_mark
        if size > mark * self._queue_size_threshold:
            self._alert(
                {"type": "high_queue_size", "message": f"Outgoing queue holds {size} of {mark}"}
            )
        rate = sample["send_success_rate"]
        if rate < self._success_rate_threshold:
            self._alert(
                {"type": "low_success_rate", "message": f"Low send success rate: {rate:.2%}"}
            )
        if self._send_time_increases():
            self._alert(
                {"type": "increasing_send_time", "message": "Average send time is increasing"}
            )

    def _send_time_increases(self) -> bool:
        if len(self._metrics) < MIN_TREND_SAMPLES:
            return False
        recent = islice(self._metrics, max(0, len(self._metrics) - self._window), None)
        times = [sample["avg_send_time"] for sample in recent]
        half = len(times) // 2
        first, second = fmean(times[:half]), fmean(times[half:])
        return second > first * TREND_FACTOR if first > 0 else second > 0
