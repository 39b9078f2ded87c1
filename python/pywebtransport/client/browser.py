"""A client with one session at a time and a history, as a browser's tab has."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from pywebtransport.client.client import WebTransportClient
from pywebtransport.exceptions import ClientError
from pywebtransport.session.session import WebTransportSession
from pywebtransport.utils import get_logger

__all__ = ["WebTransportBrowser"]

logger = get_logger(name=__name__)

MAX_HISTORY = 1000
"""URLs that are remembered; then the oldest is forgotten."""


class WebTransportBrowser:
    """Goes to URLs, back and forward; use it with ``async with``.

    Only one method runs at a time. The client is not closed here. Every method raises ClientError
    before entering.

    Args:
        client: An entered client.
    """

    def __init__(self, *, client: WebTransportClient) -> None:
        self._client = client
        self._session: WebTransportSession | None = None
        self._history: list[str] = []
        self._index = -1
        self._lock: asyncio.Lock | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def current_session(self) -> WebTransportSession | None:
        """None until :meth:`navigate`; the old one again when a navigation fails."""
        return self._session

    async def navigate(self, *, url: str) -> WebTransportSession:
        """Go to a URL: what is ahead in the history is cut, the old session is closed.

        The URL of the present entry, with a live session: that session, unchanged.

        Raises what ``client.connect`` raises.
        """
        async with self._active():
            is_here = 0 <= self._index < len(self._history) and self._history[self._index] == url
            if is_here and self._session is not None and self._session.is_ready:
                return self._session
            if not is_here:
                del self._history[self._index + 1 :]
                self._history.append(url)
                del self._history[:-MAX_HISTORY]
                self._index = len(self._history) - 1
            return await self._go(url)

    async def back(self) -> WebTransportSession | None:
        """Go to the entry before; None at the oldest. A failure leaves the position there."""
        async with self._active():
            if self._index <= 0:
                return None
            self._index -= 1
            return await self._go(self._history[self._index])

    async def forward(self) -> WebTransportSession | None:
        """Go to the entry after; None at the newest. A failure leaves the position there."""
        async with self._active():
            if self._index >= len(self._history) - 1:
                return None
            self._index += 1
            return await self._go(self._history[self._index])

    async def refresh(self) -> WebTransportSession | None:
        """Connect to the present entry again; None when there is none."""
        async with self._active():
            return await self._go(self._history[self._index]) if self._history else None

    async def get_history(self) -> list[str]:
        """The URLs, oldest first."""
        async with self._active():
            return list(self._history)

    async def close(self) -> None:
        """Close the present session and forget the history."""
        async with self._active():
            session, self._session = self._session, None
            self._history.clear()
            self._index = -1
            if session is not None:
                await session.close()
            if self._closing:
                await asyncio.wait(self._closing)

    def _active(self) -> asyncio.Lock:
        if self._lock is None:
            raise ClientError("WebTransportBrowser has not been activated: use `async with`")
        return self._lock

    async def _go(self, url: str) -> WebTransportSession:
        session = await self._client.connect(url=url)
        previous, self._session = self._session, session
        if previous is not None:
            task = asyncio.create_task(self._leave(previous))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return session

    async def _leave(self, session: WebTransportSession) -> None:
        try:
            await session.close()
        except Exception:
            logger.exception("closing the session that was left failed")
