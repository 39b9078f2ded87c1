"""A pool of sessions at one URL."""

from __future__ import annotations

from pywebtransport.client import WebTransportClient
from pywebtransport.pool._base import AsyncObjectPool
from pywebtransport.session import WebTransportSession
from pywebtransport.types import URL

__all__ = ["SessionPool"]


class SessionPool(AsyncObjectPool[WebTransportSession]):
    """Sessions at ``url``, each made by ``client.connect``."""

    def __init__(self, *, client: WebTransportClient, url: URL, max_size: int) -> None:
        super().__init__(max_size=max_size)
        self._client = client
        self._url = url

    async def release(self, session: WebTransportSession) -> None:
        """Return a session; after ``close()`` it is closed instead.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(session)

    async def _create(self) -> WebTransportSession:
        return await self._client.connect(url=self._url)

    async def _dispose(self, obj: WebTransportSession) -> None:
        await obj.close()

    def _is_closed(self, obj: WebTransportSession) -> bool:
        return obj.is_closed
