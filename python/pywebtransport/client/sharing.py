"""Connections that sessions of one client share (``allow_pooling`` of W3C's WebTransport)."""

from __future__ import annotations

import asyncio
from typing import TypeAlias
from weakref import WeakValueDictionary

from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.session.base import SessionBase
from pywebtransport.types import ConnectionState

__all__ = ["Origin", "SharedConnections"]

Origin: TypeAlias = tuple[str, int, str | None]
"""Host, port, and the URL of the proxy in between."""


class SharedConnections:
    """One connection for each origin that takes a further session."""

    def __init__(self) -> None:
        self._by_origin: dict[Origin, WebTransportConnection] = {}
        self._turns: WeakValueDictionary[Origin, asyncio.Lock] = WeakValueDictionary()

    def turn(self, origin: Origin) -> asyncio.Lock:
        """To be held while a connection is looked for and made: the others share that one."""
        return self._turns.setdefault(origin, asyncio.Lock())

    def find(self, origin: Origin) -> WebTransportConnection | None:
        """A connection that neither drains nor closes."""
        connection = self._by_origin.get(origin)
        if connection is None:
            return None
        is_open = connection.state == ConnectionState.CONNECTED and connection._sessions
        if is_open and not connection._is_drained:
            return connection
        self.retire(origin, connection)
        return None

    def add(self, origin: Origin, connection: WebTransportConnection) -> None:
        """Offer it to those that come; it ends with its last session."""
        self._by_origin[origin] = connection
        connection._on_session_end = self._session_ended
        if not connection._sessions:
            connection._begin_close()

    def retire(self, origin: Origin, connection: WebTransportConnection) -> None:
        """It drains, is full or closes: nobody else is to come."""
        if self._by_origin.get(origin) is connection:
            del self._by_origin[origin]

    def _session_ended(self, session: SessionBase) -> None:
        connection = session._connection
        assert isinstance(connection, WebTransportConnection)
        if connection._sessions:
            return
        for origin, shared in list(self._by_origin.items()):
            if shared is connection:
                self.retire(origin, connection)
        connection._begin_close()
