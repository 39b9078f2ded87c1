"""One datagram to many transports."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pywebtransport.exceptions import DatagramError
from pywebtransport.types import Data
from pywebtransport.utils import ensure_bytes, get_logger

if TYPE_CHECKING:
    from pywebtransport.datagram.transport import WebTransportDatagramTransport

__all__ = ["DatagramBroadcaster"]

logger = get_logger(name=__name__)


class DatagramBroadcaster:
    """Sends to every registered transport; use it with ``async with``.

    The payload goes out as it is. A transport that is closed or fails is forgotten.
    """

    def __init__(self) -> None:
        # A dictionary keeps the order of registration and forgets in constant time.
        self._transports: dict[WebTransportDatagramTransport, None] | None = None

    async def __aenter__(self) -> Self:
        if self._transports is None:
            self._transports = {}
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.shutdown()

    async def add_transport(self, *, transport: WebTransportDatagramTransport) -> None:
        """Register a transport; a known one is ignored.

        Raises:
            DatagramError: The broadcaster was not entered; so do all methods.
        """
        self._active()[transport] = None

    async def remove_transport(self, *, transport: WebTransportDatagramTransport) -> None:
        """Forget a transport; an unknown one is ignored."""
        self._active().pop(transport, None)

    async def get_transport_count(self) -> int:
        """How many transports are registered."""
        return len(self._active())

    async def broadcast(self, *, data: Data, priority: int = 0, ttl: float | None = None) -> int:
        """Send to all at the same time; returns to how many it went.

        ``priority`` and ``ttl`` as of the transports' ``send``.
        """
        transports = self._active()
        payload = ensure_bytes(data=data)
        open_transports = []
        for transport in list(transports):
            if transport.is_closed:
                del transports[transport]
            else:
                open_transports.append(transport)
        results = await asyncio.gather(
            *(each.send(data=payload, priority=priority, ttl=ttl) for each in open_transports),
            return_exceptions=True,
        )
        sent = 0
        for transport, result in zip(open_transports, results, strict=True):
            if result is None:
                sent += 1
                continue
            logger.warning("a transport failed and is forgotten: %s", result)
            transports.pop(transport, None)
        return sent

    async def shutdown(self) -> None:
        """Forget every transport; they stay open."""
        if self._transports is not None:
            self._transports.clear()

    def _active(self) -> dict[WebTransportDatagramTransport, None]:
        if self._transports is None:
            raise DatagramError("DatagramBroadcaster has not been activated: use `async with`")
        return self._transports
