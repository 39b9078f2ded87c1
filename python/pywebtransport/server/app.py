"""An application on a server: routes, middleware, start and end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from pywebtransport._engine.addresses import plain_address
from pywebtransport._engine.base import BoundSocket
from pywebtransport._engine.select import get_engine
from pywebtransport._keywords import first_by_position
from pywebtransport._loop import check_loop
from pywebtransport._waiting import ends_task, wait_within
from pywebtransport._words import address_text, peer_path
from pywebtransport.config import ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    MiddlewareRejected,
    ServerError,
    SessionError,
    WebTransportError,
)
from pywebtransport.server.arguments import (
    check_address,
    check_callback,
    check_no_loop,
    check_path,
    check_pattern,
)
from pywebtransport.server.middleware import MiddlewareManager
from pywebtransport.server.renewal import CertificateRenewal
from pywebtransport.server.request import RequestHandler
from pywebtransport.server.router import RequestRouter, SessionHandler
from pywebtransport.server.running import (
    HURRIED,
    LAST_RESORT,
    Import,
    default_logging,
    refuse_unknown,
    run_until_signalled,
)
from pywebtransport.server.server import GOING_AWAY, WebTransportServer
from pywebtransport.server.streams import (
    DEFAULT_MESSAGE_LIMIT,
    MessageHandler,
    StreamHandler,
    serve_streams,
)
from pywebtransport.server.workers.channel import inherited_channel
from pywebtransport.server.workers.supervisor import check_possible, supervise
from pywebtransport.server.workers.worker import serve_as_worker
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import Headers, MiddlewareProtocol, SessionState

__all__ = ["ServerApp"]

logger = logging.getLogger("pywebtransport.server")

F = TypeVar("F", bound=Callable[..., Any])
StreamHandlerT = TypeVar("StreamHandlerT", bound=StreamHandler | MessageHandler)

FORBIDDEN = 403
NOT_FOUND = 404
INTERNAL_SERVER_ERROR = 500

ESTABLISHED = (SessionState.CONNECTED, SessionState.DRAINING)

MIDDLEWARE = "middleware"
"""Cause of a refusal."""

SHUTDOWN_HANDLER_TIMEOUT = 30.0
"""Seconds that one shutdown handler may take."""


class ServerApp:
    """Handlers by path, called with accepted sessions.

    A request goes through the middleware (``config.middleware`` first), then to the handler of its
    path: False or an exception of a middleware answers 403, no handler 404, and
    ``MiddlewareRejected`` what it says. A session that a middleware has accepted by itself goes to
    the handler all the same; instead of such an answer it is closed with the status as its code.
    When the handler returns or raises, the session is closed,
    and so is its connection, if that was the last session on it.

    Use it with ``async with`` and :meth:`serve`, or :meth:`run` it.

    Args:
        config: The defaults of ServerConfig when it is left out; a certificate is needed.
        stream_handler: For every path without a handler of its own: called with each stream that a
            client opens, in a task of its own: a :class:`WebTransportStream`, or a
            :class:`WebTransportReceiveStream` where the client only writes. When it returns, its
            stream is ended; when it raises, its stream is aborted with code 1, and no other.

            Or a plain function of two arguments, for short questions that are answered at once: it
            is called, without a task, with the stream and all that the client has sent on it, once
            the client has ended it; the text or bytes that it returns are written, and the stream
            is ended. It must not block. A stream with more than 64 KiB is aborted with code 1, as
            is one on which nothing comes for ``config.read_timeout`` (60 s).
        request_handler: Called with each ordinary HTTP request (``GET``, ``POST``, ...) as an
            :class:`~pywebtransport.server.HttpRequest`, in a task of its own. None: 404. Routes and
            middleware are for sessions.
    """

    def __init__(
        self,
        *,
        config: ServerConfig | None = None,
        stream_handler: StreamHandler | MessageHandler | None = None,
        request_handler: RequestHandler | None = None,
    ) -> None:
        self._server = WebTransportServer(config=config, request_handler=request_handler)
        self._server._session_handler = self._serve_session
        self._router = RequestRouter()
        self._middleware = MiddlewareManager()
        self._stateful: list[Any] = []
        self._entered = AsyncExitStack()
        self._startup_handlers: list[Callable[[], Any]] = []
        self._shutdown_handlers: list[Callable[[], Any]] = []
        self._is_shut_down = False
        self._hurry = asyncio.Event()
        """Set when whoever asked for the end asks again."""
        self._renewal = CertificateRenewal(self._server)
        self._while_listening: list[Callable[[], Coroutine[Any, Any, None]]] = [self._renewal.run]
        self._ended_by: signal.Signals | None = None
        """What ended the last :meth:`run`."""
        if stream_handler is not None:
            self._router.set_default_handler(handler=serve_streams(stream_handler))
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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._router)} routes on {self._server!r}>"

    def _contents(self) -> str:
        return f"{len(self._router)} routes"

    # What it is made of.

    @first_by_position
    def add_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Append a middleware; an asynchronous context manager is also entered at startup.

        Raises:
            TypeError: It is no coroutine function that takes ``session``.
        """
        self._middleware.add_middleware(middleware=middleware)
        if hasattr(middleware, "__aenter__") and hasattr(middleware, "__aexit__"):
            self._stateful.append(middleware)

    def middleware(self, middleware_func: MiddlewareProtocol) -> MiddlewareProtocol:
        """Decorator: append a middleware."""
        self.add_middleware(middleware=middleware_func)
        return middleware_func

    def on_startup(self, handler: F) -> F:
        """Decorator: call a function or coroutine function, without arguments, at startup."""
        check_callback(handler)
        self._startup_handlers.append(handler)
        return handler

    def on_shutdown(self, handler: F) -> F:
        """Decorator: call a function or coroutine function, without arguments, at shutdown."""
        check_callback(handler)
        self._shutdown_handlers.append(handler)
        return handler

    @first_by_position
    def route(self, path: str) -> Callable[[SessionHandler], SessionHandler]:
        """Decorator: the handler of a path.

        Without a query it matches the path with any query, with one only that query. A path that
        has another handler is refused with ValueError, which names both.
        """

        check_path(path)

        def add(handler: SessionHandler) -> SessionHandler:
            self._router.check_free(path, handler)
            self._router.add_route(path=path, handler=handler)
            return handler

        return add

    @first_by_position
    def pattern_route(self, pattern: str) -> Callable[[SessionHandler], SessionHandler]:
        """Decorator: the handler of the paths that a regular expression matches whole.

        Its groups become ``session.path_params``. A pattern that has another handler is refused, as
        by :meth:`route`.
        """

        check_pattern(pattern)

        def add(handler: SessionHandler) -> SessionHandler:
            self._router.check_free(pattern, handler)
            self._router.add_pattern_route(pattern=pattern, handler=handler)
            return handler

        return add

    def stream_route(
        self, path: str, *, max_size: int = DEFAULT_MESSAGE_LIMIT
    ) -> Callable[[StreamHandlerT], StreamHandlerT]:
        """Decorator: the stream handler of a path; as ``stream_handler``, for this path.

        ``max_size`` is the most bytes, 64 KiB, that a plain function takes of a stream.
        """

        check_path(path)

        def add(handler: StreamHandlerT) -> StreamHandlerT:
            self._router.check_free(path, handler)
            self._router.add_route(path=path, handler=serve_streams(handler, max_size))
            return handler

        return add

    # Running.

    def run(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        workers: int = 1,
        **kwargs: Any,
    ) -> None:
        """Serve until SIGINT (Ctrl-C) or SIGTERM, in an event loop of its own; then return.

        The signal begins :meth:`shutdown`; a second one ends its patience. A certificate whose
        files change is shown to clients that connect from then on; SIGHUP reads them at once. Where
        the program has not configured logging, what the library logs from INFO on goes to stderr.

        With ``workers`` above 1 (Linux, native engine), so many processes serve the port together,
        and a session stays with its worker when its client's address changes. Each worker runs this
        program's command line anew up to here; this process only starts them, again when they die,
        and all anew on SIGHUP. Startup and shutdown handlers run in each worker.

        While the command ``pywebtransport serve`` imports the program, it does nothing: the command
        serves the application.

        Raises:
            TypeError: There is no such keyword.
            ValueError: ``workers`` is no number from 1 to 64.
            RuntimeError: An event loop runs already: ``await`` :meth:`serve` there.
            ServerError: As :meth:`serve`; or workers cannot be had here, or none of them can start.
        """
        refuse_unknown("run", kwargs)
        if Import.is_under_way:
            return
        check_no_loop()
        check_address(host, port)
        channel = inherited_channel()
        if channel is not None:
            self._ended_by = serve_as_worker(_Program(self), channel)
            return
        config = self._server.config
        check_possible(workers, get_engine(config).name)
        if workers > 1:
            address = host or config.bind_host, config.bind_port if port is None else port
            self._ended_by = supervise(address, workers)
            return

        async def main() -> None:
            async with self:
                await self._server.listen(host=host, port=port)
                logger.info("serving %s; Ctrl-C or SIGTERM ends it", self._contents())
                await self._until_closed()

        try:
            with default_logging():
                self._ended_by = run_until_signalled(
                    main,
                    hurry=lambda: self._hurry.set(),
                    renew=self._renewal.ask,
                    patience=self._server.config.close_timeout,
                    deadline=LAST_RESORT,
                )
        except ServerError as error:
            # The texts say what is wrong; the way through engine and event loop would bury them.
            cause: BaseException | None = error
            while cause is not None:
                cause = cause.with_traceback(None).__cause__
            raise error

    async def serve(
        self, *, host: str | None = None, port: int | None = None, **kwargs: Any
    ) -> None:
        """Listen, and wait until the server is closed; when cancelled, :meth:`shutdown` first.

        A certificate whose files change is shown to clients that connect from then on.

        Raises:
            TypeError: There is no such keyword.
            ServerError: The server cannot listen; see ``WebTransportServer.listen``.
        """
        refuse_unknown("serve", kwargs)
        await self._server.listen(host=host, port=port)
        await self._until_closed()

    async def _until_closed(self) -> None:
        closed = asyncio.create_task(self._server._closed.wait())
        hurry = asyncio.create_task(self._hurry.wait())
        tasks = [closed, hurry, *(asyncio.create_task(run()) for run in self._while_listening)]
        try:
            await asyncio.wait((closed, hurry), return_when=asyncio.FIRST_COMPLETED)
            if not closed.done():
                # The first wish was lost: a startup handler has swallowed its cancellation.
                await self.shutdown()
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await self.shutdown()
            raise
        finally:
            for task in tasks:
                task.cancel()

    async def startup(self) -> None:
        """Enter the stateful middleware, then call the startup handlers, in order."""
        self._is_shut_down = False
        self._hurry = asyncio.Event()
        for middleware in self._stateful:
            await self._entered.enter_async_context(middleware)
        for handler in self._startup_handlers:
            await _call(handler)

    async def shutdown(self) -> None:
        """End in good order, once: every step is logged, and none waits without end.

        Connections and requests that come from now on are refused. The shutdown handlers are
        called, while sessions still live. Then peers are told that the server goes (GOAWAY, drain),
        and session handlers have ``config.graceful_timeout`` (1 s) to return. The middleware is
        left in reverse, the rest of the handlers are cancelled, sessions closed with code 0 and the
        reason "server shutdown", and the port is freed.

        A shutdown handler that raises keeps nothing of this from being done; what the first of them
        has raised is raised at the end.
        """
        if self._is_shut_down:
            return
        check_loop(self._server._loop)
        self._is_shut_down = True
        server = self._server
        server._stop_accepting()
        failures: list[Exception] = []
        try:
            if self._shutdown_handlers:
                logger.info("calling %d shutdown handlers", len(self._shutdown_handlers))
            for handler in self._shutdown_handlers:
                try:
                    await self._call_in_time(handler)
                except Exception as error:
                    logger.exception("shutdown %r failed", handler)
                    failures = failures or [error]
            await server._let_end(server.config.graceful_timeout, self._hurry)
        finally:
            try:
                await self._entered.aclose()
            finally:
                await server._wind_up(HURRIED if self._hurry.is_set() else None)
        if failures:
            raise failures.pop()  # not from a variable that its traceback would hold

    async def _call_in_time(self, handler: Callable[[], Any]) -> None:
        """Call a shutdown handler, but do not let it stand in the way for ever."""
        result = handler()
        if not inspect.isawaitable(result):
            return
        call, hurry = asyncio.ensure_future(result), asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait(
                (call, hurry),
                timeout=SHUTDOWN_HANDLER_TIMEOUT,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            hurry.cancel()
            call.cancel()
        if call.cancelled():
            raise ServerError(f"shutdown {handler!r} has waited for what somebody cancelled")
        if call.done():
            call.result()
        else:
            limit = HURRIED if self._hurry.is_set() else self._server.config.close_timeout
            await wait_within(call, limit, f"shutdown {handler!r}")

    # One session.

    async def _serve_session(self, session: WebTransportSession) -> None:
        """The whole of it in one frame: it is kept as long as the session."""
        try:
            handler = await self._admit(session)
            if handler is None:
                return
            code, reason = 0, ""
            try:
                await handler(session)
                # What the handler has not ended by itself is complete.
                if session._link is not None and session._link.streams:
                    session._end_streams()
            except BaseException as error:
                if ends_task(error):
                    raise
                code, reason = self._failed(session, error)
            if not session.is_closed:
                await session.close(code=code, reason=reason)
            # The peer may have closed the session first; the connection is closed all the same.
            if session._link is not None and session._link.is_done:
                session._connection._begin_close()
        except SessionError as error:
            # The client left before its request was answered.
            logger.debug("session %s: %s", session.session_id, error)
        except asyncio.CancelledError:
            if not session.is_closed:
                await session.close(code=ErrorCodes.NO_ERROR, reason=GOING_AWAY)
            raise
        finally:
            if session._state == SessionState.CONNECTING:
                session._reject(INTERNAL_SERVER_ERROR, "no answer")

    async def _admit(self, session: WebTransportSession) -> SessionHandler | None:
        """Answer the request; the handler if it was accepted."""
        try:
            if not await self._middleware.process_request(session=session):
                await self._refuse(session, FORBIDDEN, MIDDLEWARE)
                return None
        except MiddlewareRejected as rejection:
            try:
                await self._refuse(session, rejection.status_code, MIDDLEWARE, rejection.headers)
            except ValueError as error:
                path = peer_path(session.path)
                logger.error("the rejection of %s by a middleware cannot be sent: %s", path, error)
                await self._refuse(session, INTERNAL_SERVER_ERROR, MIDDLEWARE)
            return None
        handler = self._router.route_request(session=session)
        if handler is None:
            logger.info(
                "no route: path=%s peer=%s",
                peer_path(session.path),
                address_text(session.remote_address),
            )
            await self._refuse(session, NOT_FOUND, "no route")
            return None
        self._welcome(session, handler)
        return handler

    async def _refuse(
        self,
        session: WebTransportSession,
        status: int,
        cause: str,
        headers: Headers | None = None,
    ) -> None:
        """Reject a request; where a middleware has accepted it, close the session."""
        if session._state in ESTABLISHED:
            await session.close(code=status, reason=cause)
        else:
            session._reject(status, cause, headers)

    def _welcome(self, session: WebTransportSession, handler: SessionHandler) -> None:
        """Accept a session whose handler there is, unless a middleware has."""
        if session._state not in ESTABLISHED:
            session._accept({})
        self._server._answered(session)

    def _failed(self, session: WebTransportSession, error: BaseException) -> tuple[int, str]:
        """Code and reason of the close after what a handler has raised."""
        if isinstance(error, MiddlewareRejected):
            # The request has been accepted; the code is all that can still be told.
            return error.status_code, str(error)
        path = peer_path(session.path)
        if isinstance(error, TimeoutError):
            logger.warning("handler of %s gave up: %s", path, error)
        elif session.is_closed and is_ours(error):
            logger.debug("handler of %s ended with its session: %r", path, error)
        else:
            logger.exception("handler of %s failed", path)
        return ErrorCodes.INTERNAL_ERROR, ""


class _Program:
    """An application, as a worker serves it."""

    def __init__(self, app: ServerApp) -> None:
        self._app = app

    async def serve_sockets(
        self,
        sockets: list[BoundSocket],
        before_listening: Callable[[], Awaitable[object]],
        on_listening: Callable[[], None],
    ) -> None:
        async with self._app as app:
            await before_listening()
            await app._server._listen(plain_address(sockets[0].sock.getsockname()), sockets=sockets)
            on_listening()
            await app._until_closed()

    def hurry(self) -> None:
        self._app._hurry.set()

    def renew(self) -> None:
        self._app._renewal.ask()

    @property
    def patience(self) -> float:
        config = self._app._server.config
        handlers = len(self._app._shutdown_handlers) * SHUTDOWN_HANDLER_TIMEOUT
        return handlers + config.graceful_timeout + config.close_timeout

    @property
    def close_timeout(self) -> float:
        return self._app._server.config.close_timeout


async def _call(handler: Callable[[], Any]) -> None:
    result = handler()
    if inspect.isawaitable(result):
        await result


def is_ours(error: BaseException) -> bool:
    """Whether the library raised it, alone or in a group: a peer that left is no failure."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_ours(member) for member in error.exceptions)
    return isinstance(error, WebTransportError)
