"""What the three monitors share: one task that samples, bounded histories, alerts."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, Self

from pywebtransport.utils import get_logger, get_timestamp

logger = get_logger(name="pywebtransport.monitor")

METRICS_HISTORY = 120
"""Samples kept."""
ALERTS_HISTORY = 100
"""Alerts kept."""


class BaseMonitor(ABC):
    """Samples every ``monitoring_interval`` seconds while entered; the first sample at once.

    A sample that fails is logged and the next one is taken in time.
    """

    def __init__(
        self,
        *,
        monitoring_interval: float,
        metrics_maxlen: int = METRICS_HISTORY,
        alerts_maxlen: int = ALERTS_HISTORY,
    ) -> None:
        if monitoring_interval <= 0:
            raise ValueError(f"monitoring_interval must be positive, got {monitoring_interval}")
        self._interval = monitoring_interval
        self._metrics: deque[dict[str, Any]] = deque(maxlen=metrics_maxlen)
        self._alerts: deque[dict[str, Any]] = deque(maxlen=alerts_maxlen)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start sampling."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Stop sampling; the histories stay."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def is_monitoring(self) -> bool:
        """Whether samples are being taken."""
        return self._task is not None and not self._task.done()

    def clear_history(self) -> None:
        """Forget samples and alerts."""
        self._metrics.clear()
        self._alerts.clear()

    def get_alerts(self, *, limit: int = 25) -> list[dict[str, Any]]:
        """The last ``limit`` alerts, newest last."""
        return newest(self._alerts, limit)

    def get_metrics_history(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """The last ``limit`` samples, newest last."""
        return newest(self._metrics, limit)

    @abstractmethod
    async def _sample(self) -> dict[str, Any]:
        """Take one sample."""

    @abstractmethod
    def _check(self) -> None:
        """Look at the samples and raise alerts."""

    def _alert(self, alert: dict[str, Any]) -> None:
        self._alerts.append({**alert, "timestamp": get_timestamp()})

    async def _run(self) -> None:
        while True:
            try:
                self._metrics.append(await self._sample())
                self._check()
            except Exception:
                logger.exception("%s could not take a sample", type(self).__name__)
            await asyncio.sleep(self._interval)


def newest(history: deque[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The last ``limit`` entries in order; none for a limit below one."""
    return list(islice(history, max(0, len(history) - max(0, limit)), None))
