"""Watching a client."""

from __future__ import annotations

from typing import Any

from pywebtransport.client import WebTransportClient
from pywebtransport.monitor._base import BaseMonitor
from pywebtransport.utils import get_timestamp

__all__ = ["ClientMonitor"]

MIN_ATTEMPTS = 10
MIN_SUCCESS_RATE = 0.9
MAX_CONNECT_TIME = 5.0


class ClientMonitor(BaseMonitor):
    """Samples ``client.diagnostics()``.

    Alerts: ``low_success_rate`` (below 90 % after more than 10 attempts) and
    ``slow_connections`` (5 s on average); not repeated while the last of its kind says the same.
    Raises TypeError when ``client`` is not a :class:`WebTransportClient`.
    """

    def __init__(self, client: WebTransportClient, *, monitoring_interval: float = 30.0) -> None:
        if not isinstance(client, WebTransportClient):
            raise TypeError(
                f"ClientMonitor watches a WebTransportClient, got {type(client).__name__}"
            )
        super().__init__(monitoring_interval=monitoring_interval)
        self._client = client

    def get_metrics_summary(self) -> dict[str, Any]:
        """``latest_metrics`` ({} before the first sample), ``recent_alerts``, ``is_monitoring``."""
        return {
            "latest_metrics": self._metrics[-1] if self._metrics else {},
            "recent_alerts": list(self._alerts),
            "is_monitoring": self.is_monitoring,
        }

    async def _sample(self) -> dict[str, Any]:
        diagnostics = await self._client.diagnostics()
        return {
            "timestamp": get_timestamp(),
            "stats": diagnostics.stats.to_dict(),
            "connection_states": {
                str(state): count for state, count in diagnostics.connection_states.items()
            },
        }

    def _check(self) -> None:
        stats = self._metrics[-1]["stats"]
        connections, performance = stats["connections"], stats["performance"]
        rate = connections["success_rate"]
        if connections["attempted"] > MIN_ATTEMPTS and rate < MIN_SUCCESS_RATE:
            self._alert_once("low_success_rate", f"Low connection success rate: {rate:.2%}")
        average = performance["avg_connect_time"]
        if average > MAX_CONNECT_TIME:
            self._alert_once("slow_connections", f"Slow average connect time: {average:.2f}s")

    def _alert_once(self, kind: str, message: str) -> None:
        alike = (alert["message"] for alert in reversed(self._alerts) if alert["type"] == kind)
        if next(alike, None) != message:
            self._alert({"type": kind, "message": message})
