"""Several clients that are used together."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from pywebtransport.client.client import WebTransportClient
from pywebtransport.exceptions import ClientError
from pywebtransport.session.session import WebTransportSession
from pywebtransport.utils import get_logger

__all__ = ["ClientFleet"]

logger = get_logger(name=__name__)


class ClientFleet:
    """Enters, uses and closes several clients; use it with ``async with``.

    Raises:
        ValueError: ``clients`` is empty.
    """

    def __init__(self, *, clients: list[WebTransportClient]) -> None:
        if not clients:
            raise ValueError("a fleet needs at least one client")
        self._clients = list(clients)
        self._next = 0
        self._is_active = False

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as group:
                for client in self._clients:
                    group.create_task(client.__aenter__())
        except BaseException:
            await self.close_all()
            raise
        self._is_active = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close_all()

    async def connect_all(self, *, url: str) -> list[WebTransportSession]:
        """Connect every client at the same time; the sessions of those that succeeded.

        Failures are logged.

        Raises:
            ClientError: The fleet was not entered.
        """
        self._active()
        results = await asyncio.gather(
            *(client.connect(url=url) for client in self._clients), return_exceptions=True
        )
        sessions: list[WebTransportSession] = []
        for number, result in enumerate(results):
            if isinstance(result, Exception):
                logger.warning("client %d of the fleet did not connect: %s", number, result)
            elif isinstance(result, BaseException):
                raise result
            else:
                sessions.append(result)
        return sessions

    async def get_client(self) -> WebTransportClient:
        """The next client in turn, beginning with the first.

        Raises:
            ClientError: The fleet was not entered, or is empty.
        """
        self._active()
        if not self._clients:
            raise ClientError("the fleet has no clients")
        client = self._clients[self._next % len(self._clients)]
        self._next += 1
        return client

    def get_client_count(self) -> int:
        """How many clients there are; 0 after :meth:`close_all`."""
        return len(self._clients)

    async def close_all(self) -> None:
        """Close every client at the same time; the fleet is empty then. Failures are logged."""
        clients, self._clients = self._clients, []
        results = await asyncio.gather(
            *(client.close() for client in clients), return_exceptions=True
        )
        for number, result in enumerate(results):
            if isinstance(result, Exception):
                logger.error("closing client %d of the fleet failed: %r", number, result)

    def _active(self) -> None:
        if not self._is_active:
            raise ClientError("ClientFleet has not been activated: use `async with`")
