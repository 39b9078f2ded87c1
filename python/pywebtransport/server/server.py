"""A listening server: connections in, requests for sessions out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._engine.base import (
    BoundSocket,
    CloseInfo,
    EngineConnection,
    EngineListener,
    RequestHead,
)
from pywebtransport._engine.select import get_engine
from pywebtransport._link.link import Link
from pywebtransport._loop import check_loop
from pywebtransport._origins import Origins
from pywebtransport._sparse_log import SparseLog
from pywebtransport._waiting import where
from pywebtransport._words import address_text, peer_text
from pywebtransport.config import ServerConfig
from pywebtransport.connection.base import ConnectionBase, request_data
from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import (
    ConnectionError,
    ServerError,
    SessionError,
    WebTransportError,
)
from pywebtransport.manager import ConnectionManager, SessionManager
from pywebtransport.manager.connection import NEVER
from pywebtransport.server.access_log import (
    log_rejected,
    log_request,
    log_session_closed,
    log_session_open,
)
from pywebtransport.server.arguments import check_address, check_handler
from pywebtransport.server.ledger import Ledger, ServerSnapshot
from pywebtransport.server.listening import check_bound
from pywebtransport.server.request import HttpRequest, RequestHandler, serve_request
from pywebtransport.server.statistics import ServerDiagnostics, ServerStats
from pywebtransport.server.unanswered import Unanswered
from pywebtransport.session.base import SessionBase
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import Address, EventType, SessionState
from pywebtransport.utils import inspect_certificate

if TYPE_CHECKING:
    from pywebtransport.server.protocol import WebTransportServerProtocol

__all__ = [
    "ServerDiagnostics",
    "ServerStats",
    "WebTransportServer",
    "WebTransportServerProtocol",
]

logger = logging.getLogger("pywebtransport.server")

FORBIDDEN = 403
NOT_FOUND = 404
TOO_MANY_REQUESTS = 429
INTERNAL_SERVER_ERROR = 500
SERVICE_UNAVAILABLE = 503

CANCELLATION_GRACE = 0.1
"""Seconds in which a handler has to end that is cancelled a second time."""
GOING_AWAY = "server shutdown"
"""The reason of the close that sessions see when their server ends; its code is 0."""


class WebTransportServer(EventEmitter):
    """Accepts connections and emits SESSION_REQUEST for each session that a client asks for.

    The event's data are the fields of the request, ``connection`` and ``session``; answer with
    ``await session.accept()`` or ``await session.reject(status_code=...)``. Without a listener
    requests are answered with 404. :class:`ServerApp` adds routes and middleware.

    Use it with ``async with``, then :meth:`listen`.
    """

    def __init__(
        self,
        *,
        config: ServerConfig | None = None,
        request_handler: RequestHandler | None = None,
    ) -> None:
        """``request_handler`` is called with each ordinary HTTP request, in a task of its own;
        without it such requests are answered with 404.

        Raises:
            TypeError: ``request_handler`` is no coroutine function of one argument.
        """
        super().__init__()
        if request_handler is not None:
            check_handler(request_handler)
        self._config = config or ServerConfig()
        self._request_handler = request_handler
        self._connection_manager = ConnectionManager(
            max_connections=self._config.max_connections,
            connection_cleanup_interval=self._config.connection_cleanup_interval,
            connection_idle_check_interval=self._config.connection_idle_check_interval,
            connection_idle_timeout=NEVER,
        )
        self._session_manager = SessionManager(
            max_sessions=self._config.max_sessions,
            session_cleanup_interval=self._config.session_cleanup_interval,
        )
        self._stats = ServerStats()
        self._ledger = Ledger()
        self._listener: EngineListener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        """In which it was entered."""
        self._is_active = False
        self._is_starting = False
        """A call of listen() is under way; close() takes that back."""
        self._is_draining = False
        """Connections and requests that come now are refused."""
        self._is_closing = False
        self._session_handler: Callable[[WebTransportSession], Coroutine[Any, Any, None]] | None = (
            None
        )
        """Who answers requests instead of listeners: a ServerApp."""
        self._tasks: set[asyncio.Task[None]] = set()
        """Handlers of sessions, in all their stages."""
        self._origins = Origins(self._config.allowed_origins)
        self._strangers = SparseLog(logger)
        self._crowds = SparseLog(logger)
        self._unanswered = Unanswered(self._config.request_timeout, self._ledger.limits_hit)
        self._idle: asyncio.Event | None = None
        """Set when no session and no handler is left; for a server that waits for that."""
        self._closed: asyncio.Event = asyncio.Event()

    def __repr__(self) -> str:
        where = self.local_address if self.is_serving else "not serving"
        return f"<{type(self).__name__} {where}, {len(self._connection_manager)} connections>"

    async def __aenter__(self) -> Self:
        await self._connection_manager.__aenter__()
        await self._session_manager.__aenter__()
        self._loop = asyncio.get_running_loop()
        self._is_active = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()
        if self._is_active:
            self._is_active = False
            await self._session_manager.shutdown()
            await self._connection_manager.shutdown()

    def _set(self, **fields: Any) -> None:
        """Where and with what it listens next, and whose pages it lets in."""
        self._config = self._config.update(**fields)
        self._origins = Origins(self._config.allowed_origins)

    @property
    def config(self) -> ServerConfig:
        """As given, or the defaults."""
        return self._config

    @property
    def connection_manager(self) -> ConnectionManager:
        """The connections that have not ended."""
        return self._connection_manager

    @property
    def events(self) -> EventEmitter:
        """The server's emitter, which is the server."""
        return self

    @property
    def is_serving(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    @property
    def local_address(self) -> Address | None:
        """The bound address; None when it does not listen."""
        return None if self._listener is None else self._listener.local_address

    @property
    def local_addresses(self) -> list[Address]:
        """Every bound address: a name such as ``localhost`` may have several."""
        return [] if self._listener is None else self._listener.local_addresses

    @property
    def session_manager(self) -> SessionManager:
        """The sessions that have not ended."""
        return self._session_manager

    async def listen(
        self,
        *,
        host: str | None = None,
        port: int | None = None,
        sock: socket.socket | None = None,
        reuse_port: bool = False,
    ) -> None:
        """Bind a UDP socket and begin to accept connections.

        Args:
            host: A name or an address; ``None``: ``config.bind_host``.
            port: ``None``: ``config.bind_port``. 0: a free one, which ``local_address`` tells.
            sock: A bound UDP socket to use instead, such as one that systemd has opened. It belongs
                to the server from now on, which closes it.
            reuse_port: Bind with SO_REUSEPORT, so that other sockets of this user can have the
                same address. The kernel spreads packets over them by the client's address: a
                client that moves is lost. :meth:`ServerApp.run` with ``workers`` does better.

        Raises:
            ServerError: It listens already, has not been entered, has no certificate, or the
                address cannot be bound; the text says which, with the path or the address.
        """
        check_address(host, port)
        address = host or self._config.bind_host, self._config.bind_port if port is None else port
        sockets: tuple[BoundSocket, ...] = ()
        if sock is not None:
            if host is not None or port is not None or reuse_port:
                raise ServerError("sock is bound already: leave out host, port and reuse_port")
            address = check_bound(sock)
            sockets = (BoundSocket(sock),)
        await self._listen(address, sockets=sockets, reuse_port=reuse_port)

    async def _listen(
        self,
        address: Address,
        *,
        sockets: Sequence[BoundSocket] = (),
        reuse_port: bool = False,
    ) -> None:
        if not self._is_active:
            raise ServerError("WebTransportServer has not been activated: use `async with`")
        if self._listener is not None:
            raise ServerError(f"the server listens on {self.local_address} already")
        if self._is_starting:
            raise ServerError("the server is about to listen already: another listen() runs")
        self._is_starting = True
        try:
            listener = await self._bind(address, sockets, reuse_port)
            if not self._is_starting:
                await listener.close()
                raise ServerError(
                    "the server was closed while it began to listen", bind_address=address
                )
        finally:
            self._is_starting = False
        self._listener = listener
        self._closed = asyncio.Event()
        self._stats.start_time = time.time()
        self._ledger.begin()
        logger.info("listening on %s", ", ".join(map(address_text, listener.local_addresses)))

    async def _bind(
        self, address: Address, sockets: Sequence[BoundSocket], reuse_port: bool
    ) -> EngineListener:
        certfile = self._config.certfile
        if not certfile:
            raise ServerError(
                "no certificate: set ServerConfig.certfile and keyfile"
                " (pywebtransport.utils.generate_self_signed_cert makes a pair)",
                bind_address=address,
            )
        try:
            for problem in inspect_certificate(path=certfile):
                logger.warning("%s", problem)
            return await get_engine(self._config).listen(
                config=self._config,
                host=address[0],
                port=address[1],
                on_connection=self._accept,
                serves_requests=self._serves_requests,
                reuse_port=reuse_port,
                sockets=sockets,
            )
        except (WebTransportError, OSError, ValueError, NotImplementedError) as error:
            text = error.message if isinstance(error, WebTransportError) else str(error)
            if isinstance(error, OSError) and error.strerror:
                text = error.strerror
            refusal = "cannot listen on "
            if not text.startswith(refusal):  # An engine names the one of a name's addresses.
                text = f"{refusal}{address_text(address)}: {text}"
            raise ServerError(text, bind_address=address) from error

    async def reload_certificate(
        self, *, certfile: str | None = None, keyfile: str | None = None
    ) -> None:
        """Show another certificate to clients that connect from now on; nobody is disconnected.

        Args:
            certfile: ``None``: ``config.certfile`` again, which may have been replaced.
            keyfile: ``None``: ``config.keyfile`` again.

        Raises:
            ServerError: The server does not listen.
            CertificateError: The pair cannot be read or used; the one in use stays.
        """
        if self._listener is None:
            raise ServerError("the server does not listen: await server.listen()")
        certfile, keyfile = certfile or self._config.certfile, keyfile or self._config.keyfile
        self._listener.reload_certificate(certfile=certfile, keyfile=keyfile)
        self._config = self._config.update(certfile=certfile, keyfile=keyfile)
        for problem in inspect_certificate(path=certfile):
            logger.warning("%s", problem)
        logger.info("new connections see the certificate of %s", certfile)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; when cancelled, close it first.

        Raises:
            ServerError: It does not listen.
        """
        if self._listener is None:
            raise ServerError("the server does not listen: await server.listen()")
        try:
            await self._closed.wait()
        except asyncio.CancelledError:
            logger.info("cancelled, closing")
            raise
        finally:
            await self.close()

    async def close(self) -> None:
        """Close every session and connection and cancel the handlers, then free the port.

        Sessions see code 0 and the reason "server shutdown". Within ``config.close_timeout`` (5 s)
        what was written reaches the peers and the handlers clean up; who needs longer is logged and
        left. The server can listen again afterwards. Does nothing when there is nothing to close.

        Raises:
            InvalidStateError: The server was entered in another loop.
        """
        check_loop(self._loop)
        await self._wind_up()

    @property
    def _serves_requests(self) -> bool:
        return self._request_handler is not None

    def _stop_accepting(self) -> None:
        """From now on connections and requests are refused; :meth:`_wind_up` ends that."""
        self._is_draining = True

    async def _wind_up(self, patience: float | None = None) -> None:
        """Close what there is, and free the port; ``patience`` may be less than close_timeout."""
        self._is_starting = False
        if self._is_closing:
            await self._closed.wait()
            return
        loop = asyncio.get_running_loop()
        listener = self._listener
        deadline = loop.time()
        self._is_closing = self._is_draining = True
        self._closed = asyncio.Event() if self._closed.is_set() else self._closed
        try:
            deadline = loop.time() + (self._config.close_timeout if patience is None else patience)
            await self._end_connections(deadline)
        finally:
            self._listener = None
            try:
                if listener is not None:
                    self._ledger.end(listener.handshakes())
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(deadline):
                            await listener.close()
            finally:
                for connection in await self._connection_manager.get_all_resources():
                    # Its peer did not answer in time, and the socket is gone.
                    connection._on_closed(CloseInfo(ErrorCodes.H3_NO_ERROR, GOING_AWAY, "local"))
                self._is_closing = self._is_draining = False
                self._closed.set()
                if listener is not None:
                    logger.info("closed")

    async def _let_end(self, grace: float, hurry: asyncio.Event) -> None:
        """Ask the peers to end their sessions; handlers may go on for a while, or until a hurry."""
        connections = await self._connection_manager.get_all_resources()
        for connection in connections:
            connection._begin_drain()
        if not self._tasks and not self._session_manager:
            return
        self._idle = asyncio.Event()
        logger.info(
            "told %d connections to end their %d sessions; %d handlers have %g s",
            len(connections),
            len(self._session_manager),
            len(self._tasks),
            grace,
        )
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._idle, hurry)]
        try:
            await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiting:
                waiter.cancel()
            self._idle = None

    async def _end_connections(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        handlers = {task for task in self._tasks if task is not asyncio.current_task()}
        for task in handlers:
            task.cancel()
        if handlers:
            logger.info("cancelling %d handlers", len(handlers))
            # They close their sessions themselves.
            await asyncio.sleep(0)
        connections = await self._connection_manager.get_all_resources()
        closing = {
            loop.create_task(connection._close_within(deadline - loop.time(), reason=GOING_AWAY))
            for connection in connections
        }
        if not handlers | closing:
            return
        _, left = await asyncio.wait(handlers | closing, timeout=max(0.0, deadline - loop.time()))
        if not left:
            return
        # A handler that was cancelled may be closing its session, and wait for a peer that is gone.
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCELLATION_GRACE)
        for task in left & handlers:
            logger.error("a handler ignores its cancellation and is left running: %s", where(task))
        # Nobody waits for them again.
        self._tasks -= left

    def _look_idle(self) -> None:
        if self._idle is not None and not self._tasks and not self._session_manager:
            self._idle.set()

    async def diagnostics(self) -> ServerDiagnostics:
        """A snapshot of the figures."""
        if self._stats.start_time is not None:
            self._stats.uptime = time.time() - self._stats.start_time
        connections = await self._connection_manager.get_all_resources()
        sessions = await self._session_manager.get_all_resources()
        return ServerDiagnostics(
            stats=self._stats,
            connection_states=dict(Counter(connection.state for connection in connections)),
            session_states=dict(Counter(session.state for session in sessions)),
            is_serving=self.is_serving,
            certfile_path=self._config.certfile,
            keyfile_path=self._config.keyfile,
            max_connections=self._config.max_connections,
            handlers=len(self._tasks),
        )

    def snapshot(self) -> ServerSnapshot:
        """The figures of now: sessions, traffic, datagrams lost and dropped, limits that were met.

        Costs some microseconds for each connection that is open.
        """
        listener = self._listener
        return self._ledger.snapshot(
            connections=[each._engine_stats() for each in self._connection_manager._all()],
            handshakes=None if listener is None else listener.handshakes(),
            accepted=self._stats.connections_accepted,
            sessions=len(self._session_manager),
            http_requests=self._stats.http_requests,
            handlers=len(self._tasks),
        )

    # What the engine brings.

    def _accept(self, engine: EngineConnection) -> None:
        """A handshake is complete on the listener's socket."""
        self._take(engine, is_open=self._listener is not None)

    def _accept_carried(self, engine: EngineConnection) -> WebTransportConnection | None:
        """A handshake is complete on a socket of somebody else's."""
        return self._take(engine, is_open=self._is_active)

    def _take(self, engine: EngineConnection, *, is_open: bool) -> WebTransportConnection | None:
        if not is_open or self._is_draining:
            self._stats.connections_rejected += 1
            logger.info(
                "connection from %s refused: going away", address_text(engine.remote_address)
            )
            engine.close(code=ErrorCodes.H3_NO_ERROR, reason=GOING_AWAY)
            return None
        if len(self._connection_manager) >= self._config.max_connections:
            self._stats.connections_rejected += 1
            self._ledger.limits_hit["max_connections"] += 1
            self._crowds.warning(
                "connection from %s refused: max_connections=%d are open",
                address_text(engine.remote_address),
                self._config.max_connections,
            )
            engine.close(code=ErrorCodes.H3_EXCESSIVE_LOAD, reason="too many connections")
            return None
        self._stats.connections_accepted += 1
        connection = WebTransportConnection(config=self._config)
        connection._on_request = self._requested
        connection._on_session_end = self._session_ended
        connection._on_end = self._connection_ended
        if self._serves_requests:
            connection._on_http_request = self._request_received
        try:
            self._connection_manager._add(connection)
        except ConnectionError as error:
            self._stats.connection_errors += 1
            self._crowds.warning("connection from %s: %s", engine.remote_address, error)
            engine.close(code=ErrorCodes.H3_EXCESSIVE_LOAD, reason=str(error))
            return None
        connection._start(engine)
        return connection

    def _requested(self, session: WebTransportSession) -> None:
        if self._is_draining:
            session._reject(SERVICE_UNAVAILABLE, "the server ends")
            return
        try:
            self._session_manager._add(session)
        except SessionError:
            self._ledger.limits_hit["max_sessions"] += 1
            self._crowds.warning(
                "session from %s rejected: max_sessions=%d are open",
                address_text(session.remote_address),
                self._config.max_sessions,
            )
            session._reject(TOO_MANY_REQUESTS, f"max_sessions={self._config.max_sessions}")
            return
        fields = session._headers or {}
        origin = fields.get("origin")
        if origin is not None and not self._origins.allow(origin, fields.get(":authority")):
            self._ledger.limits_hit["allowed_origins"] += 1
            self._strangers.warning(
                "session from %s rejected: the page's origin %s is none of allowed_origins",
                address_text(session.remote_address),
                peer_text(origin),
            )
            session._reject(FORBIDDEN, f"origin {origin}")
            return
        is_heard = self._has_listeners(EventType.SESSION_REQUEST)
        self._unanswered.add(session)
        if is_heard:
            listener = self._spawn(self._tell_request(session))
            if self._session_handler is None:
                self._unanswered.handle(session, listener)
        if self._session_handler is not None:
            self._unanswered.handle(session, self._spawn(self._session_handler(session)))
        elif not is_heard:
            session._reject(NOT_FOUND, "nobody listens")

    def _request_received(self, connection: ConnectionBase, link: Link, head: RequestHead) -> None:
        assert isinstance(connection, WebTransportConnection)
        request = HttpRequest(connection, link, head)
        handler = self._request_handler
        assert handler is not None, "who asks for requests has a handler"
        if link.handlers >= self._config.max_requests_per_connection:
            # Their clients have given them up, and the handlers go on.
            self._ledger.limits_hit["max_requests_per_connection"] += 1
            request.abort(ErrorCodes.H3_REQUEST_REJECTED)
            return
        self._stats.http_requests += 1
        link.handlers += 1
        self._spawn(self._serve_request(link, request, refuse if self._is_draining else handler))

    async def _serve_request(
        self, link: Link, request: HttpRequest, handler: RequestHandler
    ) -> None:
        started = time.monotonic()
        try:
            await serve_request(request, handler)
        finally:
            link.handlers -= 1
            if self._config.access_log:
                log_request(request, time.monotonic() - started)

    async def _tell_request(self, session: WebTransportSession) -> None:
        """One that takes long, since it serves the session, must not delay the next."""
        await self.emit(
            event_type=EventType.SESSION_REQUEST, data=request_data(session), source=self
        )

    def _connection_ended(self, connection: ConnectionBase) -> None:
        self._ledger.add(connection._engine_stats())

    def _session_ended(self, session: SessionBase) -> None:
        self._ledger.ended(session)
        if self._unanswered.discard(session) and session._status is None:
            self._stats.requests_abandoned += 1
        if self._idle is not None:
            self._look_idle()
        if not self._config.access_log:
            return
        if session._stats.ready_at is None:
            log_rejected(session)
        else:
            log_session_closed(session)

    def _answered(self, session: SessionBase) -> None:
        """A handler's session was accepted: from now on the handler is not hurried."""
        self._unanswered.discard(session)
        self._ledger.accepted()
        if self._config.access_log:
            log_session_open(session)

    def _handler_failed(self, event: Event) -> None:
        """A listener raised: if it was to answer a request, nobody else will."""
        if event.type is EventType.SESSION_REQUEST and event.data is not None:
            session = event.data["session"]
            if session._state == SessionState.CONNECTING and self._session_handler is None:
                session._reject(INTERNAL_SERVER_ERROR, "a listener failed")

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._idle is not None:
            self._look_idle()


async def refuse(request: HttpRequest) -> None:
    """The server goes: another may answer."""
    await request.respond(SERVICE_UNAVAILABLE, end=True)


def __getattr__(name: str) -> Any:
    """``WebTransportServerProtocol``, without loading aioquic for everybody else."""
    if name == "WebTransportServerProtocol":
        from pywebtransport.server.protocol import WebTransportServerProtocol

        return WebTransportServerProtocol
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
