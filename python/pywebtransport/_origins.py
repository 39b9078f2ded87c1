"""Which web pages may open a session.

A browser sends the origin of the page with each request (RFC 6454); a page of any site can try.
Programs send none, or what they like: this protects the users of browsers, it authenticates nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from pywebtransport.constants import DEFAULT_SECURE_PORT

__all__ = ["ANY", "NULL", "Origins", "normal_origin"]

ANY = "*"
NULL = "null"
"""What a browser sends for a page without an origin: a sandboxed frame, a file, a data: URL."""
FILE = "file://"
"""What Chromium sends for a file in its place."""
DEFAULT_PORTS = {"http": 80, "https": DEFAULT_SECURE_PORT}


class Origins:
    """The origins that a configuration allows.

    Args:
        allowed: ``None``: pages of the same authority as the request, host and port alike.
            Otherwise origins as ``https://example.org:8443``; ``"*"`` stands for all of them but
            ``"null"``, which has to be named.
    """

    def __init__(self, allowed: Iterable[str] | None) -> None:
        self._allowed = None if allowed is None else frozenset(map(normal_origin, allowed))

    def allow(self, origin: str | None, authority: str | None) -> bool:
        """Whether a request with this Origin, ``None`` for none, may go on."""
        if origin is None:
            return True
        try:
            origin = normal_origin(origin)
        except ValueError:
            return False
        if self._allowed is not None:
            return origin in self._allowed or (ANY in self._allowed and origin != NULL)
        if origin == NULL or not authority:
            return False
        scheme, _, page = origin.partition("://")
        return _with_port(page, DEFAULT_PORTS.get(scheme)) == _with_port(
            authority.lower(), DEFAULT_SECURE_PORT
        )


def normal_origin(origin: str) -> str:
    """``scheme://host[:port]`` in lower case without a default port, ``"*"`` or ``"null"``.

    Raises:
        ValueError: It is none of these.
    """
    if origin in (ANY, NULL):
        return origin
    if origin == FILE:
        return NULL
    parts = urlsplit(origin)
    port = parts.port
    if not parts.scheme or not parts.hostname or origin.count("/") > 2 or "@" in parts.netloc:
        raise ValueError(f"{origin!r} is no origin, which is scheme://host or scheme://host:port")
    if parts.query or parts.fragment or any(map(str.isspace, origin)):
        raise ValueError(f"{origin!r} is more than an origin")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default = port is None or port == DEFAULT_PORTS.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if is_default else f":{port}")


def _with_port(authority: str, port: int | None) -> str:
    has_port = authority.rpartition("]")[2].rpartition(":")[1]
    return authority if has_port else f"{authority}:{port}"
