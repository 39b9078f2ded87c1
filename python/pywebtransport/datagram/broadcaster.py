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

BATCH = 64
"""Transports served in a row without a trip through the loop."""


class DatagramBroadcaster:
    """Sends to every registered transport; use it with ``async with``.

    The payload goes out as it is. A transport that is closed is forgotten.
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
        """Hand the payload to every transport; returns to how many it went.

        A transport whose queue is full drops its oldest. One that is closed is forgotten; one that
        refuses the payload stays, and misses it.

        Args:
            data: The payload.
            priority: As of the transports' ``send``.
            ttl: As of the transports' ``send``.

        Raises:
            DatagramError: The payload is too large for all of them, or has expired.
        """
        transports = self._active()
        payload = ensure_bytes(data=data)
        sent = 0
        refusal: DatagramError | None = None
        for number, transport in enumerate(list(transports), 1):
            if not number % BATCH:
                await asyncio.sleep(0)
            if transport.is_closed:
                transports.pop(transport, None)
                continue
            try:
                transport._send(payload, priority, ttl)
            except DatagramError as error:
                refusal = error
                logger.debug("a transport misses a broadcast: %s", error)
            else:
                sent += 1
        try:
            if refusal is not None and not sent:
                raise refusal
            return sent
        finally:
            # What is raised holds this frame, and so must not be held by it.
            del refusal

    async def shutdown(self) -> None:
        """Forget every transport; they stay open."""
        if self._transports is not None:
            self._transports.clear()

    def _active(self) -> dict[WebTransportDatagramTransport, None]:
        if self._transports is None:
            raise DatagramError("DatagramBroadcaster has not been activated: use `async with`")
        return self._transports
