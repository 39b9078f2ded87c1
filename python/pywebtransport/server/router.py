"""Which handler a path goes to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pywebtransport._keywords import first_by_position
from pywebtransport.server.arguments import check_handler, check_path, check_pattern, name_of
from pywebtransport.session.session import WebTransportSession

if TYPE_CHECKING:
    from pywebtransport.session.base import SessionBase

__all__ = ["RequestRouter", "SessionHandler"]

SessionHandler: TypeAlias = Callable[[WebTransportSession], Awaitable[None]]
"""Called with an accepted session; the session ends when it returns."""


class RequestRouter:
    """Exact paths first, then patterns in the order of registration, then the default handler.

    A route with a query matches that query only; one without matches any query. Patterns match the
    whole path without its query, which is the client's to choose.
    """

    def __init__(self) -> None:
        self._routes: dict[str, SessionHandler] = {}
        self._patterns: list[tuple[re.Pattern[str], SessionHandler]] = []
        self._default_handler: SessionHandler | None = None

    def __len__(self) -> int:
        return len(self._routes) + len(self._patterns)

    def route_request(self, *, session: SessionBase) -> SessionHandler | None:
        """The handler of a session's path; None when nothing fits.

        The groups of a matching pattern become ``session.path_params``.
        """
        whole = session._path or "/"
        path = whole.partition("?")[0]
        handler = self._routes.get(whole) or self._routes.get(path)
        if handler is not None:
            return handler
        for pattern, candidate in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                session.path_params = match.groups()
                return candidate
        return self._default_handler

    @first_by_position
    def add_route(self, path: str, *, handler: SessionHandler) -> None:
        """Give a path to a handler, also when it has one.

        Raises:
            ValueError: ``path`` does not begin with a slash, or has what no path has.
            TypeError: ``handler`` is no coroutine function of one argument.
        """
        check_path(path)
        check_handler(handler)
        self._routes[path] = handler

    def add_pattern_route(self, *, pattern: str, handler: SessionHandler) -> None:
        """Give the paths that a regular expression matches whole to a handler.

        Raises:
            re.error: ``pattern`` is not a regular expression.
            ValueError: ``pattern`` does not begin with a slash, as paths do.
            TypeError: ``handler`` is no coroutine function of one argument.
        """
        check_pattern(pattern)
        check_handler(handler)
        self._patterns.append((re.compile(pattern), handler))

    def check_free(self, route: str, handler: object) -> None:
        """A path or a pattern that is written down a second time is a mistake.

        Raises:
            ValueError: Another handler has it.
        """
        taken = {pattern.pattern: other for pattern, other in self._patterns}
        other = self._routes.get(route) or taken.get(route)
        if other is not None and other is not handler:
            raise ValueError(
                f"{route!r} has a handler already, {name_of(other)}:"
                f" {name_of(handler)} would never be called, or take its place"
            )

    def remove_route(self, *, path: str) -> None:
        """Forget an exact path; an unknown one is ignored."""
        self._routes.pop(path, None)

    def remove_pattern_route(self, *, pattern: str) -> None:
        """Forget a pattern; an unknown one is ignored."""
        self._patterns = [entry for entry in self._patterns if entry[0].pattern != pattern]

    def set_default_handler(self, *, handler: SessionHandler) -> None:
        """Give every other path to a handler.

        Raises:
            TypeError: ``handler`` is no coroutine function of one argument.
        """
        check_handler(handler)
        self._default_handler = handler

    def get_all_routes(self) -> dict[str, SessionHandler]:
        """A copy of the exact routes."""
        return dict(self._routes)

    def get_route_handler(self, *, path: str) -> SessionHandler | None:
        """The handler of exactly this path."""
        return self._routes.get(path)

    def get_route_stats(self) -> dict[str, Any]:
        """``exact_routes``, ``pattern_routes``, ``has_default_handler``."""
        return {
            "exact_routes": len(self._routes),
            "pattern_routes": len(self._patterns),
            "has_default_handler": self._default_handler is not None,
        }
