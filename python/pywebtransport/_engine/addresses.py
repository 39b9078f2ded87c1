"""From a host's name to the address that answers first."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import ConnectionError
from pywebtransport.types import Address

__all__ = [
    "NO_SUCH_ADDRESS",
    "Network",
    "SocketAddress",
    "bind_udp",
    "first_success",
    "network_of",
    "plain_address",
    "resolve",
    "resolve_local",
    "share_port",
    "version_of",
]

ATTEMPT_DELAY = 0.25
"""Seconds between attempts at the addresses of one name (RFC 8305 §5)."""
ANY_HOST = ("", "*")
"""Names for every address of this machine."""
NO_SUCH_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What binding says of an address that this machine does not have."""


class SocketAddress(NamedTuple):
    """One address of a host, as sockets take it."""

    family: int
    address: tuple[Any, ...]

    @property
    def host(self) -> str:
        """The address alone; a link-local one with its zone by number, as ``fe80::1%4``."""
        host: str = self.address[0].partition("%")[0]
        zone = self.address[3] if self.version == 6 else 0
        return f"{host}%{zone}" if zone else host

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return 6 if self.family == socket.AF_INET6 else 4


class Closable(Protocol):
    def close(self, *, code: int, reason: str) -> None: ...


C = TypeVar("C", bound=Closable)

Network: TypeAlias = int | str
"""What counts as one address: see :func:`network_of`."""
IPV6_NETWORK_BITS = 64
"""What one customer gets at least (RFC 6177); its addresses are his to choose."""


def plain_address(address: tuple[Any, ...]) -> Address:
    """Host and port; an IPv4 peer of a dual-stack socket by its IPv4 address."""
    host: str = address[0]
    return host.removeprefix("::ffff:") if "." in host else host, address[1]


def network_of(host: str) -> Network:
    """By what limits for each address count: an IPv4 address, or an IPv6 network of 64 bits."""
    if ":" not in host:
        return host
    address = IPv6Address(host)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else int(address) >> IPV6_NETWORK_BITS


LOCAL_NAME = "localhost"
LOOPBACK = "127.0.0.1", "::1"


async def resolve(host: str, port: int) -> list[SocketAddress]:
    """The addresses of a peer, in the order of preference, none twice.

    Raises:
        ConnectionError: The name has none, or cannot be one.
    """
    try:
        return await _lookup(host, port)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConnectionError(
            f"cannot resolve {host!r}: {why}", remote_address=(host, port)
        ) from error


async def resolve_local(host: str, port: int) -> list[SocketAddress]:
    """The addresses to listen on; for every address of the machine one that is dual-stack, if it
    has IPv6 at all.

    Raises:
        OSError: The name has none, or cannot be one.
    """
    if host in ANY_HOST:
        host = "::" if _has_ipv6() else "0.0.0.0"
    if host == LOCAL_NAME:
        # Browsers take the name for both, whatever the machine's files say (RFC 6761 §6.3).
        hosts = LOOPBACK if _has_ipv6() else LOOPBACK[:1]
        return [address for each in hosts for address in await _lookup(each, port)]
    try:
        return await _lookup(host, port)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OSError(errno.EADDRNOTAVAIL, f"cannot resolve {host!r}: {why}") from error


def bind_udp(address: SocketAddress, port: int) -> socket.socket:
    """A UDP socket on an address that others may bind as well (SO_REUSEPORT).

    Raises:
        OSError: It cannot be bound, or this system has no such option.
    """
    sock = socket.socket(address.family, socket.SOCK_DGRAM)
    try:
        share_port(sock)
        if address.family == socket.AF_INET6:
            is_wildcard = address.host == "::"
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_wildcard)
        sock.bind((address.address[0], port, *address.address[2:]))
    except OSError:
        sock.close()
        raise
    return sock


def share_port(sock: socket.socket) -> None:
    """Let other sockets have the port as well, of this user."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise OSError(errno.EOPNOTSUPP, "reuse_port: this system has no SO_REUSEPORT")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


async def first_success(
    attempt: Callable[[SocketAddress], Awaitable[C]], addresses: Sequence[SocketAddress]
) -> C:
    """The first connection, each attempt started when the one before has failed or is slow.

    Attempts that are not needed any more are cancelled, and have ended when this returns.
    """
    if len(addresses) == 1:
        return await attempt(addresses[0])
    running: set[asyncio.Task[C]] = set()
    failure: BaseException | None = None
    untried = iter(addresses)
    exhausted = False
    try:
        while True:
            if not exhausted:
                address = next(untried, None)
                if address is None:
                    exhausted = True
                else:
                    running.add(asyncio.ensure_future(attempt(address)))
            if not running:
                raise failure or ConnectionError("the name has no address")
            await asyncio.wait(
                running,
                timeout=None if exhausted else ATTEMPT_DELAY,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in [each for each in running if each.done()]:
                running.discard(task)
                if (error := task.exception()) is None:
                    return task.result()
                failure = failure or error
    finally:
        # An exception knows this frame, which is not to know it in turn.
        failure = error = None
        # Also those that succeeded in the very turn in which this was cancelled or returned.
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        while running:
            task = running.pop()
            if not task.cancelled() and task.exception() is None:
                task.result().close(code=ErrorCodes.H3_NO_ERROR, reason="")


async def _lookup(host: str, port: int) -> list[SocketAddress]:
    if version := version_of(host):
        return [_literal(host, port, version)]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(SocketAddress(family, address) for family, *_, address in found))


@lru_cache(maxsize=256)
def version_of(host: str) -> int:
    """4 or 6 of an address without a zone, 0 of anything else."""
    try:
        return 0 if "%" in host else ip_address(host).version
    except ValueError:
        return 0


def _literal(host: str, port: int, version: int) -> SocketAddress:
    """What a lookup would say, without a thread."""
    if version == 4:
        return SocketAddress(socket.AF_INET, (host, port))
    return SocketAddress(socket.AF_INET6, (host, port, 0, 0))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
