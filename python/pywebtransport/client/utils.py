"""URLs of WebTransport servers."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, urlsplit

from pywebtransport._words import redacted
from pywebtransport.constants import DEFAULT_SECURE_PORT, WEBTRANSPORT_SCHEME
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.types import URL, URLParts

__all__ = ["parse_webtransport_url", "validate_url"]

PATH_CHARACTERS = "/:@!$&'()*+,;=~%"
"""What may stay in a path beside letters, digits and ``-._`` (RFC 3986 §3.3)."""
QUERY_CHARACTERS = PATH_CHARACTERS + "?"


def parse_webtransport_url(*, url: URL) -> URLParts:
    """Host, port (443 by default), and path with query, as they go into a request.

    A name beyond ASCII is given by its IDNA form, the zone of an IPv6 address behind a ``%``, a
    path or query by its percent-encoding. A fragment is none of the server's business (RFC 9110
    §4.2.5).

    Raises:
        ConfigurationError: ``url`` is not the https URL of a host.
    """
    if not isinstance(url, str):
        raise _bad(url, "it must be a str")
    return _parse(url)


@lru_cache(maxsize=256)
def _parse(url: str) -> URLParts:
    """Clients connect to few URLs, over and over."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if parts.scheme != WEBTRANSPORT_SCHEME:
        raise _bad(url, f"the scheme must be {WEBTRANSPORT_SCHEME!r}, it is {parts.scheme!r}")
    if not host:
        raise _bad(url, "it names no host")
    if parts.username is not None or parts.password is not None:
        raise _bad(url, "user names and passwords do not belong into it")
    if port == 0:
        raise _bad(url, "the port must be in 1..65535")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise _bad(url, "it holds a space or a control character; percent-encode it")
    if ":" in host:
        # The percent sign of a zone is escaped (RFC 6874 §2).
        host = host.replace("%25", "%", 1)
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise _bad(url, f"its host has no IDNA form: {error}") from error
    path = quote(parts.path or "/", safe=PATH_CHARACTERS)
    if parts.query:
        path += f"?{quote(parts.query, safe=QUERY_CHARACTERS)}"
    return host, DEFAULT_SECURE_PORT if port is None else port, path


def validate_url(*, url: URL) -> bool:
    """Whether :func:`parse_webtransport_url` takes it."""
    try:
        parse_webtransport_url(url=url)
    except ConfigurationError:
        return False
    return True


def _bad(url: object, reason: str) -> ConfigurationError:
    shown = redacted(url)
    return ConfigurationError(
        f"not a WebTransport URL, {shown!r}: {reason}", config_key="url", config_value=shown
    )
