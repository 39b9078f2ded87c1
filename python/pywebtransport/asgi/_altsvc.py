"""Tells clients of a TCP server that HTTP/3 is served as well."""

from __future__ import annotations

from typing import Any

from pywebtransport.asgi._types import App, Message, Receive, Scope, Send

__all__ = ["AltSvcMiddleware"]

MAX_AGE = 86400
"""Seconds; what RFC 7838 §3.1 takes for granted where nothing is said."""


class AltSvcMiddleware:
    """Adds ``Alt-Svc`` (RFC 7838) to the responses of HTTP/1.1 and HTTP/2.

    For the application that a TCP server such as uvicorn serves beside HTTP/3; one that sets the
    field itself is left alone.

    Args:
        app: The application.
        port: The UDP port of HTTP/3, 1 to 65535.
        max_age: Seconds that a client may remember it; 86400, a day.
    """

    def __init__(self, app: App, port: int = 443, max_age: int = MAX_AGE) -> None:
        if not 0 < port < 65536:
            raise ValueError(f"port must be in 1..65535, it is {port}")
        if max_age < 0:
            raise ValueError(f"max_age must not be negative, it is {max_age}")
        self.app = app
        self._field = (b"alt-svc", f'h3=":{port}"; ma={max_age}'.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the application."""
        if scope["type"] != "http" or scope.get("http_version") == "3":
            await self.app(scope, receive, send)
            return

        async def announce(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers") or ())
                if not any(bytes(name).lower() == b"alt-svc" for name, _ in headers):
                    headers.append(self._field)
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, announce)

    @property
    def routes(self) -> Any:
        """Those of the application, where it has any: mounts are found through the middleware."""
        return getattr(self.app, "routes", ())
