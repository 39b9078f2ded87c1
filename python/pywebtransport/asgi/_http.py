"""One HTTP request as ASGI messages."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any

from pywebtransport.asgi._scope import connection_scope, header_fields
from pywebtransport.asgi._types import Message, Scope
from pywebtransport.asgi.exceptions import ClientDisconnected
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import InvalidStateError, RequestError, TimeoutError
from pywebtransport.server.request import HttpRequest

__all__ = ["RequestMessages", "request_scope"]

READ_SIZE = 1 << 16
"""Bytes of a body that one message brings at most."""
EARLY_HINTS = 103
OK = 200
REQUEST_TIMEOUT = 408
OF_A_CONNECTION = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""Fields of HTTP/1.1 that HTTP/3 has no use for (RFC 9114 §4.2)."""


def request_scope(request: HttpRequest, state: dict[str, Any]) -> Scope:
    """The scope of a request."""
    scope = connection_scope(
        kind="http",
        method=request.method,
        target=request.path,
        headers=header_fields(request.headers, request.authority.encode()),
        connection=request.connection,
        state=state,
    )
    scope["extensions"] = {"http.response.trailers": {}, "http.response.early_hint": {}}
    return scope


class RequestMessages:
    """``receive`` and ``send`` of one request.

    The body stays with the client until the application receives it, and ``send`` waits for a
    client that does not read.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._is_received = False
        """The body was, to its end."""
        self._awaits_trailers = False
        self._trailers: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        """The application has sent the end of its response."""
        self._verbs = {
            "http.response.start": self._start,
            "http.response.body": self._body,
            "http.response.trailers": self._end_with_trailers,
            "http.response.early_hint": self._hint,
        }

    async def receive(self) -> Message:
        """The next part of the body; after its end, the end of the request."""
        request = self._request
        if self._is_received:
            await request.wait_disconnected()
            return {"type": "http.disconnect"}
        try:
            data = await request.read(READ_SIZE)
        except TimeoutError:
            if request.status is None:
                await request.respond(REQUEST_TIMEOUT, end=True)
            request.abort(ErrorCodes.H3_REQUEST_CANCELLED)
            return {"type": "http.disconnect"}
        except RequestError:
            return {"type": "http.disconnect"}
        self._is_received = not data
        return {"type": "http.request", "body": data, "more_body": bool(data)}

    async def send(self, message: Message) -> None:
        """Send a part of the response.

        Raises:
            ClientDisconnected: The client has gone, or takes nothing for ``config.write_timeout``.
            InvalidStateError: It does not fit what was sent before.
            ValueError: It cannot be sent: the status, a field, the length of the body.
        """
        kind = message["type"]
        verb = self._verbs.get(kind)
        if verb is None:
            raise ValueError(f"a request is sent no {kind!r}, but {', '.join(self._verbs)}")
        if self.is_complete and not self._request.is_disconnected:
            raise InvalidStateError(f"{kind} comes after the end of the response")
        try:
            await verb(message)
        except TimeoutError as error:
            self._request.abort(ErrorCodes.H3_REQUEST_CANCELLED)
            raise ClientDisconnected(f"{kind} was not sent: {error.message}") from error
        except RequestError as error:
            raise ClientDisconnected(f"{kind} was not sent: {error.message}") from error

    async def _start(self, message: Message) -> None:
        status = message["status"]
        if status < OK:
            raise ValueError(f"the status of a response is in 200..599, it is {status}")
        fields = _fields(message.get("headers"))
        if not any(name == b"date" for name, _ in fields):
            fields.append((b"date", formatdate(time.time(), usegmt=True).encode()))
        await self._request.respond(status, fields)
        self._awaits_trailers = message.get("trailers", False)

    async def _body(self, message: Message) -> None:
        body = message.get("body", b"")
        # An empty one waits as well: a response comes before its body.
        await self._request.write(body)
        if not message.get("more_body", False) and not self._awaits_trailers:
            await self._end(None)

    async def _end_with_trailers(self, message: Message) -> None:
        if not self._awaits_trailers:
            raise InvalidStateError(
                'http.response.trailers comes after an http.response.start with "trailers": True'
            )
        self._trailers += _fields(message.get("headers"))
        if not message.get("more_trailers", False):
            await self._end(self._trailers)

    async def _end(self, trailers: list[tuple[bytes, bytes]] | None) -> None:
        await self._request.end(trailers)
        self.is_complete = True

    async def _hint(self, message: Message) -> None:
        links = [(b"link", bytes(link)) for link in message.get("links", ())]
        await self._request.respond(EARLY_HINTS, links)


def _fields(fields: Iterable[tuple[bytes, bytes]] | None) -> list[tuple[bytes, bytes]]:
    found = [(bytes(name).lower(), bytes(value)) for name, value in fields or ()]
    return [(name, value) for name, value in found if name not in OF_A_CONNECTION]
