"""A pool of sessions at one URL."""

from __future__ import annotations

from functools import partial

from pywebtransport.client import WebTransportClient
from pywebtransport.pool._base import ObjectPool
from pywebtransport.session import WebTransportSession
from pywebtransport.types import URL

__all__ = ["SessionPool"]


class SessionPool(ObjectPool[WebTransportSession]):
    """Sessions at ``url``, each made by ``client.connect``; one that drains is not reused."""

    def __init__(self, *, client: WebTransportClient, url: URL, max_size: int) -> None:
        super().__init__(
            max_size=max_size,
            create=partial(client.connect, url=url),
            close=lambda session, _: session.close(),
            is_whole=lambda session: session.is_ready,
        )

    async def release(self, session: WebTransportSession) -> None:
        """Return a session; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(session)
