"""The certificate of ``serve --dev``: made once, kept between starts, renewed before it expires."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import click

from pywebtransport._certificates import load_certificates, load_pair
from pywebtransport._words import address_text
from pywebtransport.cli.output import fail
from pywebtransport.exceptions import CertificateError
from pywebtransport.server import ServerApp, current_worker
from pywebtransport.utils import generate_self_signed_cert, inspect_certificate

__all__ = [
    "HOSTNAME",
    "DevelopmentCertificate",
    "DevelopmentServer",
    "page_line",
    "state_directory",
]

ANY_ORIGIN = ["*", "null"]
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
        that browsers accept and that lasts for a while."""
        directory = directory or state_directory()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone_in(directory):
                return cls._kept(directory) or cls._made(directory)
        except OSError as error:
            fail(
                f"no development certificate: {directory}: {error.strerror}; XDG_STATE_HOME names"
                " another place"
            )

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

    def seconds_to_renewal(self) -> float:
        """When to :meth:`obtain` the next one."""
        return max(0.0, (self.remaining() - RENEW_BEFORE).total_seconds())


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


class DevelopmentServer:
    """Gives an application a certificate, tells how a page trusts it, and keeps it fresh."""

    def __init__(self, app: ServerApp, *, announces: bool) -> None:
        self._app = app
        self._certificate = DevelopmentCertificate.obtain()
        if announces:
            app._while_listening.append(self._announce)
        app._while_listening.append(self._keep_fresh)

    def settings(self) -> dict[str, Any]:
        """Fields of ServerConfig; who pastes a line into a page may stand on any."""
        files = {"certfile": self._certificate.certfile, "keyfile": self._certificate.keyfile}
        is_open = self._app.server.config.allowed_origins is None
        return files | ({"allowed_origins": ANY_ORIGIN} if is_open else {})

    async def _announce(self) -> None:
        if self._is_silent():
            return
        server = self._app.server
        host = server.config.bind_host
        port = server.local_addresses[0][1]
        routes = self._app._router.get_all_routes()
        # An address for everybody is none to connect to.
        host = HOSTNAME if host in ("", "*", "0.0.0.0", "::") else host
        url = f"https://{address_text((host, port))}{next(iter(routes), '/')}"
        certificate = self._certificate
        click.echo()
        click.echo(f"  address      {click.style(url, bold=True)}")
        self._show(certificate)
        click.echo(
            f"\nFrom a shell:\n\npywebtransport connect {url} --hash {certificate.digest.hex()}"
        )
        click.echo("\nIn the console of a page of https:// or http://localhost:\n")
        click.echo(page_line(url, certificate.digest) + "\n")

    def _is_silent(self) -> bool:
        """Of several workers, one tells for all."""
        worker = current_worker()
        return worker is not None and worker.number % worker.count != 1 % worker.count

    def _show(self, certificate: DevelopmentCertificate) -> None:
        click.echo(f"  certificate  {certificate.certfile}, until {certificate.expires:%Y-%m-%d}")
        click.echo(f"  SHA-256      {base64.b64encode(certificate.digest).decode()} (base64)")
        click.echo(f"               {certificate.digest.hex()} (hex)")

    async def _keep_fresh(self) -> None:
        while True:
            # Not in one go: a machine that sleeps does not count that time.
            await asyncio.sleep(min(MAX_SLEEP, self._certificate.seconds_to_renewal()))
            certificate = DevelopmentCertificate.obtain()
            if certificate.digest != self._certificate.digest:
                self._certificate = certificate
                if self._is_silent():
                    continue
                click.echo("\nA new certificate takes the place of one that expires soon:\n")
                self._show(certificate)


def page_line(url: str, digest: bytes) -> str:
    """What to paste into the console of a page, to be connected."""
    return (
        f'const transport = new WebTransport("{url}", {{ {page_option(digest)} }});'
        " await transport.ready;"
    )


def page_option(digest: bytes) -> str:
    """The option of a page's WebTransport that trusts a certificate."""
    value = base64.b64encode(digest).decode()
    return (
        'serverCertificateHashes: [{ algorithm: "sha-256", value: '
        f'Uint8Array.from(atob("{value}"), (c) => c.charCodeAt(0)) }}]'
    )
