"""The sockets of one port that several processes serve, and which of them gets which packet.

All sockets of an address are one SO_REUSEPORT group. A classic BPF program, which needs no
privilege, picks the socket by the packet's connection id: ids of 7 octets are the server's own and
name their place by the remainder of their second octet (``rust/quic/src/worker.rs`` makes them);
ids of 8 and more are a client's, and the places that take new connections share these. A packet so
finds its worker also when the client's address has changed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from pywebtransport._engine.addresses import SocketAddress, bind_udp, plain_address, resolve_local
from pywebtransport._words import address_text
from pywebtransport.types import Address

__all__ = ["Group", "Port", "routing_program"]

SO_ATTACH_REUSEPORT_CBPF = 51
"""socket(7); Python has no name for it."""
INSTRUCTION = struct.Struct("=HBBI")
"""``struct sock_filter``: code, jump if true, jump if false, operand."""
PROGRAM = struct.Struct("@HP")
"""``struct sock_fprog``: how many instructions, and where."""

# <linux/bpf_common.h>: what the program is made of.
LOAD_OCTET = 0x30
JUMP = 0x05
JUMP_IF_EQUAL = 0x15
JUMP_IF_AT_LEAST = 0x35
JUMP_IF_BIT = 0x45
REMAINDER = 0x94
RETURN = 0x06
RETURN_RESULT = 0x16

LONG_HEADER = 0x80
"""Of the first octet (RFC 8999 §5.1)."""
ID_LENGTH_AT = 5
"""In a long header: after the first octet and the version."""
LONG_ID_OCTET_AT = 7
SHORT_ID_OCTET_AT = 2
"""The second octet of the id, which names the place."""
MIN_CLIENT_ID = 8
"""Octets of the id that a client makes up for the server (RFC 9000 §7.2)."""


def routing_program(count: int, accepting: Sequence[int]) -> bytes:
    """Which of ``count`` places gets a packet; connections begin in those of ``accepting`` alone.

    It decides by the form of the header and the length of the id, never by the type of a packet:
    the types differ between versions of QUIC, and a client's Initial packets carry the server's id
    once it has seen one.
    """
    steps = [
        (LOAD_OCTET, 0, 0, 0),
        (JUMP_IF_BIT, 0, 4, LONG_HEADER),
        (LOAD_OCTET, 0, 0, ID_LENGTH_AT),
        (JUMP_IF_AT_LEAST, 5, 0, MIN_CLIENT_ID),
        (LOAD_OCTET, 0, 0, LONG_ID_OCTET_AT),
        (JUMP, 0, 0, 1),
        (LOAD_OCTET, 0, 0, SHORT_ID_OCTET_AT),
        (REMAINDER, 0, 0, count),
        (RETURN_RESULT, 0, 0, 0),
        # Chosen by a client.
        (LOAD_OCTET, 0, 0, LONG_ID_OCTET_AT),
        (REMAINDER, 0, 0, len(accepting)),
    ]
    for turn, place in enumerate(accepting[:-1]):
        steps += [(JUMP_IF_EQUAL, 0, 1, turn), (RETURN, 0, 0, place)]
    steps.append((RETURN, 0, 0, accepting[-1]))
    return b"".join(INSTRUCTION.pack(*step) for step in steps)


@dataclass
class Group:
    """The sockets of one address, one for each place, and what joins the places."""

    address: Address
    sockets: list[socket.socket] = field(default_factory=list)
    """By place, in the order in which they were bound: that is how the kernel counts them. None is
    ever closed or connected while others are in use, for that would change the order."""
    inboxes: list[socket.socket] = field(default_factory=list)
    outboxes: list[socket.socket] = field(default_factory=list)

    def open(self, address: SocketAddress, port: int, count: int) -> None:
        """Bind ``count`` sockets.

        Raises:
            OSError: The address cannot be bound, or somebody else has it.
        """
        # With SO_REUSEPORT a second server of this user would come in between.
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            if address.family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != "::")
            probe.bind((address.address[0], port, *address.address[2:]))
        for place in range(count):
            self.sockets.append(bind_udp(address, port))
            if place == 0:
                port = self.sockets[0].getsockname()[1]
                self.route(routing_program(count, [0]))
            inbox, outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.inboxes.append(inbox)
            self.outboxes.append(outbox)
        self.address = plain_address(self.sockets[0].getsockname())

    def route(self, program: bytes) -> None:
        """Let the program decide from the next packet on."""
        memory = ctypes.create_string_buffer(program, len(program))
        count = len(program) // INSTRUCTION.size
        option = PROGRAM.pack(count, ctypes.addressof(memory))
        self.sockets[0].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, option)

    def given_to(self, place: int) -> list[int]:
        """The file descriptors for a worker: its socket, its inbox, and everybody's outboxes."""
        given = [self.sockets[place], self.inboxes[place], *self.outboxes]
        return [sock.fileno() for sock in given]

    def close(self) -> None:
        for sock in (*self.sockets, *self.inboxes, *self.outboxes):
            sock.close()


class Port:
    """Every address of a host on one port, with ``count`` places each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.groups: list[Group] = []

    async def open(self, host: str, port: int) -> None:
        """Bind.

        Raises:
            OSError: The host has no address, or one of them cannot be bound.
        """
        absent: OSError | None = None
        for address in await resolve_local(host, port):
            group = Group((host, port))
            try:
                group.open(address, port, self.count)
            except OSError as error:
                group.close()
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error
                continue
            self.groups.append(group)
            port = group.address[1]
        if absent is not None and not self.groups:
            raise absent
        self.accept(range(self.count))

    def accept(self, places: Sequence[int]) -> None:
        """Connections begin at these places from now on; what runs elsewhere goes on."""
        program = routing_program(self.count, places)
        for group in self.groups:
            group.route(program)

    def close(self) -> None:
        for group in self.groups:
            group.close()

    def __str__(self) -> str:
        return ", ".join(address_text(group.address) for group in self.groups)


def new_secret() -> bytes:
    """What the workers' keys are made from; it never leaves this server's processes."""
    return os.urandom(32)
