"""A client that connects again when its session is lost."""

from __future__ import annotations

import asyncio
import builtins
import random
from types import TracebackType
from typing import Self

from pywebtransport._waiting import wait_within
from pywebtransport._words import redacted
from pywebtransport.client.client import WebTransportClient
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    TimeoutError,
)
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import URL, EventType
from pywebtransport.utils import get_logger

__all__ = ["ReconnectingClient"]

logger = get_logger(name=__name__)


class ReconnectingClient(EventEmitter):
    """Keeps a session to one URL, in the background; use it with ``async with``.

    After the n-th failure it waits ``retry_delay * retry_backoff ** (n - 1)`` seconds, at most
    ``max_retry_delay``, times a random number from 0.5 to 1: clients that lost the server together
    do not all come back together. A session that ends before it has lived ``max_retry_delay``
    seconds is waited for like a failure; after one that has lived, the next attempt comes at once
    and the pauses begin again. More than ``max_retries`` attempts in a row that give no session end
    it. These are fields of the client's configuration.

    Only ConnectionError, TimeoutError and ClientError are followed by another attempt; a URL that
    is none, for one, ends it at once, and so does a client that is closed.

    Emits CONNECTION_ESTABLISHED {session, attempt}, CONNECTION_LOST {url}, and CONNECTION_FAILED
    {reason, last_error} when it gives up; the reason is "max_retries_exceeded", "client_closed" or
    "not_retriable".

    Args:
        url: Where to connect.
        client: An entered client; it is not closed here.
    """

    def __init__(self, *, url: URL, client: WebTransportClient) -> None:
        super().__init__()
        self._url = url
        self._name = redacted(url)
        self._client = client
        self._session: WebTransportSession | None = None
        self._is_announced = False
        self._is_closed = False
        self._loop_task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise ClientError("the client is closed; make a new one", target_url=self._url)
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._keep_connected())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a session, it is ready, and it has been announced."""
        return self._session is not None and self._session.is_ready and self._is_announced

    async def get_session(self, *, wait_timeout: float = 5.0) -> WebTransportSession | None:
        """The present session; None when there is none within ``wait_timeout`` seconds.

        Also None, at once, when this client is closed, was not entered, or has given up.
        """
        try:
            async with asyncio.timeout(wait_timeout):
                while not self.is_connected:
                    if self._is_closed or self._loop_task is None or self._loop_task.done():
                        return None
                    self._changed.clear()
                    await self._changed.wait()
        except builtins.TimeoutError:
            return None
        return self._session

    async def close(self) -> None:
        """Stop, and close the session. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        task = self._loop_task
        # A handler of one of its events may close this.
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await wait_within(task, self._client.config.close_timeout, "a handler of an event")
        if self._session is not None:
            await self._session.close()

    async def _keep_connected(self) -> None:
        config = self._client.config
        time = asyncio.get_running_loop().time
        failures = 0
        attempt = 0
        delay = config.retry_delay
        try:
            while not self._is_closed:
                attempt += 1
                try:
                    self._session = await self._client.connect(url=self._url)
                except ConfigurationError as error:
                    logger.error("%s cannot be reached: %s", redacted(self._url), error)
                    return await self._give_up("not_retriable", error)
                except (ConnectionError, TimeoutError, ClientError) as error:
                    failures += 1
                    logger.warning("attempt %d to reach %s failed: %s", attempt, self._name, error)
                    if self._client.is_closed:
                        return await self._give_up("client_closed", error)
                    if failures > config.max_retries:
                        return await self._give_up("max_retries_exceeded", error)
                except Exception as error:
                    logger.error("%s cannot be reached: %s", self._name, error)
                    return await self._give_up("not_retriable", error)
                else:
                    failures = 0
                    ready_at = time()
                    await self._use(self._session, attempt)
                    if time() - ready_at >= config.max_retry_delay:
                        delay = config.retry_delay
                        continue
                if self._is_closed:
                    return None
                await asyncio.sleep(min(delay, config.max_retry_delay) * random.uniform(0.5, 1.0))
                delay = min(delay * config.retry_backoff, config.max_retry_delay)
        finally:
            self._changed.set()

    async def _give_up(self, reason: str, error: Exception) -> None:
        await self.emit(
            event_type=EventType.CONNECTION_FAILED,
            data={"reason": reason, "last_error": error},
            source=self,
        )

    async def _use(self, session: WebTransportSession, attempt: int) -> None:
        """Announce a session, and its end."""
        await self.emit(
            event_type=EventType.CONNECTION_ESTABLISHED,
            data={"session": session, "attempt": attempt},
            source=self,
        )
        self._is_announced = True
        self._changed.set()
        await session.wait_closed()
        self._is_announced = False
        if self._is_closed:
            return
        # It may have left its connection behind.
        await session.close()
        self._session = None
        self._changed.set()
        await self.emit(event_type=EventType.CONNECTION_LOST, data={"url": self._url}, source=self)
