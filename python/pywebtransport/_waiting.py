"""Futures in a list, which somebody else wakes."""

from __future__ import annotations

import asyncio
from collections.abc import MutableSequence
from contextlib import suppress

__all__ = ["wait_among"]


async def wait_among(
    waiters: MutableSequence[asyncio.Future[None]], future: asyncio.Future[None]
) -> None:
    """Wait as one of ``waiters``; a wait that is given up leaves nothing there."""
    waiters.append(future)
    try:
        await future
    except asyncio.CancelledError:
        with suppress(ValueError):
            waiters.remove(future)
        raise
