"""The engine over aioquic: binding, connecting, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import builtins
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aioquic.quic.configuration import QuicConfiguration

from pywebtransport._engine.addresses import (
    NO_SUCH_ADDRESS,
    SocketAddress,
    first_success,
    resolve,
    resolve_local,
)
from pywebtransport._engine.aioquic_admission import Admission
from pywebtransport._engine.aioquic_connection import AioquicConnection
from pywebtransport._engine.aioquic_endpoint import (
    ClientEndpoint,
    ServerEndpoint,
    ServerRouter,
    open_socket,
)
from pywebtransport._engine.aioquic_inbound import Limits
from pywebtransport._engine.aioquic_quic import Quic
from pywebtransport._engine.aioquic_tls import (
    KeyLog,
    certificate_fault,
    check_pinned,
    client_configuration,
    server_configuration,
)
from pywebtransport._engine.base import (
    BoundSocket,
    CloseInfo,
    EngineConnection,
    Handshakes,
    SessionRequest,
)
from pywebtransport._engine.driver import core_config
from pywebtransport._engine.rules import (
    CONNECT_STREAMS,
    CRITICAL_STREAMS,
    CRYPTO_ERROR,
    HANDSHAKE_TIMEOUT,
    LINGER,
    MAX_ALERT,
    connect_error,
    connect_timed_out,
)
from pywebtransport._words import address_text
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import CertificateError, HandshakeError, TimeoutError

if TYPE_CHECKING:
    from cryptography import x509

    from pywebtransport.config import ClientConfig, ServerConfig
    from pywebtransport.types import Address

__all__ = [
    "ENGINE",
    "AioquicEngine",
    "AioquicListener",
    "create_quic",
    "inbound_limits",
]

logger = logging.getLogger(__name__)

KINDS = {"Idle timeout": "idle", "Could not find a common protocol version": "version"}
"""How aioquic says what no peer has said."""


class AioquicEngine:
    """``Engine`` over aioquic."""

    name = "aioquic"

    async def listen(
        self,
        *,
        config: ServerConfig,
        host: str,
        port: int,
        on_connection: Callable[[EngineConnection], None],
        serves_requests: bool = False,
        reuse_port: bool = False,
        sockets: Sequence[BoundSocket] = (),
    ) -> AioquicListener:
        key_log = KeyLog.from_environment()
        configuration = server_configuration(
            config, certfile=config.certfile, keyfile=config.keyfile, key_log=key_log
        )
        listener = AioquicListener(
            config, configuration, key_log, on_connection, serves_requests=serves_requests
        )
        if sockets:
            await listener.take(sockets)
        else:
            await listener.bind(host, port, reuse_port=reuse_port)
        return listener

    async def connect(
        self,
        *,
        config: ClientConfig,
        host: str,
        port: int,
        remote: Address | None = None,
        request: SessionRequest | None = None,
    ) -> EngineConnection:
        key_log = KeyLog.from_environment()
        configuration = client_configuration(config, server_name=host, key_log=key_log)
        target = remote or (host, port)

        async def attempt(address: SocketAddress) -> AioquicConnection:
            return await _ClientAttempt(config, configuration, *address).run()

        try:
            async with asyncio.timeout(config.connect_timeout):
                connection = await first_success(attempt, await resolve(*target))
        except TimeoutError:
            raise
        except builtins.TimeoutError as error:
            raise connect_timed_out(target, config.connect_timeout) from error
        if request is not None:
            try:
                connection.open_session(
                    authority=request.authority,
                    path=request.path,
                    headers=request.headers,
                    protocols=request.protocols,
                )
            except BaseException:
                connection.close(code=ErrorCodes.H3_NO_ERROR, reason="")
                raise
        return connection


class _ClientAttempt:
    """One handshake with one address."""

    def __init__(
        self,
        config: ClientConfig,
        configuration: QuicConfiguration,
        family: int,
        address: tuple[Any, ...],
    ) -> None:
        self._config = config
        self._configuration = configuration
        self._family = family
        self._address = address
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> AioquicConnection:
        peer = f"{self._address[0]}:{self._address[1]}"
        try:
            endpoint = ClientEndpoint(open_socket(self._family, connect=self._address))
        except OSError as error:
            said = error.strerror or str(error)
            raise connect_error(self._address[:2], 0, said, "local", "unreachable") from error
        await endpoint.open()
        endpoint.connection = connection = AioquicConnection(
            quic=create_quic(self._config, self._configuration),
            core_config=core_config(self._config, is_client=True),
            limits=inbound_limits(self._config, HANDSHAKE_TIMEOUT),
            endpoint=endpoint,
            on_handshake=self._on_handshake,
            on_gone=self._on_gone,
        )
        connection.start(endpoint.peer_name)
        try:
            await self._connected
        except asyncio.CancelledError:
            connection.close(code=ErrorCodes.H3_NO_ERROR, reason="")
            raise
        if connection.close_info is not None:
            raise _connect_error(
                connection.close_info,
                self._address,
                connection.socket_error,
                connection.peer_certificate,
            )
        self._check_pins(connection)
        if connection.alpn_protocol not in self._config.alpn_protocols:
            connection.close(code=ErrorCodes.H3_NO_ERROR, reason="")
            raise HandshakeError(
                f"{peer} does not speak HTTP/3 (its ALPN is {connection.alpn_protocol!r})",
                handshake_stage="alpn",
            )
        return connection

    def _check_pins(self, connection: AioquicConnection) -> None:
        if not self._config.server_certificate_hashes:
            return
        try:
            check_pinned(connection.peer_certificate, self._config.certificate_digests)
        except CertificateError as error:
            connection.close(code=error.error_code, reason="")
            raise

    def _on_handshake(self, _connection: AioquicConnection) -> None:
        if not self._connected.done():
            self._connected.set_result(None)

    def _on_gone(self, connection: AioquicConnection) -> None:
        connection.release_endpoint()
        if not self._connected.done():
            self._connected.set_result(None)


class AioquicListener:
    """``EngineListener`` over aioquic: one router, a socket for each address of the host."""

    def __init__(
        self,
        config: ServerConfig,
        configuration: QuicConfiguration,
        key_log: KeyLog | None,
        on_connection: Callable[[EngineConnection], None],
        *,
        serves_requests: bool,
    ) -> None:
        self._config = config
        self._core_config = core_config(config, is_client=False, serves_requests=serves_requests)
        self._limits = inbound_limits(config, HANDSHAKE_TIMEOUT)
        self._key_log = key_log
        self._on_connection = on_connection
        self._endpoints: list[ServerEndpoint] = []
        self._router = ServerRouter(
            configuration=configuration,
            admission=Admission(
                max_connections=config.max_connections,
                max_per_address=config.max_connections_per_address,
                always_retry=config.retry,
            ),
            create=self._create_connection,
        )

    @property
    def local_address(self) -> Address:
        address = self._endpoints[0].local_address
        if address is None:
            raise OSError(errno.EBADF, "the listener is closed")
        return address

    @property
    def local_addresses(self) -> list[Address]:
        addresses = (endpoint.local_address for endpoint in self._endpoints)
        return [address for address in addresses if address is not None]

    async def take(self, sockets: Sequence[BoundSocket]) -> None:
        """Listen on sockets that are bound already."""
        for bound in sockets:
            sock = socket.socket(fileno=bound.sock.detach())
            sock.setblocking(False)
            await self._open(sock)

    async def bind(self, host: str, port: int, *, reuse_port: bool) -> None:
        addresses = await resolve_local(host, port)
        refused: OSError | None = None
        for family, address in addresses:
            if self._endpoints:
                # The same port on every address, also when the system chose it.
                address = (address[0], self.local_address[1], *address[2:])
            try:
                sock = open_socket(family, bind=address, reuse_port=reuse_port)
            except OSError as error:
                if error.errno in NO_SUCH_ADDRESS:
                    refused = error  # such as ::1 on a machine without IPv6
                    continue
                await self.close()
                raise _bind_error(error, address) from error
            await self._open(sock)
        if refused is not None and not self._endpoints:
            raise _bind_error(refused, (host, port)) from refused

    async def _open(self, sock: socket.socket) -> None:
        endpoint = ServerEndpoint(sock, self._router)
        await endpoint.open()
        self._endpoints.append(endpoint)

    def handshakes(self) -> Handshakes:
        return replace(self._router.handshakes)

    def reload_certificate(self, *, certfile: str, keyfile: str) -> None:
        self._router.configuration = server_configuration(
            self._config, certfile=certfile, keyfile=keyfile, key_log=self._key_log
        )

    async def close(self) -> None:
        self._router.is_closing = True
        connections = list(self._router.connections)
        for connection in connections:
            connection.close(code=ErrorCodes.H3_NO_ERROR, reason="")
        try:
            await asyncio.gather(*(connection.wait_closed() for connection in connections))
        finally:
            for connection in connections:
                connection.leave()
            for endpoint in self._endpoints:
                endpoint.close()
            # asyncio closes the sockets in the next turn of the loop.
            for _ in self._endpoints:
                await asyncio.sleep(0)

    def _on_handshake(self, connection: AioquicConnection) -> None:
        remote = connection.remote_address
        assert remote is not None, "its packets came from somewhere"
        if not self._router.admission.establish(connection, remote[0]):
            self._router.handshakes.refused_full += 1
            connection.refuse()
            return
        try:
            self._on_connection(connection)
        except Exception:
            logger.exception("a new connection was not taken and is closed")
            connection.fail()

    def _create_connection(
        self,
        endpoint: ServerEndpoint,
        configuration: QuicConfiguration,
        original_id: bytes,
        retry_id: bytes | None,
    ) -> AioquicConnection:
        return AioquicConnection(
            quic=create_quic(self._config, configuration, original_id, retry_id),
            core_config=self._core_config,
            limits=self._limits,
            endpoint=endpoint,
            on_handshake=self._on_handshake,
            on_gone=self._router.forget,
            on_connection_id=self._router.change_id,
        )


def create_quic(
    config: ClientConfig | ServerConfig,
    configuration: QuicConfiguration,
    original_id: bytes | None = None,
    retry_id: bytes | None = None,
    *,
    kind: type[Quic] = Quic,
) -> Quic:
    """QUIC with the limits of the configuration; a server's with the ids of its client."""
    return kind(
        configuration=configuration,
        max_streams_bidi=config.quic_max_concurrent_bidi_streams + CONNECT_STREAMS,
        max_streams_uni=config.quic_max_concurrent_uni_streams + CRITICAL_STREAMS,
        max_datagrams=config.max_outgoing_datagrams,
        original_destination_connection_id=original_id,
        retry_source_connection_id=retry_id,
    )


def inbound_limits(config: ClientConfig | ServerConfig, handshake_timeout: float) -> Limits:
    """What a connection may keep, and for how long."""
    return Limits(
        stream_buffer=config.max_stream_buffer_size,
        send_window=config.quic_send_window,
        incoming_datagrams=config.max_incoming_datagrams,
        max_datagram_frame_size=config.max_datagram_size,
        handshake_timeout=handshake_timeout,
        first_session_timeout=getattr(config, "first_session_timeout", None),
        request_linger=getattr(config, "request_keep_alive_timeout", LINGER),
        close_timeout=config.close_timeout,
        keep_alive=config.connection_keepalive_timeout if config.keep_alive else None,
        has_session_credit=config.initial_max_data > 0,
    )


def _bind_error(error: OSError, address: tuple[Any, ...]) -> OSError:
    return OSError(error.errno, f"cannot listen on {address_text(address)}: {error.strerror}")


def _connect_error(
    info: CloseInfo,
    address: tuple[Any, ...],
    cause: Exception | None,
    certificate: x509.Certificate | None,
) -> Exception:
    """Why there is no connection, as the exception that says so."""
    if cause is not None:
        said = getattr(cause, "strerror", None) or str(cause)
        error = connect_error(address[:2], info.code, said, info.by, "unreachable")
        error.__cause__ = cause
        return error
    reason = info.reason
    if info.by != "remote" and (fault := certificate_fault(reason, certificate)) is not None:
        return connect_error(address[:2], info.code, reason, info.by, "tls", fault)
    if info.is_application:
        kind = "application"
    elif CRYPTO_ERROR <= info.code <= CRYPTO_ERROR + MAX_ALERT:
        kind = "tls"
    else:
        kind = KINDS.get(reason, "quic") if info.by == "transport" else "quic"
    return connect_error(address[:2], info.code, reason, info.by, kind)


ENGINE = AioquicEngine()
