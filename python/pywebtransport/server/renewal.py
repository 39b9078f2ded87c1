"""A server shows a renewed certificate: when its files change, and when it is asked to look."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, TypeAlias

from pywebtransport.exceptions import WebTransportError

if TYPE_CHECKING:
    from pywebtransport.server.server import WebTransportServer

__all__ = ["CertificateRenewal"]

logger = logging.getLogger("pywebtransport.server")

INTERVAL = 1.0
"""Seconds between two looks at the files."""

Stamps: TypeAlias = tuple[tuple[int, ...] | None, ...]


class CertificateRenewal:
    """Looks at the files of a server's certificate while :meth:`run` runs.

    A pair that changed is taken once it has stayed the same for one interval, since a certificate
    and its key are not replaced in the same instant. What cannot be used is logged in one line, and
    the certificate in use stays.
    """

    def __init__(self, server: WebTransportServer, *, interval: float = INTERVAL) -> None:
        self._server = server
        self._interval = interval
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the files at once, changed or not."""
        self._asked.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        taken = before = self._stamps()
        while True:
            is_asked = await self._wait()
            now = self._stamps()
            if is_asked or (now != taken and now == before):
                taken = now
                await self._reload()
            before = now

    async def _wait(self) -> bool:
        try:
            async with asyncio.timeout(self._interval):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _reload(self) -> None:
        try:
            await self._server.reload_certificate()
        except WebTransportError as error:
            logger.error("the certificate in use stays: %s", error.message)

    def _stamps(self) -> Stamps:
        config = self._server.config
        return tuple(stamp(path) for path in (config.certfile, config.keyfile))


def stamp(path: str) -> tuple[int, ...] | None:
    """What changes when a file is written or replaced, also behind a link."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
