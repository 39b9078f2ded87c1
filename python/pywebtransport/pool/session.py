"""A pool of sessions at one URL."""

from __future__ import annotations

from functools import partial

from pywebtransport.client import WebTransportClient
from pywebtransport.pool._base import ObjectPool
from pywebtransport.session import WebTransportSession
from pywebtransport.types import URL

__all__ = ["SessionPool"]


class SessionPool(ObjectPool[WebTransportSession]):
    """Sessions at ``url``, each made by ``client.connect``.

    A session is reused only if it does not drain, no stream is open on it, and no datagram waits
    in it; its ``data`` and its listeners are gone then. The pool cannot know of an answer that is
    still on its way: who gives up waiting for one leaves :meth:`get` by the exception, or closes
    the session before releasing it.
    """

    def __init__(self, *, client: WebTransportClient, url: URL, max_size: int) -> None:
        super().__init__(
            max_size=max_size,
            create=partial(client.connect, url=url),
            close=lambda session, _: session.close(),
            is_whole=lambda session: session._is_unused(),
            forget=lambda session: session._forget_user(),
        )

    async def release(self, session: WebTransportSession) -> None:
        """Return a session; after ``close()``, or when it is no longer whole, it is closed.

        One that is not out, because it was returned before, is left alone with a warning.
        """
        await self._give_back(session)
