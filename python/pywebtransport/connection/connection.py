"""One QUIC connection and the sessions on it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._engine.base import (
    FIRST_SESSION,
    EngineClosed,
    SessionRefused,
    SessionRequest,
)
from pywebtransport._engine.rules import remedy
from pywebtransport._engine.select import get_engine
from pywebtransport._loop import check_loop
from pywebtransport._waiting import wait_among
from pywebtransport._words import reason_text
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.connection.base import Refusal
from pywebtransport.connection.facts import ConnectionFacts
from pywebtransport.connection.info import ConnectionDiagnostics, ConnectionInfo
from pywebtransport.constants import DEFAULT_SECURE_PORT, ErrorCodes
from pywebtransport.exceptions import (
    CertificateError,
    ConfigurationError,
    ConnectionError,
    SessionError,
    WebTransportError,
)
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import (
    Address,
    ConnectionState,
    Headers,
    SessionId,
    SessionState,
)
from pywebtransport.utils import get_logger

if TYPE_CHECKING:
    from pywebtransport.protocol.session_info import WebTransportSessionInfo

__all__ = ["ConnectionDiagnostics", "ConnectionInfo", "WebTransportConnection"]

logger = get_logger(name=__name__)

MAX_CODE = (1 << 62) - 1


class WebTransportConnection(ConnectionFacts):
    """A QUIC connection that speaks HTTP/3 and WebTransport.

    ``WebTransportClient`` and ``WebTransportServer`` make connections; so do :meth:`create_client`
    and :meth:`create_server`. It emits CONNECTION_ESTABLISHED {connection_id}, SESSION_REQUEST on a
    server, SESSION_READY and SESSION_CLOSED of its sessions, CONNECTION_LOST {connection_id, code,
    reason} when the end was not asked for here, and CONNECTION_CLOSED {connection_id, code, reason}
    at every end, once.
    """

    @classmethod
    async def create_client(
        cls,
        *,
        config: ClientConfig,
        host: str,
        port: int,
        path: str = "/",
        proxy_addr: Address | None = None,
    ) -> Self:
        """Connect, and request a session for ``path`` with ``config.headers``.

        Returns when the handshake is complete; :meth:`wait_for_ready_session` waits for the answer
        to the request. ``host`` is verified in the server's certificate, as ``config.verify_mode``
        says, and sent as SNI.

        Args:
            config: Its ``connect_timeout`` bounds the handshake.
            host: A name or an address.
            port: 1..65535.
            path: With its query.
            proxy_addr: Where the packets go instead of to the host.

        Raises:
            ConnectionError: No connection; the text and ``__cause__`` say why.
            ConfigurationError: The engine cannot be used, or the path or a header cannot be sent.
        """
        request = _request(
            _authority(host, port), path, config.headers, config.wt_available_protocols
        )
        try:
            engine = await get_engine(config).connect(
                config=config, host=host, port=port, remote=proxy_addr, request=request
            )
        except (ConnectionError, ConfigurationError):
            raise
        except ValueError as error:
            raise ConfigurationError(f"no session can be requested: {error}") from error
        except (
            *(WebTransportError, EngineClosed, SessionRefused),
            *(OSError, NotImplementedError),
        ) as error:
            text = error.message if isinstance(error, WebTransportError) else str(error)
            if isinstance(error, CertificateError) and (hint := remedy(error, config)):
                text += f"; {hint}"
            code = error.error_code if isinstance(error, WebTransportError) else None
            raise ConnectionError(
                f"cannot connect to {host}:{port}: {text}",
                error_code=code,
                remote_address=proxy_addr or (host, port),
            ) from error
        connection = cls(config=config)
        connection._start(engine, request)
        return connection

    @classmethod
    async def create_server(cls, *, config: ServerConfig, transport: Any, protocol: Any) -> Self:
        """A connection that a server has accepted; see :meth:`accept`."""
        connection = cls(config=config)
        await connection.accept(transport=transport, protocol=protocol)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<WebTransportConnection {self.connection_id} {self._state}>"

    # Beginning.

    async def accept(self, *, transport: Any, protocol: Any) -> None:
        """Take over a connection that an engine's listener has accepted.

        A server does this for each of its connections. For a socket that ``aioquic.asyncio``
        serves there is :class:`~pywebtransport.server.server.WebTransportServerProtocol`.

        Args:
            transport: Unused; the engine's connection has its own.
            protocol: The engine's connection. Its ``set_connection(connection=...)`` is called if
                it has one.

        Raises:
            ConnectionError: This object has a connection already.
            ConfigurationError: It was not made with a ServerConfig, or ``protocol`` is no engine's
                connection.
        """
        if self._state != ConnectionState.IDLE:
            raise ConnectionError(f"accept() needs a new connection, this one is {self._state}")
        if not isinstance(self._config, ServerConfig):
            raise ConfigurationError(
                "accept() needs a ServerConfig",
                config_key="config",
                config_value=type(self._config).__name__,
            )
        if not hasattr(protocol, "set_sink"):
            raise ConfigurationError(
                "accept() takes the connection of an engine; WebTransportServerProtocol is for"
                f" those that aioquic serves, got {type(protocol).__name__}",
                config_key="protocol",
                config_value=type(protocol).__name__,
            )
        tell = getattr(protocol, "set_connection", None)
        if tell is not None:
            tell(connection=self)
        self._start(protocol)

    async def wait_ready(self, *, timeout: float = 30.0) -> None:
        """Wait until the handshake is complete.

        Raises:
            asyncio.TimeoutError: Not within ``timeout`` seconds.
            ConnectionError: The connection has ended.
        """
        if self._state == ConnectionState.IDLE:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                self._ready_waiters = waiters = self._ready_waiters or []
                await wait_among(waiters, future)
        if self._state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            raise self._closed_error()

    # Sessions.

    async def create_session(
        self,
        *,
        authority: str,
        path: str,
        headers: Headers | None = None,
        wt_available_protocols: list[str] | None = None,
    ) -> WebTransportSession:
        """Client: request another session and wait for the answer.

        Args:
            authority: ``host`` or ``host:port``.
            path: With its query.
            headers: Request fields beside those of the configuration.
            wt_available_protocols: Application protocols to offer, most wanted first.

        Raises:
            ClientError: The answer was not 2xx (the text holds ``HTTP status NNN``).
            ConnectionError: The connection has ended, or takes no further session.
            ConfigurationError: This side is the server, or the path or a header cannot be sent.
        """
        session = await self.create_session_optimistic(
            authority=authority,
            path=path,
            headers=headers,
            wt_available_protocols=wt_available_protocols,
        )
        await self._answer(session)
        return session

    async def create_session_optimistic(
        self,
        *,
        authority: str,
        path: str,
        headers: Headers | None = None,
        wt_available_protocols: list[str] | None = None,
    ) -> WebTransportSession:
        """Client: request another session and return it before the answer.

        What needs the answer waits for it. Arguments and errors as of :meth:`create_session`,
        without the ClientError.
        """
        if not isinstance(self._config, ClientConfig):
            raise ConfigurationError(
                "only a client requests sessions", config_key="config", config_value="ServerConfig"
            )
        fields = {**self._config.headers, **(headers or {})}
        session = self._request(_request(authority, path, fields, wt_available_protocols))
        session._waits_for_answer = True
        return session

    def _request_of(
        self, config: ClientConfig, host: str, port: int, path: str
    ) -> WebTransportSession:
        """Ask for a session by a configuration of its own, as :meth:`create_client` does."""
        fields, protocols = config.headers, config.wt_available_protocols
        session = self._request(_request(_authority(host, port), path, fields, protocols))
        session._waits_for_answer = True
        return session

    async def _answer(self, session: WebTransportSession) -> None:
        """Wait until a session is, or was, established; raises why it never was."""
        try:
            await session.ensure_ready()
        except SessionError as error:
            if session._stats.ready_at is None:
                raise self._refused(Refusal.of(session)) from error
        except asyncio.CancelledError:
            await session.close(close_connection=False)
            raise

    def get_all_sessions(self) -> list[WebTransportSessionInfo]:
        """What is known of each session that has not ended."""
        return [self._info(session) for session in self._sessions.values()]

    def get_session_info(self, *, session_id: SessionId) -> WebTransportSessionInfo | None:
        """What is known of one session; None when there is none of this token."""
        session = self._sessions.get(session_id)
        return None if session is None else self._info(session)

    def get_ready_session_id(self) -> SessionId | None:
        """The token of the first established session; None when there is none."""
        for session_id, session in self._sessions.items():
            if session._state == SessionState.CONNECTED:
                return session_id
        return None

    async def wait_for_ready_session(self, *, timeout: float = 30.0) -> SessionId:
        """Wait for an established session and return its token.

        Raises:
            ClientError: A session was refused or ended before (``Session closed before ready``).
            ConnectionError: None within ``timeout`` seconds, or the connection ended.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._ready_session()
        except TimeoutError:
            raise ConnectionError(
                f"no session was ready within {timeout} s",
                error_code=ErrorCodes.APP_CONNECTION_TIMEOUT,
                remote_address=self.remote_address,
            ) from None

    async def _ready_session(self) -> SessionId:
        while (session_id := self.get_ready_session_id()) is None:
            if self._established is not None:
                return self._established._session_id
            if self._refusal is not None:
                refusal, self._refusal = self._refusal, None
                raise self._refused(refusal)
            if self._state == ConnectionState.CLOSED:
                raise self._closed_error()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._session_waiters = waiters = self._session_waiters or []
            await wait_among(waiters, future)
        self._established = None
        return session_id

    # The end.

    async def graceful_shutdown(self) -> None:
        """Tell the peer that no new session is welcome, let the present ones end, then close.

        Waits ``config.close_timeout`` (5 s) at most for the sessions.
        """
        if self.is_connected:
            self._begin_drain()
            try:
                async with asyncio.timeout(self._config.close_timeout):
                    while self._sessions:
                        await next(iter(self._sessions.values())).wait_closed()
            except TimeoutError:
                logger.debug("%s closes with sessions open", self)
        await self.close()

    async def close(self, *, code: int = 0, reason: str = "") -> None:
        """End the connection and its sessions. Idempotent.

        The peer gets ``config.close_timeout`` (5 s) at most to have read the end of its sessions.

        Args:
            code: An HTTP/3 code, 62 bits; 0 becomes H3_NO_ERROR.
            reason: Text for the peer, up to 1,024 bytes in UTF-8; a longer one is cut.

        Raises:
            ValueError: ``code`` does not fit into 62 bits.
            TypeError: ``reason`` is no text.
            InvalidStateError: This is not the connection's loop.
        """
        if not isinstance(code, int) or not 0 <= code <= MAX_CODE:
            raise ValueError(f"code must be an integer in 0..{MAX_CODE}, it is {code!r}")
        reason = reason_text(reason)
        if self._link is not None:
            check_loop(self._link.loop)
        # Whoever closes has no use for a session.
        self._established = None
        await self._close_within(self._config.close_timeout, code, reason)


def _request(
    authority: str, path: str, headers: Headers, protocols: list[str] | None
) -> SessionRequest:
    """A ``host`` among the headers is the authority: HTTP/3 has no other place for it."""
    if isinstance(protocols, str):
        raise ConfigurationError(
            "wt_available_protocols is a list of names, not one of them",
            config_key="wt_available_protocols",
            config_value=protocols,
        )
    fields = {name.lower(): value for name, value in headers.items()} if headers else {}
    authority = fields.pop("host", authority)
    return SessionRequest(FIRST_SESSION, authority, path, fields, protocols or ())


def _authority(host: str, port: int) -> str:
    """RFC 9110 §7.2: without the scheme's default port; an address without its zone, which means
    nothing to others (RFC 6874 §1)."""
    name = f"[{host.partition('%')[0]}]" if ":" in host else host
    return name if port == DEFAULT_SECURE_PORT else f"{name}:{port}"
