"""A server of one ASGI application."""

from __future__ import annotations

import logging
from typing import Any

from pywebtransport._sparse_log import SparseLog
from pywebtransport._waiting import ends_task
from pywebtransport._words import peer_path
from pywebtransport.asgi._http import RequestMessages, request_scope
from pywebtransport.asgi._lifespan import Lifespan, LifespanMode
from pywebtransport.asgi._mounts import mounted, refusal
from pywebtransport.asgi._session import SessionMessages, session_scope
from pywebtransport.asgi._types import App
from pywebtransport.config import ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.server.app import INTERNAL_SERVER_ERROR, NOT_FOUND, ServerApp, is_ours
from pywebtransport.server.request import HttpRequest
from pywebtransport.server.router import SessionHandler
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import SessionState

__all__ = ["AsgiServer", "run", "serve"]

logger = logging.getLogger("pywebtransport.server")


class AsgiServer(ServerApp):
    """Serves an ASGI application over HTTP/3: requests, WebTransport sessions, its lifespan.

    It is a :class:`ServerApp`: middleware and routes of its own come first, sessions of all other
    paths go to the application, as the scope ``webtransport``; the page "WebTransport over ASGI"
    has the messages. An application that Starlette or FastAPI routes serves the sessions of what is
    mounted in it.

    The application starts when the server is entered, before the port is bound, and ends after its
    sessions and requests. When a call of it returns, its session is closed; when it raises, the
    session is closed with code 1, and the traceback logged with the session's id.

    Args:
        app: An ASGI 3 application.
        config: As of ServerApp; a certificate is needed.
        lifespan: ``"auto"``: an application that raises when it is called with the scope
            ``lifespan`` takes none; ``"on"``: then the server does not start; ``"off"``: it is not
            called with it.
    """

    def __init__(
        self, app: App, *, config: ServerConfig | None = None, lifespan: LifespanMode = "auto"
    ) -> None:
        if not callable(app):
            raise TypeError(f"an ASGI application is callable, this is {app!r}")
        super().__init__(config=config, request_handler=self._serve_request)
        self.app = app
        self._lifespan = Lifespan(app, lifespan)
        self._refusals = SparseLog(logger)
        self._router.set_default_handler(handler=self._serve_asgi)

    def _contents(self) -> str:
        return f"the application {getattr(self.app, '__name__', type(self.app).__name__)}"

    async def startup(self) -> None:
        """As of ServerApp; then the application starts.

        Raises:
            ServerError: The application says that it cannot start.
        """
        await super().startup()
        await self._lifespan.startup()

    async def shutdown(self) -> None:
        """As of ServerApp; then the application ends, which takes no longer than a handler may."""
        try:
            await super().shutdown()
        finally:
            await self._call_in_time(self._lifespan.shutdown)

    def _welcome(self, session: WebTransportSession, handler: SessionHandler) -> None:
        # The application answers by itself.
        if handler != self._serve_asgi:
            super()._welcome(session, handler)

    async def _serve_asgi(self, session: WebTransportSession) -> None:
        app, scope = mounted(self.app, session_scope(session, self._lifespan.state))
        if app is None:
            logger.info(
                "nothing is mounted: path=%s session=%s",
                peer_path(session.path),
                session.session_id,
            )
            session._reject(NOT_FOUND, "nothing is mounted")
            return
        messages = SessionMessages(session, lambda: self._server._answered(session))
        path, session_id = peer_path(session.path), session.session_id
        try:
            await app(scope, messages.receive, messages.send)
        except BaseException as error:
            if ends_task(error):
                raise
            if session.is_closed and is_ours(error):
                logger.debug("session %s: the application: %s", session_id, error)
            elif session.state is SessionState.CONNECTING:
                # One that takes no sessions is asked for them as often as clients like.
                log = logger.log if messages.is_begun else self._refusals.log
                log(
                    logging.ERROR,
                    "application failed before it answered: path=%s session=%s%s",
                    path,
                    session_id,
                    refusal(error),
                    exc_info=True,
                )
                session._reject(INTERNAL_SERVER_ERROR, "the application failed")
            else:
                logger.exception("application failed: path=%s session=%s", path, session_id)
                await session.close(ErrorCodes.INTERNAL_ERROR, close_connection=False)
            return
        finally:
            messages.leave()
        if session.state is SessionState.CONNECTING:
            logger.error(
                "application returned without an answer: path=%s session=%s", path, session_id
            )
            session._reject(INTERNAL_SERVER_ERROR, "no answer")

    async def _serve_request(self, request: HttpRequest) -> None:
        messages = RequestMessages(request)
        scope = request_scope(request, self._lifespan.state)
        try:
            await self.app(scope, messages.receive, messages.send)
        except Exception as error:
            if not request.is_disconnected:
                raise
            logger.debug("%r: the application: %s", request, error)
            return
        if request.status is not None and not (messages.is_complete or request.is_disconnected):
            logger.error("application returned with its response unfinished: %r", request)
            request.abort()


async def serve(
    app: App,
    *,
    config: ServerConfig | None = None,
    host: str | None = None,
    port: int | None = None,
    lifespan: LifespanMode = "auto",
) -> None:
    """Serve an application until this is cancelled; see :class:`AsgiServer`.

    Raises:
        ServerError: The application cannot start, or the server not listen.
    """
    async with AsgiServer(app, config=config, lifespan=lifespan) as server:
        await server.serve(host=host, port=port)


def run(
    app: App,
    *,
    config: ServerConfig | None = None,
    lifespan: LifespanMode = "auto",
    **kwargs: Any,
) -> None:
    """Serve an application until SIGINT (Ctrl-C) or SIGTERM, in an event loop of its own.

    As ``ServerApp.run``, which takes ``kwargs``: ``host``, ``port`` and the rest.
    """
    AsgiServer(app, config=config, lifespan=lifespan).run(**kwargs)
