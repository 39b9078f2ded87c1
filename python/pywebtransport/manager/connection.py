"""A register of connections that closes idle ones."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pywebtransport.constants import (
    DEFAULT_CONNECTION_CLEANUP_INTERVAL,
    DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
    DEFAULT_CONNECTION_IDLE_TIMEOUT,
    DEFAULT_SERVER_MAX_CONNECTIONS,
)
from pywebtransport.exceptions import ConnectionError
from pywebtransport.manager.base import ResourceManager, logger
from pywebtransport.types import ConnectionId, ConnectionState

if TYPE_CHECKING:
    from pywebtransport.connection import WebTransportConnection

__all__ = ["NEVER", "ConnectionManager"]

NEVER = 0.0
"""No connection is closed for being idle: QUIC ends those of a server or client itself."""


class ConnectionManager(ResourceManager[ConnectionId, "WebTransportConnection"]):
    """Connections that are open, up to a limit.

    One that has ended is forgotten. One without activity for ``connection_idle_timeout`` seconds is
    closed; 0 or less turns that off.
    """

    _closed_states = frozenset({ConnectionState.CLOSED})
    _error = ConnectionError
    _plural = "connections"

    def __init__(
        self,
        *,
        max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS,
        connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL,
        connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
        connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT,
    ) -> None:
        super().__init__(limit=max_connections, cleanup_interval=connection_cleanup_interval)
        self._idle_check_interval = connection_idle_check_interval
        self._idle_timeout = connection_idle_timeout

    async def add_connection(self, *, connection: WebTransportConnection) -> ConnectionId:
        """Take a connection in; its id. One that is known stays as it is.

        Raises ConnectionError before entering and at the limit.
        """
        return self._add(connection)

    def _add(self, connection: WebTransportConnection) -> ConnectionId:
        connection_id = connection.connection_id
        self._take(connection_id, connection)
        return connection_id

    async def add_resource(self, *, resource: WebTransportConnection) -> None:
        """As :meth:`add_connection`."""
        await self.add_connection(connection=resource)

    async def remove_connection(
        self, *, connection_id: ConnectionId
    ) -> WebTransportConnection | None:
        """Forget a connection without closing it; None when it is unknown."""
        return self._remove(connection_id)

    def _start_timers(self) -> None:
        super()._start_timers()
        if self._idle_timeout > 0:
            self._every(self._idle_check_interval, self._close_idle)

    def _id_of(self, member: WebTransportConnection) -> ConnectionId:
        return member.connection_id

    async def _close(self, member: WebTransportConnection) -> None:
        await member.close()

    async def _close_idle(self) -> None:
        latest = time.time() - self._idle_timeout
        idle = [
            connection
            for connection in (self._members or {}).values()
            if 0 < connection.last_activity_time <= latest
            and not connection.is_closing
            and not connection.is_closed
        ]
        results = await asyncio.gather(
            *(connection.close(reason="Idle timeout") for connection in idle),
            return_exceptions=True,
        )
        for connection, result in zip(idle, results, strict=True):
            if isinstance(result, Exception):
                logger.error("closing idle %s failed: %r", connection.connection_id, result)
