"""A pool of connections to one server."""

from __future__ import annotations

from functools import partial

from pywebtransport.config import ClientConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.pool._base import ObjectPool

__all__ = ["ConnectionPool"]


class ConnectionPool(ObjectPool[WebTransportConnection]):
    """Connections to ``host:port``, each made by ``WebTransportConnection.create_client``."""

    def __init__(
        self, *, config: ClientConfig, host: str, port: int, path: str = "/", max_size: int
    ) -> None:
        super().__init__(
            max_size=max_size,
            create=partial(
                WebTransportConnection.create_client, config=config, host=host, port=port, path=path
            ),
            close=lambda connection, _: connection.close(),
            is_whole=lambda connection: connection.is_connected,
        )

    async def release(self, conn: WebTransportConnection) -> None:
        """Return a connection; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(conn)
