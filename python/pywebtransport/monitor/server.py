"""Watching a server."""

from __future__ import annotations

from typing import Any

from pywebtransport.monitor._base import BaseMonitor
from pywebtransport.server import WebTransportServer
from pywebtransport.types import ConnectionState
from pywebtransport.utils import get_timestamp

__all__ = ["ServerMonitor"]

MIN_ATTEMPTS = 10
MIN_ACCEPTED_SHARE = 0.9


class ServerMonitor(BaseMonitor):
    """Samples ``server.diagnostics()`` and judges the server's health.

    An alert ``{timestamp, status, reason}`` is raised when the server is unhealthy or degraded
    for another reason than the last alert's. Raises TypeError when ``server`` is not a
    :class:`WebTransportServer`.
    """

    def __init__(self, server: WebTransportServer, *, monitoring_interval: float = 30.0) -> None:
        if not isinstance(server, WebTransportServer):
            raise TypeError(
                f"ServerMonitor watches a WebTransportServer, got {type(server).__name__}"
            )
        super().__init__(monitoring_interval=monitoring_interval)
        self._server = server

    def get_current_metrics(self) -> dict[str, Any] | None:
        """The last sample, or None before the first."""
        return self._metrics[-1] if self._metrics else None

    def get_health_status(self) -> dict[str, Any]:
        """``{status, reason}``.

        ``unknown`` (no sample), ``unhealthy`` (not serving), ``degraded`` (less than 90 % of more
        than 10 connections accepted), ``healthy`` (active connections) or ``idle``.
        """
        if not self._metrics:
            return {"status": "unknown", "reason": "No metrics collected yet."}
        if not self._server.is_serving:
            return {"status": "unhealthy", "reason": "Server is not serving."}
        stats = self._metrics[-1]["stats"]
        accepted, rejected = stats["connections_accepted"], stats["connections_rejected"]
        attempts = accepted + rejected
        if attempts > MIN_ATTEMPTS and accepted / attempts < MIN_ACCEPTED_SHARE:
            return {
                "status": "degraded",
                "reason": f"Low connection success rate: {accepted / attempts:.2%}",
            }
        active = stats["connections"]["active"]
        if active > 0:
            return {"status": "healthy", "reason": f"{active} active connections."}
        return {"status": "idle", "reason": "No active connections."}

    async def _sample(self) -> dict[str, Any]:
        diagnostics = await self._server.diagnostics()
        active = diagnostics.connection_states.get(ConnectionState.CONNECTED, 0)
        stats = {**diagnostics.stats.to_dict(), "connections": {"active": active}}
        return {"timestamp": get_timestamp(), "stats": stats}

    def _check(self) -> None:
        health = self.get_health_status()
        if health["status"] in ("unhealthy", "degraded") and (
            not self._alerts or self._alerts[-1]["reason"] != health["reason"]
        ):
            self._alert(health)
