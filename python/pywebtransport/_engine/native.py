"""The native engine: QUIC and the protocol in Rust, inside the event loop.

Each UDP socket is one ``_native.Endpoint``. The event loop owns the thread: it calls in when
the socket is readable, when the endpoint's one timer fires, and once per turn to flush what that
turn's tasks wrote. Everything on the data path is in Rust, and the methods of a connection that
the facade calls most are Rust methods without a frame in between.

Clients of one event loop share a socket per address family.
"""

from __future__ import annotations

import asyncio
import builtins
import os
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pywebtransport._certificates import check_pair
from pywebtransport._engine.addresses import (
    NO_SUCH_ADDRESS,
    SocketAddress,
    bind_udp,
    first_success,
    resolve,
    resolve_local,
    version_of,
)
from pywebtransport._engine.base import (
    BoundSocket,
    EngineClosed,
    EngineConnection,
    EngineListener,
    Handshakes,
    SessionRequest,
)
from pywebtransport._engine.native_reactor import ClientSockets, NativeConnection, Reactor
from pywebtransport._engine.native_settings import (
    OF_CLIENT,
    certificate_errors,
    client_settings,
    server_settings,
)
from pywebtransport._engine.rules import connect_timed_out
from pywebtransport._loop import has_readers
from pywebtransport._native import EndpointClient
from pywebtransport._words import address_text
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import ConnectionError, TimeoutError

if TYPE_CHECKING:
    from pywebtransport.config import ClientConfig, ServerConfig
    from pywebtransport.types import Address

__all__ = ["ENGINE", "NativeEngine", "NativeListener"]

MAX_CLIENT_SETTINGS = 64
"""Distinct client configurations whose trust stores and tickets are remembered."""


class NativeListener:
    """``EngineListener``: one endpoint per address of the host."""

    def __init__(self, reactors: list[Reactor]) -> None:
        self._reactors = reactors

    @property
    def local_address(self) -> Address:
        return self._reactors[0].endpoint.local_address

    @property
    def local_addresses(self) -> list[Address]:
        return [reactor.endpoint.local_address for reactor in self._reactors]

    def handshakes(self) -> Handshakes:
        counts = (Handshakes(*reactor.endpoint.handshakes()) for reactor in self._reactors)
        return sum(counts, Handshakes())

    def reload_certificate(self, *, certfile: str, keyfile: str) -> None:
        check_pair(certfile=certfile, keyfile=keyfile)
        with certificate_errors(certfile):
            for reactor in self._reactors:
                reactor.endpoint.reload_certificate(certfile, keyfile)

    async def close(self) -> None:
        for reactor in self._reactors:
            if not reactor.is_closed:
                reactor.endpoint.close_connections(ErrorCodes.H3_NO_ERROR, "")
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
        serves_requests: bool = False,
        reuse_port: bool = False,
        sockets: Sequence[BoundSocket] = (),
    ) -> EngineListener:
        loop = running_loop()
        with certificate_errors(config.certfile):
            server = server_settings(config, serves_requests=serves_requests)
        reactors: list[Reactor] = []
        absent: OSError | None = None

        def open_reactor(address: str, bound: BoundSocket | None) -> Reactor:
            with certificate_errors(config.certfile):
                return Reactor(
                    loop=loop,
                    address=address,
                    port=port,
                    bound=bound,
                    server=server,
                    on_connection=on_connection,
                )

        try:
            reactors += [open_reactor("", bound) for bound in sockets]
            for each in () if sockets else await resolve_local(host, port):
                address = each.host
                try:
                    bound = BoundSocket(bind_udp(each, port)) if reuse_port else None
                    reactor = open_reactor(address, bound)
                except OSError as error:
                    text = f"cannot listen on {address_text((address, port))}: {error.strerror}"
                    refused = OSError(error.errno, text)
                    if error.errno not in NO_SUCH_ADDRESS:
                        raise refused from error
                    # A name like "localhost" may have addresses that this machine does not.
                    absent = refused
                    continue
                reactors.append(reactor)
                port = reactor.endpoint.local_address[1]
            if absent is not None and not reactors:
                raise absent
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
        request: SessionRequest | None = None,
    ) -> EngineConnection:
        client = self._client_settings(config)
        loop = asyncio.get_running_loop()
        sockets = self._sockets.get(loop)
        if sockets is None:
            running_loop()  # Not every loop will do.
            # A pending timer holds its loop, so a closed one does not leave by itself.
            for ended in [each for each in self._sockets if each.is_closed()]:
                self._sockets.pop(ended).close()
            sockets = self._sockets[loop] = ClientSockets(loop)
        target = remote or (host, port)
        # A zone is for this machine alone (RFC 6874 §1).
        name = host.partition("%")[0]
        timeout = config.connect_timeout

        async def attempt(address: SocketAddress) -> NativeConnection:
            peer = (address.host, target[1])
            return await self._attempt(sockets, client, address.version, peer, name, request)

        try:
            if version := version_of(target[0]):
                return await self._attempt(sockets, client, version, target, name, request, timeout)
            async with asyncio.timeout(timeout):
                return await first_success(attempt, await resolve(*target))
        except TimeoutError:
            raise
        except builtins.TimeoutError as error:
            raise connect_timed_out(target, timeout) from error

    async def _attempt(
        self,
        sockets: ClientSockets,
        client: EndpointClient,
        version: int,
        remote: Address,
        name: str,
        request: SessionRequest | None,
        timeout: float | None = None,
    ) -> NativeConnection:
        try:
            reactor = sockets.use(version)
        except OSError as error:
            raise ConnectionError(
                f"cannot open a socket: {error}", remote_address=remote
            ) from error
        try:
            connection: NativeConnection = reactor.endpoint.connect(client, remote, name)  # type: ignore[assignment]
        except (OSError, ValueError) as error:
            sockets.leave(version)
            raise ConnectionError(
                f"cannot connect to {name!r}: {error}", remote_address=remote
            ) from error
        connection.on_lost(partial(sockets.leave, version))
        try:
            if request is not None:
                try:  # noqa: SIM105 - a context manager is three more calls
                    connection.open_session(
                        authority=request.authority,
                        path=request.path,
                        headers=request.headers,
                        protocols=request.protocols,
                    )
                except EngineClosed:
                    pass  # not even the first packet could leave: the wait tells why
            await connection.wait_connected(remote, timeout)
        except (asyncio.CancelledError, builtins.TimeoutError, ValueError):
            connection.close(code=ErrorCodes.H3_NO_ERROR, reason="")
            raise
        return connection

    def _client_settings(self, config: ClientConfig) -> EndpointClient:
        """Equal configurations share settings, and with them session tickets."""
        ca_certs, certfile, keyfile = config.ca_certs, config.certfile, config.keyfile
        files = (
            os.environ.get("SSLKEYLOGFILE"),
            os.environ.get("QLOGDIR"),
            stamp(ca_certs) if ca_certs else None,
            stamp(certfile) if certfile else None,
            stamp(keyfile) if keyfile else None,
        )
        # Mostly the same object comes again, and it cannot have changed; or one that only asks
        # for something else.
        if self._recent is not None and self._recent[1] == files:
            if self._recent[0] is config:
                return self._recent[2]
            if OF_CLIENT(self._recent[0]) == OF_CLIENT(config):
                return self._recent[2]
        key = (*files, *map(repr, OF_CLIENT(config)))
        client = self._clients.get(key)
        if client is None:
            if len(self._clients) >= MAX_CLIENT_SETTINGS:
                self._clients.pop(next(iter(self._clients)))
            with certificate_errors(config.certfile or config.ca_certs or ""):
                client = self._clients[key] = client_settings(config)
        self._recent = (config, files, client)
        return client


def running_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    if not has_readers(loop):
        raise NotImplementedError(
            f"the native engine needs an event loop with add_reader, and {type(loop).__name__} has "
            "none: use asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop) (Python 3.11: "
            "asyncio.Runner), or engine='aioquic'"
        )
    return loop


def stamp(path: str) -> tuple[int, int] | None:
    """A file as it is now: a replaced file makes another configuration."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


ENGINE = NativeEngine()
