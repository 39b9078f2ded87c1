"""Scopes: what an application is told of a request before its messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from pywebtransport._link.sides import Connection
from pywebtransport.asgi._types import Scope

__all__ = ["ASGI_VERSION", "HTTP_SPEC_VERSION", "connection_scope", "header_fields"]

ASGI_VERSION = "3.0"
HTTP_SPEC_VERSION = "2.5"
"""Of ASGI's HTTP and WebSocket message format: from 2.4 on ``send`` raises OSError when the client
has gone."""


def connection_scope(
    *,
    kind: str,
    method: str,
    target: str,
    headers: list[tuple[bytes, bytes]],
    connection: Connection,
    state: Mapping[str, Any],
) -> Scope:
    """What scopes of requests and of sessions have in common.

    target: path and query, as they came.
    state: of the lifespan; each scope has a copy of its own.
    """
    path, _, query = target.partition("?")
    client, server = connection.remote_address, connection.local_address
    return {
        "type": kind,
        "asgi": {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION},
        "http_version": "3",
        "method": method,
        "scheme": "https",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": None if client is None else (client[0], client[1]),
        "server": None if server is None else (server[0], server[1]),
        "state": dict(state),
        "extensions": {},
    }


def header_fields(
    fields: Iterable[tuple[bytes, bytes]], authority: bytes
) -> list[tuple[bytes, bytes]]:
    """The fields of a request for a scope: ``:authority`` is ``host``, others of its kind go."""
    headers = [(name, value) for name, value in fields if not name.startswith(b":")]
    if authority and not any(name == b"host" for name, _ in headers):
        headers.insert(0, (b"host", authority))
    return headers
