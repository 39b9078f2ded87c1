"""The native engine: QUIC and the protocol in Rust, inside the event loop.

Each UDP socket is one ``_native.Endpoint``. The event loop owns the thread: it calls in when
the socket is readable, when the endpoint's one timer fires, and once per turn to flush what that
turn's tasks wrote. Everything on the data path is in Rust, and the methods of
:class:`NativeConnection` that the facade calls most are Rust methods without a frame here.

Clients of one event loop share a socket per address family.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import logging
import os
import socket
import ssl
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

from pywebtransport._engine.base import EngineConnection, EngineListener
from pywebtransport._engine.driver import core_config
from pywebtransport._native import (
    Endpoint,
    EndpointClient,
    EndpointConnection,
    EndpointServer,
    EndpointTransport,
    QuicConfigurationError,
)
from pywebtransport.exceptions import (
    CertificateError,
    ConnectionError,
    HandshakeError,
    TimeoutError,
    WebTransportError,
)

if TYPE_CHECKING:
    from pywebtransport.config import BaseConfig, ClientConfig, ServerConfig
    from pywebtransport.types import Address

__all__ = ["ENGINE", "NativeConnection", "NativeEngine", "NativeListener"]

ATTEMPT_DELAY = 0.25
"""Seconds between attempts at the addresses of one name (RFC 8305 §5)."""
CLIENT_FIELDS = (
    "alpn_protocols",
    "ca_certs",
    "certfile",
    "close_timeout",
    "congestion_control_algorithm",
    "connection_idle_timeout",
    "connection_keepalive_timeout",
    "flow_control_window_auto_scale",
    "flow_control_window_size",
    "initial_max_data",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "keep_alive",
    "keyfile",
    "max_field_section_size",
    "max_incoming_datagrams",
    "max_outgoing_datagrams",
    "max_pending_events_per_session",
    "max_total_pending_events",
    "mtu_discovery",
    "pending_event_ttl",
    "quic_max_concurrent_bidi_streams",
    "quic_max_concurrent_uni_streams",
    "quic_receive_window",
    "quic_send_window",
    "quic_stream_receive_window",
    "server_certificate_hashes",
    "strict",
    "verify_mode",
)
"""What of a configuration a connection is made from."""
CONNECT_STREAMS = 16
"""Bidirectional streams allowed beside those of the application, for requests."""
CRITICAL_STREAMS = 8
"""Unidirectional streams allowed beside those of the application: control, QPACK, GREASE."""
CRYPTO_ERROR = 0x100
"""First of the QUIC codes that carry a TLS alert (RFC 9001 §4.8)."""
H3_NO_ERROR = 0x100
IDLE_SOCKET_TIMEOUT = 1.0
"""How long a client socket without connections waits for the next one."""
MAX_CLIENT_SETTINGS = 64
"""Distinct client configurations whose trust stores and tickets are remembered."""
MAX_STREAM_HEADER = 16
"""A stream's window has room for its header beside the application's bytes."""
NO_APPLICATION_PROTOCOL = 120
"""TLS alert (RFC 7301 §3.2)."""
PEER_CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 116})
"""TLS alerts by which a server refuses a client's certificate (RFC 8446 §6.2)."""
VERIFY_MODES = {
    ssl.CERT_NONE: "none",
    ssl.CERT_OPTIONAL: "optional",
    ssl.CERT_REQUIRED: "required",
}

logger = logging.getLogger(__name__)


class NativeConnection(EndpointConnection):
    """``EngineConnection``, nearly all of it in Rust."""

    __slots__ = ("_gone", "_on_lost", "_peer", "_ready")

    def __init__(self) -> None:
        self._ready: asyncio.Future[None] | None = None
        self._gone: list[asyncio.Future[None]] = []
        self._on_lost: Callable[[], None] | None = None
        self._peer: Address = ("", 0)

    def connected(self) -> None:
        """The endpoint says: the handshake is complete."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def lost(self, code: int, reason: str, by: str, kind: str) -> None:
        """The endpoint says: the connection is gone, and the sink has been told."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(connect_error(self._peer, code, reason, by, kind))
        for waiter in self._gone:
            if not waiter.done():
                waiter.set_result(None)
        self._gone.clear()
        if self._on_lost is not None:
            self._on_lost()

    async def wait_closed(self) -> None:
        if not self.is_closed:
            waiter = asyncio.get_running_loop().create_future()
            self._gone.append(waiter)
            await waiter

    async def wait_connected(self, peer: Address, on_lost: Callable[[], None]) -> None:
        """Client: until the handshake is complete; raises what ended it."""
        self._peer = peer
        self._on_lost = on_lost
        self._ready = asyncio.get_running_loop().create_future()
        await self._ready


class Reactor:
    """One endpoint on one event loop."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        address: str,
        port: int = 0,
        server: EndpointServer | None = None,
        on_connection: Callable[[EngineConnection], None] | None = None,
    ) -> None:
        # A strong reference would keep the loop alive through the registry of client sockets.
        self._loop = weakref.ref(loop)
        self._on_connection = on_connection
        self._timer: asyncio.TimerHandle | None = None
        self.endpoint = Endpoint(host=address, port=port, hooks=self, server=server)
        self._fileno = self.endpoint.fileno()
        self.is_closed = False
        loop.add_reader(self._fileno, self.endpoint.on_readable)

    # called by the endpoint

    def schedule_flush(self) -> None:
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon(self.endpoint.flush)

    def arm_timer(self, delay: float) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(delay, self.endpoint.on_timer)

    def watch_writable(self, on: bool) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if on:
            loop.add_writer(self._fileno, self.endpoint.flush)
        else:
            loop.remove_writer(self._fileno)

    def watch_again(self) -> None:
        # uvloop closes its handle of a socket that had an error, right after this callback.
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon(self._watch)

    def _watch(self) -> None:
        loop = self._loop()
        if loop is not None and not self.is_closed:
            loop.remove_reader(self._fileno)
            loop.add_reader(self._fileno, self.endpoint.on_readable)

    def new_connection(self) -> NativeConnection:
        return NativeConnection()

    def accepted(self, connection: NativeConnection) -> None:
        if self._on_connection is not None:
            self._on_connection(cast(EngineConnection, connection))

    # called by the engine

    async def drain(self) -> None:
        """Until every connection has been told closed and the last packets were sent."""
        while waiting := self.endpoint.open_connections():
            await asyncio.gather(*(connection.wait_closed() for connection in waiting))
        self.endpoint.flush()

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._fileno)
            loop.remove_writer(self._fileno)
        if self._timer is not None:
            self._timer.cancel()
        self.endpoint.close()


class ClientSockets:
    """The sockets that the client connections of one event loop share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._reactors: dict[int, Reactor] = {}
        self._users: dict[int, int] = {}

    def use(self, version: int) -> Reactor:
        """The socket for IPv4 or IPv6, for one more connection."""
        loop = self._loop()
        assert loop is not None, "called on that loop"
        reactor = self._reactors.get(version)
        if reactor is None or reactor.is_closed:
            reactor = Reactor(loop=loop, address="0.0.0.0" if version == 4 else "::")
            self._reactors[version] = reactor
        self._users[version] = self._users.get(version, 0) + 1
        return reactor

    def leave(self, version: int) -> None:
        """One connection less."""
        self._users[version] -= 1
        loop = self._loop()
        if self._users[version] == 0 and loop is not None and not loop.is_closed():
            loop.call_later(IDLE_SOCKET_TIMEOUT, self._close_unused, version)

    def close(self) -> None:
        """Release the sockets of a loop that is closed."""
        while self._reactors:
            self._reactors.popitem()[1].close()

    def _close_unused(self, version: int) -> None:
        if self._users.get(version) == 0 and (reactor := self._reactors.pop(version, None)):
            reactor.close()


class NativeListener:
    """``EngineListener``: one endpoint per address of the host."""

    def __init__(self, reactors: list[Reactor]) -> None:
        self._reactors = reactors

    @property
    def local_address(self) -> Address:
        return self._reactors[0].endpoint.local_address

    def reload_certificate(self, *, certfile: str, keyfile: str) -> None:
        with certificate_errors(certfile):
            for reactor in self._reactors:
                reactor.endpoint.reload_certificate(certfile, keyfile)

    async def close(self) -> None:
        for reactor in self._reactors:
            if not reactor.is_closed:
                reactor.endpoint.close_connections(H3_NO_ERROR, "")
        try:
            for reactor in self._reactors:
                if not reactor.is_closed:
                    await reactor.drain()
        finally:
            for reactor in self._reactors:
                reactor.close()


class NativeEngine:
    """``Engine`` in Rust."""

    name = "native"

    def __init__(self) -> None:
        self._sockets: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ClientSockets] = (
            weakref.WeakKeyDictionary()
        )
        self._clients: dict[tuple[Any, ...], EndpointClient] = {}
        self._recent: tuple[ClientConfig, tuple[Any, ...], EndpointClient] | None = None

    async def listen(
        self,
        *,
        config: ServerConfig,
        host: str,
        port: int,
        on_connection: Callable[[EngineConnection], None],
    ) -> EngineListener:
        loop = running_loop()
        with certificate_errors(config.certfile):
            server = server_settings(config)
        reactors: list[Reactor] = []
        try:
            for _, address in await resolve(loop, host, port):
                try:
                    with certificate_errors(config.certfile):
                        reactor = Reactor(
                            loop=loop,
                            address=address,
                            port=port,
                            server=server,
                            on_connection=on_connection,
                        )
                except OSError as error:
                    # A name like "localhost" may have addresses this machine does not.
                    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and reactors:
                        continue
                    text = f"cannot listen on {address}:{port}: {error.strerror}"
                    raise OSError(error.errno, text) from error
                reactors.append(reactor)
                port = reactor.endpoint.local_address[1]
        except BaseException:
            for reactor in reactors:
                reactor.close()
            raise
        return NativeListener(reactors)

    async def connect(
        self,
        *,
        config: ClientConfig,
        host: str,
        port: int,
        remote: Address | None = None,
    ) -> EngineConnection:
        loop = running_loop()
        with certificate_errors(config.certfile or config.ca_certs or ""):
            client = self._client_settings(config)
        sockets = self._sockets.get(loop)
        if sockets is None:
            # A pending timer holds its loop, so a closed one does not leave by itself.
            for ended in [each for each in self._sockets if each.is_closed()]:
                self._sockets.pop(ended).close()
            sockets = self._sockets[loop] = ClientSockets(loop)
        target, target_port = remote or (host, port)
        try:
            async with asyncio.timeout(config.connect_timeout):
                try:
                    addresses = await resolve(loop, target, target_port)
                except OSError as error:
                    raise ConnectionError(
                        f"cannot resolve {target!r}: {error}", remote_address=(target, target_port)
                    ) from error
                attempts = [
                    self._attempt(sockets, client, version, (address, target_port), host)
                    for version, address in addresses
                ]
                connection = await (attempts[0] if len(attempts) == 1 else first_success(attempts))
                return cast(EngineConnection, connection)
        except builtins.TimeoutError as error:
            raise TimeoutError(
                f"no connection to {target}:{target_port} within {config.connect_timeout} s",
                timeout_duration=config.connect_timeout,
                operation="connect",
            ) from error

    async def _attempt(
        self,
        sockets: ClientSockets,
        client: EndpointClient,
        version: int,
        remote: Address,
        name: str,
    ) -> NativeConnection:
        try:
            reactor = sockets.use(version)
        except OSError as error:
            raise ConnectionError(
                f"cannot open a socket: {error}", remote_address=remote
            ) from error
        try:
            connection = cast(NativeConnection, reactor.endpoint.connect(client, remote, name))
        except (OSError, ValueError) as error:
            sockets.leave(version)
            raise ConnectionError(
                f"cannot connect to {name!r}: {error}", remote_address=remote
            ) from error
        try:
            await connection.wait_connected(remote, lambda: sockets.leave(version))
        except asyncio.CancelledError:
            connection.close(code=H3_NO_ERROR, reason="")
            raise
        return connection

    def _client_settings(self, config: ClientConfig) -> EndpointClient:
        """Equal configurations share settings, and with them session tickets."""
        files = (
            os.environ.get("SSLKEYLOGFILE"),
            stamp(config.ca_certs),
            stamp(config.certfile),
            stamp(config.keyfile),
        )
        # Mostly the same object comes again, and it cannot have changed.
        if self._recent is not None and self._recent[0] is config and self._recent[1] == files:
            return self._recent[2]
        key = (*files, *(repr(getattr(config, field)) for field in CLIENT_FIELDS))
        client = self._clients.get(key)
        if client is None:
            if len(self._clients) >= MAX_CLIENT_SETTINGS:
                self._clients.pop(next(iter(self._clients)))
            client = self._clients[key] = client_settings(config)
        self._recent = (config, files, client)
        return client


def client_settings(config: ClientConfig) -> EndpointClient:
    verify_mode = ssl.CERT_REQUIRED if config.verify_mode is None else config.verify_mode
    return EndpointClient(
        transport=transport(config),
        core=core_config(config, is_client=True),
        alpn_protocols=config.alpn_protocols,
        verify_mode=VERIFY_MODES[verify_mode],
        ca_certs=config.ca_certs or None,
        certificate_hashes=config.certificate_digests,
        certfile=config.certfile or None,
        keyfile=config.keyfile or None,
        key_log_file=key_log_file(),
    )


def server_settings(config: ServerConfig) -> EndpointServer:
    return EndpointServer(
        certfile=config.certfile,
        keyfile=config.keyfile,
        transport=transport(config),
        core=core_config(config, is_client=False),
        alpn_protocols=config.alpn_protocols,
        verify_mode=VERIFY_MODES[config.verify_mode],
        ca_certs=config.ca_certs or None,
        key_log_file=key_log_file(),
        max_connections=config.max_connections,
        retry=config.retry,
    )


def transport(config: BaseConfig) -> EndpointTransport:
    keep_alive = None
    if config.keep_alive:
        keep_alive = min(config.connection_keepalive_timeout, config.connection_idle_timeout / 2)
    algorithm = config.congestion_control_algorithm
    return EndpointTransport(
        congestion_control_algorithm="reno" if algorithm == "new_reno" else algorithm,
        idle_timeout=config.connection_idle_timeout,
        keep_alive_interval=keep_alive,
        stream_receive_window=config.quic_stream_receive_window + MAX_STREAM_HEADER,
        receive_window=config.quic_receive_window,
        send_window=config.quic_send_window,
        max_streams_bidi=config.quic_max_concurrent_bidi_streams + CONNECT_STREAMS,
        max_streams_uni=config.quic_max_concurrent_uni_streams + CRITICAL_STREAMS,
        mtu_discovery=config.mtu_discovery,
        incoming_datagrams=config.max_incoming_datagrams,
        outgoing_datagrams=config.max_outgoing_datagrams,
        close_timeout=config.close_timeout,
    )


def key_log_file() -> str | None:
    """The file SSLKEYLOGFILE names, if it can be written."""
    path = os.environ.get("SSLKEYLOGFILE")
    if not path:
        return None
    try:
        with open(path, "ab"):
            return path
    except OSError as error:
        logger.warning("cannot log TLS secrets to %s: %s", path, error)
        return None


def connect_error(remote: Address, code: int, reason: str, by: str, kind: str) -> WebTransportError:
    """What ended a handshake, in the words of the package."""
    peer = f"{remote[0]}:{remote[1]}"
    if kind == "tls":
        alert = code - CRYPTO_ERROR
        said = reason or f"TLS alert {alert}"
        if by == "local" and reason.startswith("invalid peer certificate"):
            return CertificateError(
                f"the certificate of {peer} is not accepted: {said}",
                error_code=code,
                certificate_error=said,
            )
        if by == "remote" and alert in PEER_CERTIFICATE_ALERTS:
            return CertificateError(
                f"{peer} does not accept our certificate: {said}",
                error_code=code,
                certificate_error=said,
            )
        return HandshakeError(
            f"TLS handshake with {peer} failed: {said}",
            error_code=code,
            handshake_stage="alpn" if alert == NO_APPLICATION_PROTOCOL else "tls",
        )
    if kind == "version":
        return HandshakeError(f"{peer} speaks no QUIC version of ours", handshake_stage="quic")
    if kind == "idle":
        return TimeoutError(f"no answer from {peer}", operation="connect")
    if kind == "unreachable":
        return ConnectionError(f"cannot reach {peer}: {reason}", remote_address=remote)
    return ConnectionError(
        f"{peer} closed the connection during the handshake, code {code:#x}: "
        f"{reason or 'no reason given'}",
        error_code=code,
        remote_address=remote,
    )


@contextlib.contextmanager
def certificate_errors(path: str) -> Iterator[None]:
    try:
        yield
    except QuicConfigurationError as error:
        raise CertificateError(
            str(error), certificate_path=path, certificate_error=str(error)
        ) from error


def running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    if type(loop).__name__ == "ProactorEventLoop":
        raise NotImplementedError(
            "the native engine needs an event loop with add_reader: on Windows use "
            "asyncio.SelectorEventLoop, or engine='aioquic'"
        )
    return loop


async def resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[tuple[int, str]]:
    """IP version and text of a host's addresses, in the order of preference; none twice."""
    if host in ("", "*"):
        return [(6, "::")]
    try:
        return [(ip_address(host).version, host)]
    except ValueError:
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(
        dict.fromkeys(
            (6 if family == socket.AF_INET6 else 4, cast(str, address[0]))
            for family, _, _, _, address in infos
        )
    )


async def first_success(
    attempts: Iterable[Coroutine[Any, Any, NativeConnection]],
) -> NativeConnection:
    """The first to succeed, each started when the one before has failed or is slow."""
    pending: set[asyncio.Task[NativeConnection]] = set()
    failure: BaseException | None = None
    waiting = iter(attempts)
    exhausted = False
    try:
        while True:
            if not exhausted:
                attempt = next(waiting, None)
                if attempt is None:
                    exhausted = True
                else:
                    pending.add(asyncio.create_task(attempt))
            if not pending:
                raise failure or ConnectionError("the name has no address")
            done, pending = await asyncio.wait(
                pending,
                timeout=None if exhausted else ATTEMPT_DELAY,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result()
                failure = failure or error
    finally:
        for task in pending:
            task.cancel()
        for unused in waiting:
            unused.close()


def stamp(path: str | None) -> tuple[int, int] | None:
    """A file as it is now: a replaced file makes another configuration."""
    if not path:
        return None
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


ENGINE = NativeEngine()
