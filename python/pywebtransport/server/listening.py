"""Sockets that somebody else has bound, for a server to listen on."""

from __future__ import annotations

import socket

from pywebtransport._engine.addresses import plain_address
from pywebtransport.exceptions import ServerError
from pywebtransport.types import Address

__all__ = ["check_bound"]


def check_bound(sock: socket.socket) -> Address:
    """The address of a socket to listen on; ServerError: it is none."""
    try:
        is_udp = sock.type == socket.SOCK_DGRAM
        is_internet = sock.family in (socket.AF_INET, socket.AF_INET6)
        name = sock.getsockname()
    except OSError as error:
        raise ServerError(f"sock cannot be used: {error.strerror}") from error
    if not is_udp or not is_internet or name[1] == 0:
        raise ServerError(
            f"sock has to be a bound UDP socket over IPv4 or IPv6, not {sock.family.name}"
            f" {sock.type.name} on {name}"
        )
    return plain_address(name)
