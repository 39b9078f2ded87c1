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
USER_INFO = re.compile(r"(?<=://)[^/?#]*@")


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


def redacted(url: str) -> str:
    """A URL of our own without its user-info, which may hold a password, and its query."""
    return without_query(USER_INFO.sub("***@", url))


def without_query(url: str) -> str:
    """A URL or path with ``?...`` in place of its query."""
    head, mark, _ = url.partition("?")
    return f"{head}?..." if mark else head


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
