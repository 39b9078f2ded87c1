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
import contextlib
import errno
import os
import socket
import weakref
from collections.abc import Callable, Coroutine, Iterable
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

from pywebtransport._engine.base import (
    EngineClosed,
    EngineConnection,
    EngineListener,
    SessionRequest,
)
from pywebtransport._engine.native_reactor import ClientSockets, NativeConnection, Reactor
from pywebtransport._engine.native_settings import (
    CLIENT_FIELDS,
    certificate_errors,
    client_settings,
    server_settings,
)
from pywebtransport._native import EndpointClient
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import ConnectionError, TimeoutError

if TYPE_CHECKING:
    from pywebtransport.config import ClientConfig, ServerConfig
    from pywebtransport.types import Address

__all__ = ["ENGINE", "NativeEngine", "NativeListener"]

ATTEMPT_DELAY = 0.25
"""Seconds between attempts at the addresses of one name (RFC 8305 §5)."""
MAX_CLIENT_SETTINGS = 64
"""Distinct client configurations whose trust stores and tickets are remembered."""


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
    ) -> EngineListener:
        loop = running_loop()
        with certificate_errors(config.certfile):
            server = server_settings(config)
        reactors: list[Reactor] = []
        absent: OSError | None = None
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
                    text = f"cannot listen on {address}:{port}: {error.strerror}"
                    refused = OSError(error.errno, text)
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
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
        loop = running_loop()
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
                except (OSError, UnicodeError) as error:
                    raise ConnectionError(
                        f"cannot resolve {target!r}: {error}", remote_address=(target, target_port)
                    ) from error
                attempts = [
                    self._attempt(sockets, client, version, (address, target_port), host, request)
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
        request: SessionRequest | None,
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
        connection.on_lost(lambda: sockets.leave(version))
        try:
            if request is not None:
                # When not even the first packet could leave, the wait tells why.
                with contextlib.suppress(EngineClosed):
                    connection.open_session(
                        authority=request.authority,
                        path=request.path,
                        headers=request.headers,
                        protocols=request.protocols,
                    )
            await connection.wait_connected(remote)
        except (asyncio.CancelledError, ValueError):
            connection.close(code=ErrorCodes.H3_NO_ERROR, reason="")
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
            with certificate_errors(config.certfile or config.ca_certs or ""):
                client = self._clients[key] = client_settings(config)
        self._recent = (config, files, client)
        return client


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
    if version := version_of(host):
        return [(version, host)]
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(
        dict.fromkeys(
            (6 if family == socket.AF_INET6 else 4, cast(str, address[0]))
            for family, _, _, _, address in infos
        )
    )


@lru_cache(maxsize=256)
def version_of(host: str) -> int:
    """4 or 6 of an address, 0 of a name."""
    try:
        return ip_address(host).version
    except ValueError:
        return 0


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
            connected = []
            for task in done:
                error = task.exception()
                if error is None:
                    connected.append(task.result())
                else:
                    failure = failure or error
            if connected:
                for spare in connected[1:]:
                    spare.close(code=ErrorCodes.H3_NO_ERROR, reason="")
                return connected[0]
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
