"""An application on a server: routes, middleware, start and end."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from pywebtransport._words import peer_path
from pywebtransport.config import ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import MiddlewareRejected, SessionError, WebTransportError
from pywebtransport.server.middleware import MiddlewareManager
from pywebtransport.server.router import RequestRouter, SessionHandler
from pywebtransport.server.server import WebTransportServer
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import MiddlewareProtocol

__all__ = ["ServerApp"]

logger = logging.getLogger("pywebtransport.server")

F = TypeVar("F", bound=Callable[..., Any])

FORBIDDEN = 403
NOT_FOUND = 404


class ServerApp:
    """Handlers by path, called with accepted sessions.

    A request goes through the middleware (``config.middleware`` first), then to the handler of its
    path: False or an exception of a middleware answers 403, no handler 404, and
    ``MiddlewareRejected`` what it says. When the handler returns or raises, the session is closed,
    and so is its connection, if that was the last session on it.

    Use it with ``async with`` and :meth:`serve`, or :meth:`run` it.
    """

    def __init__(self, *, config: ServerConfig | None = None) -> None:
        self._server = WebTransportServer(config=config)
        self._server._session_handler = self._serve_session
        self._router = RequestRouter()
        self._middleware = MiddlewareManager()
        self._stateful: list[Any] = []
        self._entered = AsyncExitStack()
        self._startup_handlers: list[Callable[[], Any]] = []
        self._shutdown_handlers: list[Callable[[], Any]] = []
        self._handlers: set[asyncio.Task[Any]] = set()
        for middleware in self._server.config.middleware:
            self.add_middleware(middleware=middleware)

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        try:
            await self.startup()
        except BaseException:
            await self._entered.aclose()
            await self._server.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await self.shutdown()
        finally:
            await self._server.__aexit__(exc_type, exc_val, exc_tb)

    @property
    def server(self) -> WebTransportServer:
        """The server below."""
        return self._server

    # What it is made of.

    def add_middleware(self, *, middleware: MiddlewareProtocol) -> None:
        """Append a middleware; an asynchronous context manager is also entered at startup."""
        self._middleware.add_middleware(middleware=middleware)
        if hasattr(middleware, "__aenter__") and hasattr(middleware, "__aexit__"):
            self._stateful.append(middleware)

    def middleware(self, middleware_func: MiddlewareProtocol) -> MiddlewareProtocol:
        """Decorator: append a middleware."""
        self.add_middleware(middleware=middleware_func)
        return middleware_func

    def on_startup(self, handler: F) -> F:
        """Decorator: call a function or coroutine function at startup."""
        self._startup_handlers.append(handler)
        return handler

    def on_shutdown(self, handler: F) -> F:
        """Decorator: call a function or coroutine function at shutdown."""
        self._shutdown_handlers.append(handler)
        return handler

    def route(self, *, path: str) -> Callable[[SessionHandler], SessionHandler]:
        """Decorator: the handler of a path.

        Without a query it matches the path with any query, with one only that query.
        """

        def add(handler: SessionHandler) -> SessionHandler:
            self._router.add_route(path=path, handler=handler)
            return handler

        return add

    def pattern_route(self, *, pattern: str) -> Callable[[SessionHandler], SessionHandler]:
        """Decorator: the handler of the paths that a regular expression matches whole.

        Its groups become ``session.path_params``.
        """

        def add(handler: SessionHandler) -> SessionHandler:
            self._router.add_pattern_route(pattern=pattern, handler=handler)
            return handler

        return add

    # Running.

    def run(self, *, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
        """Serve until interrupted, in an event loop of its own; Ctrl-C ends it silently.

        Other keywords are accepted and ignored. Raises what :meth:`serve` raises.
        """

        async def main() -> None:
            async with self:
                await self.serve(host=host, port=port)

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            logger.info("interrupted")

    async def serve(
        self, *, host: str | None = None, port: int | None = None, **kwargs: Any
    ) -> None:
        """Listen, and wait until the server is closed.

        Raises:
            ServerError: The server cannot listen; see ``WebTransportServer.listen``.
        """
        await self._server.listen(host=host, port=port)
        await self._server.serve_forever()

    async def startup(self) -> None:
        """Enter the stateful middleware, then call the startup handlers, in order."""
        for middleware in self._stateful:
            await self._entered.enter_async_context(middleware)
        for handler in self._startup_handlers:
            await _call(handler)

    async def shutdown(self) -> None:
        """Call the shutdown handlers, leave the middleware in reverse, cancel session handlers."""
        try:
            for handler in self._shutdown_handlers:
                await _call(handler)
        finally:
            try:
                await self._entered.aclose()
            finally:
                handlers = [task for task in self._handlers if task is not asyncio.current_task()]
                for task in handlers:
                    task.cancel()
                if handlers:
                    await asyncio.wait(handlers)

    # One session.

    async def _serve_session(self, session: WebTransportSession) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            handler = await self._admit(session)
            if handler is not None:
                await self._run_handler(handler, session)
        except SessionError as error:
            # The client left before its request was answered.
            logger.debug("session %s: %s", session.session_id, error)
        except asyncio.CancelledError:
            if not session.is_closed:
                await session.close(code=ErrorCodes.NO_ERROR, reason="server shutdown")
            raise
        finally:
            self._handlers.discard(task)

    async def _admit(self, session: WebTransportSession) -> SessionHandler | None:
        """Answer the request; the handler if it was accepted."""
        try:
            if not await self._middleware.process_request(session=session):
                session._reject(FORBIDDEN, {})
                return None
        except MiddlewareRejected as rejection:
            session._reject(rejection.status_code, rejection.headers)
            return None
        handler = self._router.route_request(session=session)
        if handler is None:
            logger.info(
                "no route: path=%s peer=%s", peer_path(session.path), session.remote_address
            )
            session._reject(NOT_FOUND, {})
            return None
        session._accept()
        self._server._log_open(session)
        return handler

    async def _run_handler(self, handler: SessionHandler, session: WebTransportSession) -> None:
        code, reason = 0, ""
        try:
            await handler(session)
        except MiddlewareRejected as rejection:
            # The request has been accepted; the code is all that can still be told.
            code, reason = rejection.status_code, str(rejection)
        except Exception as error:
            code = ErrorCodes.INTERNAL_ERROR
            if session.is_closed and _is_ours(error):
                logger.debug(
                    "handler of %s ended with its session: %r", peer_path(session.path), error
                )
            else:
                logger.exception("handler of %s failed", peer_path(session.path))
        await session.close(code=code, reason=reason)
        # The peer may have closed the session first; the connection is closed all the same.
        if session._link is not None and not session._link.sessions:
            session._connection._begin_close()


async def _call(handler: Callable[[], Any]) -> None:
    result = handler()
    if inspect.isawaitable(result):
        await result


def _is_ours(error: BaseException) -> bool:
    """Whether the library raised it, alone or in a group: a peer that left is no failure."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_ours(member) for member in error.exceptions)
    return isinstance(error, WebTransportError)
