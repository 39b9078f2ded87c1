"""``serve --dev``: a certificate that is kept, and what a page needs to trust it."""

from __future__ import annotations

import base64
from typing import Any

import click

from pywebtransport._development import HOSTNAME, DevelopmentCertificate, state_directory
from pywebtransport._words import address_text
from pywebtransport.cli.output import fail
from pywebtransport.server import ServerApp, current_worker

__all__ = ["DevelopmentServer", "obtain_certificate", "page_line", "page_option"]

ANY_ORIGIN = ["*", "null"]


def obtain_certificate() -> DevelopmentCertificate:
    """The one of this user, which is kept."""
    try:
        return DevelopmentCertificate.obtain()
    except OSError as error:
        fail(
            f"no development certificate: {state_directory()}: {error.strerror}; XDG_STATE_HOME"
            " names another place"
        )


class DevelopmentServer:
    """Gives an application a certificate, tells how a page trusts it, and keeps it fresh."""

    def __init__(self, app: ServerApp, *, announces: bool) -> None:
        self._app = app
        self._certificate = obtain_certificate()
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
        async for certificate in self._certificate.renewals():
            self._certificate = certificate
            if not self._is_silent():
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
