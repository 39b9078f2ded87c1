"""Words that are not ours, and secrets, as they may stand in a log or an exception.

A peer chooses paths, reasons and messages. In a log they must not look like another line or
another field, must not steer a terminal, and must not fill the disk.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "address_text",
    "peer_path",
    "peer_text",
    "reason_text",
    "redacted",
    "without_query",
]

LIMIT = 200
"""Characters of a peer that are shown."""
MAX_REASON = 1024
"""Bytes of a reason that a peer is told (webtrans-http3-16 §6)."""
ORIGIN = re.compile(r"(\[[^\[\]@]*\]|[^:@\[\]]+)(:\d*)?")
"""A host, and a port perhaps, without user-info."""


def peer_text(words: object, *, limit: int = LIMIT, is_quoted: bool = True) -> str:
    """``words`` of a peer in double quotes, escaped like a Python literal, and cut at ``limit``.

    is_quoted: without the quotes where False, for what is the whole text of an exception.
    """
    text = words if isinstance(words, str) else str(words)
    length = len(text)
    if length > limit:
        text = text[:limit]
    if not text.isprintable() or (is_quoted and ('"' in text or "\\" in text)):
        text = "".join(map(_escaped, text))
    if is_quoted:
        text = f'"{text}"'
    return text if length <= limit else f"{text}... ({length} characters)"


def peer_path(path: str | None) -> str:
    """A requested path as :func:`peer_text`; a query, which may hold a token, is ``?...``."""
    return peer_text(without_query(path or "/"))


def address_text(address: tuple[Any, ...] | None) -> str:
    """``host:port``, an IPv6 address in brackets; ``-`` when it is not known."""
    if address is None:
        return "-"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reason_text(reason: str | None) -> str:
    """The reason of a close as a peer is told it: in UTF-8, ``?`` for what UTF-8 has not, and cut.

    Raises:
        TypeError: It is no text.
    """
    if reason is None:
        return ""
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, it is {reason!r}")
    return reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore")


def redacted(url: object) -> str:
    """URLs of our own, a comma between them, without what may be secret in each: its user-info,
    its query and its fragment. Of what is no str, the type.

    A password may hold what ends a host, if nobody has escaped it: where that may be, all before
    the last ``@`` is left out.
    """
    if not isinstance(url, str):
        return f"<{type(url).__name__}>"
    return ",".join(map(_redacted, re.split(r",(?=\w+://)", url)))


def without_query(url: str) -> str:
    """A URL or path with ``?...`` in place of its query, or ``#...`` of its fragment."""
    found = re.search("[?#]", url)
    return f"{url[: found.end()]}..." if found else url


def _redacted(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if mark and "@" in rest:
        origin = re.split("[/?#]", rest, maxsplit=1)[0]
        if scheme != "https" or not ORIGIN.fullmatch(origin):
            rest = f"***@{rest.rpartition('@')[2]}"
    return without_query(f"{scheme}{mark}{rest}")


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
