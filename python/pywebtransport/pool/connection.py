"""A pool of connections to one server."""

from __future__ import annotations

from pywebtransport.config import ClientConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.pool._base import AsyncObjectPool

__all__ = ["ConnectionPool"]


class ConnectionPool(AsyncObjectPool[WebTransportConnection]):
    """Connections to ``host:port``, each made by ``WebTransportConnection.create_client``."""

    def __init__(
        self, *, config: ClientConfig, host: str, port: int, path: str = "/", max_size: int
    ) -> None:
        super().__init__(max_size=max_size)
        self._config = config
        self._host = host
        self._port = port
        self._path = path

    async def release(self, conn: WebTransportConnection) -> None:
        """Return a connection; after ``close()`` it is closed instead.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(conn)

    async def _create(self) -> WebTransportConnection:
        return await WebTransportConnection.create_client(
            config=self._config, host=self._host, port=self._port, path=self._path
        )

    async def _dispose(self, obj: WebTransportConnection) -> None:
        await obj.close()

    def _is_closed(self, obj: WebTransportConnection) -> bool:
        return obj.is_closed
