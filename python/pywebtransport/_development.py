"""A certificate that a page trusts by its hash: made once, renewed before it expires."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from pywebtransport._certificates import (
    generate_self_signed_cert,
    inspect_certificate,
    load_certificates,
    load_pair,
)
from pywebtransport.exceptions import CertificateError

__all__ = ["HOSTNAME", "DevelopmentCertificate", "state_directory"]

logger = logging.getLogger("pywebtransport.server")

HOSTNAME = "localhost"
MAX_SLEEP = 60.0
"""Seconds between two looks at the clock."""
RENEW_BEFORE = timedelta(days=2)
"""So long before its end a certificate is replaced: a page that was given the hash of the old one
keeps its connection, and whoever looks at the hash now has that of one that lasts."""


@dataclass(frozen=True)
class DevelopmentCertificate:
    """A pair of files, and what a page needs to trust it."""

    certfile: str
    keyfile: str
    digest: bytes
    """SHA-256, 32 bytes."""
    expires: datetime

    @classmethod
    def obtain(cls, directory: Path | None = None) -> Self:
        """The one of the directory, else of :func:`state_directory`; a new one where that has none
        that browsers accept and that lasts for a while.

        Raises:
            OSError: The directory cannot be written.
        """
        directory = directory or state_directory()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_in(directory):
            return cls._kept(directory) or cls._made(directory)

    @classmethod
    def _kept(cls, directory: Path) -> Self | None:
        certfile, keyfile = directory / f"{HOSTNAME}.crt", directory / f"{HOSTNAME}.key"
        try:
            load_pair(str(certfile), str(keyfile))
            if inspect_certificate(path=str(certfile)):
                return None
        except CertificateError:
            return None
        found = cls._read(str(certfile), str(keyfile))
        return found if found.remaining() > RENEW_BEFORE else None

    @classmethod
    def _made(cls, directory: Path) -> Self:
        pair = generate_self_signed_cert(
            hostname=HOSTNAME, output_dir=str(directory), browser_compatible=True
        )
        return cls._read(*pair)

    @classmethod
    def _read(cls, certfile: str, keyfile: str) -> Self:
        from cryptography.hazmat.primitives.hashes import SHA256

        leaf = load_certificates(certfile)[0]
        return cls(certfile, keyfile, leaf.fingerprint(SHA256()), leaf.not_valid_after_utc)

    def remaining(self) -> timedelta:
        """How long it is still valid."""
        return self.expires - datetime.now(UTC)

    async def renewals(self) -> AsyncIterator[Self]:
        """Those that take its place, each when it has just been made, in the same files."""
        current = self
        while True:
            left = (current.remaining() - RENEW_BEFORE).total_seconds()
            # Not in one go: a machine that sleeps does not count that time.
            await asyncio.sleep(max(0.0, min(MAX_SLEEP, left)))
            try:
                found = self.obtain(Path(self.certfile).parent)
            except OSError as error:
                logger.warning("no new certificate in place of one that expires soon: %s", error)
                await asyncio.sleep(MAX_SLEEP)
                continue
            if found.digest != current.digest:
                current = found
                yield current


def state_directory() -> Path:
    """Where state of this program is kept: ``$XDG_STATE_HOME/pywebtransport``, by default
    ``~/.local/state/pywebtransport``; on Windows below ``%LOCALAPPDATA%``."""
    base = os.environ.get("XDG_STATE_HOME")
    if not base and os.name == "nt":
        base = os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".local/state") / "pywebtransport"


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Two servers that start together do not mix their certificate with the other's key."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
