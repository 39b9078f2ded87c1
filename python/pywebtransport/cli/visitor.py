"""Who connects: the options that every verb with a URL has, and the configuration they make."""

from __future__ import annotations

import base64
import binascii
import functools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from pywebtransport.cli.output import fail
from pywebtransport.client import WebTransportClient
from pywebtransport.client.utils import parse_webtransport_url
from pywebtransport.config import ClientConfig
from pywebtransport.constants import ENGINES
from pywebtransport.exceptions import ClientError, ConfigurationError, ConnectCertificateError
from pywebtransport.session import WebTransportSession

__all__ = ["ORIGIN", "Visitor", "open_session", "visitor_options"]

F = TypeVar("F", bound=Callable[..., Any])
ORIGIN = "origin"
SHA256_SIZE = 32


@dataclass(frozen=True)
class Visitor:
    """A client that knows where to, what it trusts, and what it says of itself."""

    url: str
    engine: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """Request fields, lower-case names; ``origin`` among them makes it a page's request."""
    protocols: tuple[str, ...] = ()
    ca_certs: str | None = None
    hashes: tuple[str, ...] = ()
    """64 hexadecimal digits each."""
    is_trusting: bool = False
    """Whoever answers is trusted."""
    certfile: str | None = None
    keyfile: str | None = None
    timeout: float = 10.0
    """Seconds until the server must have answered."""

    def config(self, *, is_trusting: bool | None = None, **more: Any) -> ClientConfig:
        """The configuration of a client; ``more`` fields replace those made from this.

        Raises:
            ConfigurationError: Something cannot work.
            CertificateError: A file is not there.
        """
        fields: dict[str, Any] = {
            "engine": self.engine,
            "headers": self.headers,
            "wt_available_protocols": list(self.protocols) or None,
            "connect_timeout": self.timeout,
            "certfile": self.certfile,
            "keyfile": self.keyfile,
        }
        if self.is_trusting if is_trusting is None else is_trusting:
            fields["verify_mode"] = ssl.CERT_NONE
        else:
            fields["ca_certs"] = self.ca_certs
            fields["server_certificate_hashes"] = list(self.hashes) or None
        return ClientConfig(**{**fields, **more})


async def open_session(client: WebTransportClient, visitor: Visitor) -> WebTransportSession:
    """A session of this visitor's, or the end of the command, with what to do."""
    try:
        return await client.connect(visitor.url)
    except ClientError as error:
        remedy = f"`pywebtransport doctor {visitor.url}` looks for the cause"
        if isinstance(error, ConnectCertificateError):
            remedy = (
                "trust it by --hash, --ca or --insecure, or by --dev where `serve --dev` of this "
                f"machine answers; {remedy}"
            )
        fail(f"{error.message}\n{remedy}")


def visitor_options(
    *,
    needs_url: bool = True,
    seconds: float = 10.0,
    seconds_help: str = "Seconds until the server must have answered.",
) -> Callable[[F], F]:
    """Decorator: the options, as the arguments ``visitor``, ``engine``, ``certfile``, ``keyfile``.

    Without a URL, where it is not needed, ``visitor`` is None. ``seconds`` is the default of
    ``--timeout``.
    """
    timeout = click.option(
        "--timeout",
        default=seconds,
        show_default=True,
        type=click.FloatRange(min=0.1),
        help=seconds_help,
    )
    url = click.argument("url", required=needs_url)
    return lambda command: url(_with_options(timeout(command)))


def _with_options(command: F) -> F:
    @functools.wraps(command)
    def call(
        *,
        url: str | None,
        engine: str | None,
        header: tuple[tuple[str, str], ...],
        origin: str | None,
        protocol: tuple[str, ...],
        ca: str | None,
        hashes: tuple[str, ...],
        dev: bool,
        insecure: bool,
        certfile: str | None,
        keyfile: str | None,
        timeout: float,
        **others: Any,
    ) -> Any:
        if insecure and (ca or hashes or dev):
            raise click.UsageError("--insecure trusts everybody: leave out --ca, --hash and --dev")
        if dev:
            hashes = (*hashes, _development_hash())
        visitor = None
        if url is not None:
            headers = dict(header)
            if origin is not None:
                headers[ORIGIN] = origin
            visitor = Visitor(
                url=_checked(url),
                engine=engine,
                headers=headers,
                protocols=protocol,
                ca_certs=ca,
                hashes=hashes,
                is_trusting=insecure,
                certfile=certfile,
                keyfile=keyfile,
                timeout=timeout,
            )
        return command(visitor=visitor, engine=engine, certfile=certfile, keyfile=keyfile, **others)

    options = [
        click.option(
            "--hash",
            "hashes",
            multiple=True,
            callback=_each(_hash),
            metavar="SHA256",
            help="Trust the certificate with this SHA-256, in hexadecimal or base64.",
        ),
        click.option(
            "--ca",
            type=click.Path(exists=True, dir_okay=False),
            help="Trust what the authorities in this PEM file vouch for.",
        ),
        click.option(
            "--dev", is_flag=True, help="Trust the certificate of `serve --dev` on this machine."
        ),
        click.option("--insecure", is_flag=True, help="Trust whoever answers. For tests."),
        click.option(
            "--header",
            "-H",
            multiple=True,
            callback=_each(_header),
            metavar="NAME:VALUE",
            help="Send this field with the request; may be repeated.",
        ),
        click.option("--origin", help="Ask as a page of this origin, as in https://example.org."),
        click.option(
            "--protocol",
            multiple=True,
            metavar="NAME",
            help="Offer this application protocol; may be repeated, most wanted first.",
        ),
        click.option(
            "--certfile",
            type=click.Path(exists=True, dir_okay=False),
            help="PEM certificate to show.",
        ),
        click.option(
            "--keyfile", type=click.Path(exists=True, dir_okay=False), help="PEM key of it."
        ),
        click.option("--engine", type=click.Choice(ENGINES), help="What carries the connection."),
    ]
    decorated: Any = call
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def _checked(url: str) -> str:
    try:
        parse_webtransport_url(url=url)
    except ConfigurationError as error:
        hint = ""
        if "://" not in url:
            hint = f"; did you mean https://{url}?"
        raise click.BadParameter(f"{error.message}{hint}", param_hint="URL") from error
    return url


def _development_hash() -> str:
    from pywebtransport._development import HOSTNAME, state_directory
    from pywebtransport.utils import certificate_hash

    path = state_directory() / f"{HOSTNAME}.crt"
    if not path.exists():
        fail(f"there is no {path}: `pywebtransport serve --dev` makes it, on the server's machine")
    return certificate_hash(path=str(path))


def _each(convert: Callable[[str], Any]) -> Callable[..., tuple[Any, ...]]:
    def convert_all(_context: Any, _parameter: Any, values: tuple[str, ...]) -> tuple[Any, ...]:
        return tuple(map(convert, values))

    return convert_all


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name = name.strip().lower()
    if not colon or not name:
        raise click.BadParameter(f"{text!r} is no field: write name:value")
    return name, value.strip()


def _hash(text: str) -> str:
    """In hexadecimal, with or without colons, or in base64, as SHA256:... too."""
    plain = text.strip()
    plain = plain[7:] if plain.lower().startswith(("sha256:", "sha-256")) else plain
    for decode in (_from_hexadecimal, _from_base64):
        digest = decode(plain)
        if digest is not None and len(digest) == SHA256_SIZE:
            return digest.hex()
    raise click.BadParameter(
        f"{text!r} is no SHA-256: it has 64 hexadecimal digits, or 44 characters of base64"
    )


def _from_hexadecimal(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text.replace(":", ""))
    except ValueError:
        return None


def _from_base64(text: str) -> bytes | None:
    standard = text.replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
