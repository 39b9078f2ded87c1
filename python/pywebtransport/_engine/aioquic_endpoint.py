"""UDP endpoints of the aioquic engine: sockets, and on a server who gets which packet.

A wake-up of the event loop takes a batch of packets, and each connection that got some sends
once afterwards. Everything a server does without a connection is here: version negotiation,
refusal over the limit, and silence for what belongs to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from aioquic._buffer import Buffer
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from pywebtransport._engine.addresses import plain_address, share_port
from pywebtransport._engine.aioquic_admission import Admission
from pywebtransport._engine.base import Handshakes

__all__ = [
    "ClientEndpoint",
    "Endpoint",
    "ServerEndpoint",
    "ServerRouter",
    "open_socket",
]

CONNECTION_ID_SIZE = 8
"""Length of the ids this engine hands out; a short header does not say it."""
BATCH_SIZE = 64
"""Packets taken per wake-up, so that one busy socket leaves the loop to others."""
MAX_PACKET_SIZE = 65535
SOCKET_BUFFER_SIZE = 4 << 20
"""Asked of the kernel, which may give less."""
NEVER_FRAGMENT = (
    {
        socket.AF_INET: [(socket.IPPROTO_IP, 10, 3)],
        socket.AF_INET6: [(socket.IPPROTO_IPV6, 23, 3), (socket.IPPROTO_IP, 10, 3)],
    }
    if sys.platform == "linux"
    else {}
)
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER as PROBE, for which Python has no names: packets are not
fragmented (RFC 9000 §14), and whoever forges a packet-too-big changes nothing."""

logger = logging.getLogger(__name__)


def open_socket(
    family: int,
    *,
    bind: tuple[Any, ...] | None = None,
    reuse_port: bool = False,
    connect: tuple[Any, ...] | None = None,
) -> socket.socket:
    """A nonblocking UDP socket, bound or connected; OSError when that cannot be."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_SIZE)
        for level, option, value in NEVER_FRAGMENT.get(socket.AddressFamily(family), ()):
            with contextlib.suppress(OSError):
                sock.setsockopt(level, option, value)
        if reuse_port:
            share_port(sock)
        if bind is not None:
            if family == socket.AF_INET6:
                dual_stack = bind[0] in ("", "::")
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
            sock.bind(bind)
        if connect is not None:
            sock.connect(connect)
    except OSError:
        sock.close()
        raise
    return sock


class Endpoint(asyncio.DatagramProtocol):
    """One UDP socket on the event loop."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.local_address = plain_address(sock.getsockname())
        """Stays known when the socket is closed."""
        self._transport: asyncio.DatagramTransport | None = None
        self._loop = asyncio.get_running_loop()
        # A proactor loop has a receive operation under way on the socket at all times.
        self._can_read_ahead = sys.platform != "win32"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    async def open(self) -> None:
        await self._loop.create_datagram_endpoint(lambda: self, sock=self._sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def send(self, data: bytes, address: Any) -> None:
        if self._transport is not None:
            self._transport.sendto(data, address)

    def close(self) -> None:
        """Release the socket after what is queued has been sent."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.packet_received(data, addr)
        if not self._can_read_ahead:
            return
        for _ in range(BATCH_SIZE - 1):
            if self._transport is None:
                return
            try:
                data, addr = self._sock.recvfrom(MAX_PACKET_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.error_received(error)
                return
            self.packet_received(data, addr)

    def packet_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        raise NotImplementedError


class PacketSink(Protocol):
    """What an endpoint asks of a connection."""

    connection_ids: set[bytes]

    @property
    def connection_id(self) -> bytes: ...

    def packet_received(self, data: bytes, address: Any) -> None: ...
    def socket_failed(self, error: Exception) -> None: ...


SinkT = TypeVar("SinkT", bound=PacketSink)


class ClientEndpoint(Endpoint):
    """The connected socket of one client connection; ICMP errors reach it."""

    connection: PacketSink

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.peer_name = cast(tuple[Any, ...], sock.getpeername())

    def send(self, data: bytes, address: Any) -> None:
        super().send(data, None)

    def close(self) -> None:
        super().close()
        del self.connection  # which has this endpoint

    def packet_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        self.connection.packet_received(data, self.peer_name)

    def error_received(self, exc: Exception) -> None:
        self.connection.socket_failed(exc)


class ServerRouter(Generic[SinkT]):
    """Connection ids and connections of one listener, over all of its sockets."""

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        admission: Admission,
        create: Callable[[ServerEndpoint, QuicConfiguration, bytes, bytes | None], SinkT],
    ) -> None:
        self.configuration = configuration
        self.admission = admission
        self.tokens = QuicRetryTokenHandler()
        self._create = create
        self._by_id: dict[bytes, SinkT] = {}
        self.connections: set[SinkT] = set()
        self.handshakes = Handshakes()
        self.is_closing = False

    def find(self, connection_id: bytes) -> SinkT | None:
        return self._by_id.get(connection_id)

    def accept(
        self, endpoint: ServerEndpoint, header: QuicHeader, host: str, retried_id: bytes | None
    ) -> SinkT:
        """A new connection; ``retried_id``: the id its client used before Retry."""
        retry_id = None if retried_id is None else header.destination_cid
        connection = self._create(
            endpoint, self.configuration, retried_id or header.destination_cid, retry_id
        )
        self.connections.add(connection)
        self.handshakes.begun += 1
        self.admission.enter(connection, host, is_proven=retried_id is not None)
        self._add_id(header.destination_cid, connection)
        self._add_id(connection.connection_id, connection)
        return connection

    def _add_id(self, connection_id: bytes, connection: SinkT) -> None:
        self._by_id[connection_id] = connection
        connection.connection_ids.add(connection_id)

    def _remove_id(self, connection_id: bytes, connection: SinkT) -> None:
        if self._by_id.get(connection_id) is connection:
            del self._by_id[connection_id]
        connection.connection_ids.discard(connection_id)

    def change_id(self, connection: SinkT, connection_id: bytes, is_new: bool) -> None:
        if is_new:
            self._add_id(connection_id, connection)
        else:
            self._remove_id(connection_id, connection)

    def forget(self, connection: SinkT) -> None:
        """The connection is gone for good: late packets for it belong to nobody."""
        for connection_id in list(connection.connection_ids):
            self._remove_id(connection_id, connection)
        self.connections.discard(connection)
        self.admission.leave(connection)


class ServerEndpoint(Endpoint):
    """One listening socket."""

    def __init__(self, sock: socket.socket, router: ServerRouter[Any]) -> None:
        super().__init__(sock)
        self.router = router

    def packet_received(self, data: bytes, address: tuple[Any, ...]) -> None:
        if data and not data[0] & 0x80:  # short header, RFC 9000 §17.3
            connection = self.router.find(data[1 : 1 + CONNECTION_ID_SIZE])
        else:
            connection = self._connection_for_long_header(data, address)
        if connection is not None:
            connection.packet_received(data, address)

    def _connection_for_long_header(
        self, data: bytes, address: tuple[Any, ...]
    ) -> PacketSink | None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_SIZE)
        except ValueError:
            return None
        connection: PacketSink | None = self.router.find(header.destination_cid)
        if (
            connection is not None
            or len(data) < SMALLEST_MAX_DATAGRAM_SIZE
            or header.packet_type is QuicPacketType.VERSION_NEGOTIATION
        ):
            # RFC 9000 §14.1: an Initial in a smaller datagram is dropped. §6.1: a version
            # negotiation packet is never answered with another.
            return connection
        versions = self.router.configuration.supported_versions
        if header.version not in versions:
            self.send(
                encode_quic_version_negotiation(
                    source_cid=header.destination_cid,
                    destination_cid=header.source_cid,
                    supported_versions=versions,
                ),
                address,
            )
            return None
        if header.packet_type is not QuicPacketType.INITIAL:
            return None
        return self._admit(header, address)

    def _admit(self, header: QuicHeader, address: tuple[Any, ...]) -> PacketSink | None:
        """A connection for a newcomer, or the answer that there is none."""
        router, admission = self.router, self.router.admission
        host = plain_address(address)[0]
        if router.is_closing or not admission.has_place(host):
            counts = router.handshakes
            if router.is_closing:
                counts.refused_leaving += 1
            elif admission.is_full:
                counts.refused_full += 1
            else:
                counts.refused_network += 1
            self.send(_close(header, QuicErrorCode.CONNECTION_REFUSED), address)
            return None
        retried_id = None
        if header.token:
            try:
                retried_id = router.tokens.validate_token(
                    address=address,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=self._loop.time(),
                )
            except ValueError:
                self.send(_close(header, QuicErrorCode.INVALID_TOKEN), address)
                return None
        elif admission.must_prove_address:
            self._send_retry(header, address)
            router.handshakes.retried += 1
            return None
        accepted: PacketSink = router.accept(self, header, host, retried_id)
        return accepted

    def _send_retry(self, header: QuicHeader, address: tuple[Any, ...]) -> None:
        source_cid = os.urandom(CONNECTION_ID_SIZE)
        self.send(
            encode_quic_retry(
                version=cast(int, header.version),
                source_cid=source_cid,
                destination_cid=header.source_cid,
                original_destination_cid=header.destination_cid,
                retry_token=self.router.tokens.create_token(
                    address=address,
                    original_destination_connection_id=header.destination_cid,
                    retry_source_connection_id=source_cid,
                    now=self._loop.time(),
                ),
            ),
            address,
        )

    def error_received(self, exc: Exception) -> None:
        # An unconnected socket does not say whose packet it was; loss recovery will tell.
        logger.debug("error on the listening socket: %s", exc)


def _close(header: QuicHeader, code: QuicErrorCode) -> bytes:
    """CONNECTION_CLOSE in an Initial packet, from nobody (RFC 9000 §5.2.2, §8.1.3)."""
    version = cast(int, header.version)
    crypto = CryptoPair()
    crypto.setup_initial(cid=header.destination_cid, is_client=False, version=version)
    builder = QuicPacketBuilder(
        host_cid=header.destination_cid,
        is_client=False,
        max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE,
        peer_cid=header.source_cid,
        version=version,
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=4)
    buf.push_uint_var(code)
    buf.push_uint_var(0)
    buf.push_uint_var(0)
    datagrams, _ = builder.flush()
    return datagrams[0]
