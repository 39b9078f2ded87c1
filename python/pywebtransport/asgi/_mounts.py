"""WebTransport applications in the routes of a framework.

Routers of frameworks know ``http`` and ``websocket``; Starlette's asserts that a scope is one of
them. So a session is taken to the application that is mounted at its path without them.
"""

from __future__ import annotations

from typing import Any

from pywebtransport.asgi._types import App, Receive, Scope, Send
from pywebtransport.exceptions import MiddlewareRejected
from pywebtransport.server.arguments import check_handler
from pywebtransport.server.router import SessionHandler

__all__ = ["as_asgi", "mounted", "refusal"]

FULL_MATCH = 2
"""The value of Starlette's ``Match.FULL``."""
FRAMEWORKS = ("fastapi", "starlette")


def mounted(app: App, scope: Scope) -> tuple[App | None, Scope]:
    """The application that serves a session, and its scope; None: no mount has its path.

    An application that is no router of Starlette's kind serves every session itself.
    """
    routes = _routes(app)
    # Where a request would be redirected to the path with a slash, a session cannot be.
    for path in (scope["path"], f"{scope['path']}/"):
        for route in routes:
            inner = getattr(route, "app", None)
            if inner is None or not hasattr(route, "routes"):
                continue  # An endpoint, which serves requests.
            here = {**scope, "path": path}
            match, changes = route.matches({**here, "type": "websocket"})
            if match.value == FULL_MATCH:
                return mounted(inner, {**here, **changes})
    is_routing_only = routes and type(app).__call__.__module__.partition(".")[0] in FRAMEWORKS
    return None if is_routing_only else app, scope


def refusal(error: BaseException) -> str:
    """What to add to the log of an application that failed before it answered a session."""
    trace, module = error.__traceback__, ""
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    if isinstance(error, AssertionError) and module.partition(".")[0] in FRAMEWORKS:
        return (
            f": {module} takes no sessions. Serve the Starlette or FastAPI application itself, so"
            " that what app.mount() has mounted is found, or route sessions before they reach it"
        )
    return ""


def _routes(app: Any) -> list[Any]:
    """Those of Starlette's kind: others have another way to match."""
    routes = list(getattr(app, "routes", None) or ())
    return routes if all(hasattr(route, "matches") for route in routes) else []


def as_asgi(handler: SessionHandler) -> App:
    """A handler of sessions as an ASGI application, to be mounted in one.

    ``app.mount("/live", as_asgi(live))``: ``live`` is called with an accepted
    :class:`WebTransportSession`, as by a ``ServerApp``, and the session is closed when it returns.
    The scope of the request is ``session.data["scope"]``.

    Raises:
        TypeError: ``handler`` is no coroutine function of one argument.
    """
    check_handler(handler)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        session: Any = scope.get("extensions", {}).get("pywebtransport", {}).get("session")
        if session is None:
            raise RuntimeError(
                f"as_asgi serves WebTransport sessions of pywebtransport, this is {scope['type']}"
            )
        await receive()
        session.data["scope"] = scope
        await send({"type": "webtransport.accept"})
        try:
            await handler(session)
        except MiddlewareRejected as rejection:
            await session.close(rejection.status_code, reason=str(rejection))

    return serve
