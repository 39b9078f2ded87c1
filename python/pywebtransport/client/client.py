"""A client: URLs in, sessions out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pywebtransport._fields import checked_fields
from pywebtransport._keywords import first_by_position
from pywebtransport._loop import check_loop
from pywebtransport.client.failure import cause_of, connect_error
from pywebtransport.client.sharing import SharedConnections
from pywebtransport.client.statistics import ClientDiagnostics, ClientStats
from pywebtransport.client.utils import parse_webtransport_url
from pywebtransport.config import ClientConfig
from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import ClientError, ConfigurationError
from pywebtransport.manager import ConnectionManager
from pywebtransport.manager.connection import NEVER
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import URL, Headers
from pywebtransport.utils import get_logger

__all__ = ["ClientDiagnostics", "ClientStats", "WebTransportClient"]

logger = get_logger(name=__name__)


class WebTransportClient(EventEmitter):
    """Connects to servers, each session on a connection of its own unless ``allow_pooling`` is set.

    Use it with ``async with``; leaving closes every connection.

    Args:
        config: The defaults of ClientConfig when it is left out.
        connection_factory: Instead of ``WebTransportConnection.create_client``; called with the
            keywords config, host, port, path and proxy_addr.
        session_factory: Instead of ``WebTransportSession``; called with the keywords connection,
            session_id, max_streams, max_incoming_streams and stream_cleanup_interval.
    """

    def __init__(
        self,
        *,
        config: ClientConfig | None = None,
        connection_factory: Callable[..., Awaitable[WebTransportConnection]] | None = None,
        session_factory: Callable[..., Awaitable[WebTransportSession]] | None = None,
    ) -> None:
        super().__init__()
        self._config = config or ClientConfig()
        self._connection_factory = connection_factory or WebTransportConnection.create_client
        self._session_factory = session_factory
        self._connections = ConnectionManager(
            max_connections=self._config.max_connections,
            connection_cleanup_interval=self._config.connection_cleanup_interval,
            connection_idle_check_interval=self._config.connection_idle_check_interval,
            connection_idle_timeout=NEVER,
        )
        self._shared = SharedConnections()
        self._default_headers: Headers = {}
        self._stats = ClientStats()
        self._is_active = False
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._is_active else "not entered"
        return f"<{type(self).__name__} {state}, {len(self._connections)} connections>"

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise ClientError("the client is closed; make a new one")
        await self._connections.__aenter__()
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

    @property
    def config(self) -> ClientConfig:
        """As given, or the defaults."""
        return self._config

    @property
    def events(self) -> EventEmitter:
        """The client's emitter, which is the client."""
        return self

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._is_closed

    def set_default_headers(self, *, headers: Headers) -> None:
        """Send these fields with every request, instead of earlier defaults."""
        self._default_headers = dict(headers)

    @first_by_position
    async def connect(
        self,
        url: URL,
        *,
        timeout: float | None = None,
        headers: Headers | None = None,
        wt_available_protocols: list[str] | None = None,
    ) -> WebTransportSession:
        """Open a connection and a session on it.

        Args:
            url: ``https://host[:port][/path][?query]``.
            timeout: Seconds for the whole of it; ``None``: ``config.connect_timeout`` (30 s).
            headers: Request fields, over the default ones and those of the configuration.
            wt_available_protocols: Application protocols to offer, most wanted first;
                ``session.wt_protocol`` has the server's choice.

        Raises:
            ClientError: Always; the server answered with another status than 2xx
                (``status_code``, ``headers``), or the client is closed or was not entered.
            ConnectConfigurationError: ``url`` is none of a WebTransport server, or a header or a
                setting cannot work; also a ConfigurationError.
            ConnectFailed: The server was not reached or ended the connection; also a
                ConnectionError, as are the next three.
            ConnectTimeoutError: No answer in time; also a TimeoutError.
            ConnectCertificateError: The server is not trusted, or does not trust this client; also
                a CertificateError.
            ConnectHandshakeError: The server does not speak HTTP/3 over QUIC; also a
                HandshakeError.
        """
        return await self._open(url, timeout, headers, wt_available_protocols)

    @first_by_position
    async def connect_optimistic(
        self,
        url: URL,
        *,
        headers: Headers | None = None,
        wt_available_protocols: list[str] | None = None,
        timeout: float | None = None,
    ) -> WebTransportSession:
        """As :meth:`connect`, but return before the server has answered the request.

        What needs the answer waits for it; ``session.ensure_ready()`` does nothing else.
        """
        session = await self._open(
            url, timeout, headers, wt_available_protocols, is_optimistic=True
        )
        session._waits_for_answer = True
        return session

    async def diagnostics(self) -> ClientDiagnostics:
        """A snapshot of the figures."""
        connections = await self._connections.get_all_resources()
        return ClientDiagnostics(
            stats=replace(self._stats),
            connection_states=dict(Counter(connection.state for connection in connections)),
        )

    async def close(self) -> None:
        """Close every connection, all at the same time. Idempotent.

        Raises:
            InvalidStateError: The client was entered in another loop.
        """
        if self._is_closed:
            return
        check_loop(self._loop)
        self._is_closed = True
        await self._connections.shutdown()

    async def _open(
        self,
        url: URL,
        timeout: float | None,
        headers: Headers | None,
        protocols: list[str] | None,
        *,
        is_optimistic: bool = False,
    ) -> WebTransportSession:
        """A session that is established, or requested, on a connection of its own."""
        if self._is_closed:
            raise ClientError("the client is closed; make a new one", target_url=url)
        if not self._is_active:
            raise ClientError(
                "WebTransportClient has not been activated: use `async with`", target_url=url
            )
        try:
            host, port, path = parse_webtransport_url(url=url)
            config = self._configured(timeout, headers, protocols)
        except ConfigurationError as error:
            raise connect_error(error, url, seconds=0, is_silent=False) from cause_of(error)
        timeout = config.connect_timeout
        stats = self._stats
        stats.connections_attempted += 1
        started = time.perf_counter()
        connection: WebTransportConnection | None = None
        try:
            async with asyncio.timeout(timeout):
                if config.allow_pooling:
                    session = await self._open_shared(config, host, port, path, is_optimistic)
                else:
                    connection = await self._connect(config, host, port, path)
                    if is_optimistic:
                        session_id = next(iter(connection._sessions))
                    else:
                        session_id = await connection._ready_session()
                    session = await self._session(connection, session_id)
        except BaseException as error:
            stats.connections_failed += 1
            if connection is not None:
                await connection.close()
            if not isinstance(error, Exception):
                raise
            raise connect_error(
                error, url, seconds=timeout, is_silent=connection is None
            ) from cause_of(error)
        elapsed = time.perf_counter() - started
        stats.connections_successful += 1
        stats.total_connect_time += elapsed
        if elapsed < stats.min_connect_time:
            stats.min_connect_time = elapsed
        if elapsed > stats.max_connect_time:
            stats.max_connect_time = elapsed
        return session

    async def _connect(
        self, config: ClientConfig, host: str, port: int, path: str
    ) -> WebTransportConnection:
        proxy = None if config.proxy is None else await self._proxy_address(config, host, port)
        connection = await self._connection_factory(
            config=config, host=host, port=port, path=path, proxy_addr=proxy
        )
        self._connections._add(connection)
        return connection

    async def _open_shared(
        self, config: ClientConfig, host: str, port: int, path: str, is_optimistic: bool
    ) -> WebTransportSession:
        """A session on a connection of its origin that takes one more, else on a new one."""
        shared = self._shared
        origin = (host, port, None if config.proxy is None else config.proxy.url)
        may_share = True
        while True:
            async with shared.turn(origin):
                connection = shared.find(origin) if may_share else None
                is_shared = connection is not None
                if connection is None:
                    connection = await self._connect(config, host, port, path)
                    session = next(iter(connection._sessions.values()), None)
                    shared.add(origin, connection)
                else:
                    session = connection._request_of(config, host, port, path)
            if session is None:  # it was answered, and ended, before anybody could look
                return await self._session(connection, await connection._ready_session())
            try:
                if not is_optimistic:
                    await connection._answer(session)
            except (ClientError, ConnectionError):
                if not is_shared or session._status:
                    raise
                # It was full, or has ended meanwhile.
                shared.retire(origin, connection)
                may_share = False
                continue
            if self._session_factory is None:
                return session
            return await self._session(connection, session.session_id)

    async def _session(
        self, connection: WebTransportConnection, session_id: str
    ) -> WebTransportSession:
        if self._session_factory is None:
            session = connection._sessions.get(session_id) or connection._established
            connection._established = None
            assert isinstance(session, WebTransportSession)
            return session
        session = await self._session_factory(
            connection=connection,
            session_id=session_id,
            max_streams=self._config.max_streams,
            max_incoming_streams=self._config.max_incoming_streams,
            stream_cleanup_interval=self._config.stream_cleanup_interval,
        )
        await session.initialize()
        return session

    def _configured(
        self, timeout: float | None, headers: Headers | None, protocols: list[str] | None
    ) -> ClientConfig:
        """The configuration of one connection."""
        changes: dict[str, Any] = {}
        if headers or self._default_headers:
            fields = dict(self._config.headers)
            try:
                for given in (self._default_headers, headers):
                    if given:
                        fields.update(checked_fields(given))
            except ValueError as error:
                raise ConfigurationError(str(error), config_key="headers") from error
            changes["headers"] = fields
        if timeout is not None:
            changes["connect_timeout"] = timeout
        if protocols is not None:
            changes["wt_available_protocols"] = protocols
        return self._config.update(**changes) if changes else self._config

    async def _proxy_address(self, config: ClientConfig, host: str, port: int) -> tuple[str, int]:
        """Where the packets go, if not to the server."""
        from pywebtransport.client.proxy import perform_proxy_handshake

        return await perform_proxy_handshake(config=config, target_host=host, target_port=port)
