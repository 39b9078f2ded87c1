"""Whether what was written has arrived."""

from __future__ import annotations

import asyncio

from pywebtransport._engine.base import EngineConnection

__all__ = ["until_acknowledged"]

DELIVERY_CHECK = (0.001, 0.025)
"""Shortest and longest seconds between two looks at what is in flight."""
QUIET_CHECKS = 2
"""Looks in a row that find nothing in flight until everything has arrived."""


async def until_acknowledged(engine: EngineConnection) -> None:
    """Until the peer has acknowledged everything that was sent on the connection."""
    # An engine does not notify of acknowledgements; a fraction of a round trip is soon enough.
    shortest, longest = DELIVERY_CHECK
    stats = engine.stats()
    if not stats.bytes_in_flight:
        return
    # A pacer may hold the rest back for a moment when everything sent is acknowledged.
    quiet = 0
    while quiet < QUIET_CHECKS:
        await asyncio.sleep(min(max(stats.rtt / 4, shortest), longest))
        stats = engine.stats()
        quiet = 0 if stats.bytes_in_flight else quiet + 1
