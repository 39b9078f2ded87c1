"""A WebTransport server's connections on a socket that ``aioquic.asyncio`` serves."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Protocol, cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events

from pywebtransport._engine.aioquic_carried import CarriedConnection
from pywebtransport._engine.aioquic_connection import AioquicConnection
from pywebtransport.config import ServerConfig
from pywebtransport.connection.connection import WebTransportConnection

if TYPE_CHECKING:
    from aioquic.quic.events import QuicEvent

__all__ = ["WebTransportServerProtocol"]


class Acceptor(Protocol):
    """What is asked of the :class:`~pywebtransport.server.WebTransportServer`."""

    @property
    def config(self) -> ServerConfig: ...
    @property
    def _serves_requests(self) -> bool: ...
    def _accept_carried(self, engine: AioquicConnection) -> WebTransportConnection | None: ...


class WebTransportServerProtocol(QuicConnectionProtocol):
    """One connection of a :class:`~pywebtransport.server.WebTransportServer` on aioquic's socket.

    For a program that serves QUIC by ``aioquic.asyncio`` already; the server is entered but does
    not listen, and everything else about it, routes and middleware included, is as usual::

        async with app:
            await aioquic.asyncio.serve(
                host,
                port,
                configuration=configuration,
                create_protocol=partial(WebTransportServerProtocol, app.server),
            )

    The QUIC configuration gives the certificate and the windows; ``server.config`` the rest. The
    engine is aioquic's, whichever is configured. Connections are refused while the server is not
    entered.
    """

    def __init__(self, server: Acceptor, *args: Any, **kwargs: Any) -> None:
        """``args`` and ``kwargs`` come from aioquic: its QUIC connection and stream handler."""
        super().__init__(*args, **kwargs)
        self._server = weakref.ref(server)
        self._config = server.config
        self._serves_requests = server._serves_requests
        self._engine: CarriedConnection | None = None
        self._is_announced = False
        self._connection: weakref.ref[WebTransportConnection] | None = None

    @property
    def connection(self) -> WebTransportConnection | None:
        """The connection, once the handshake is complete."""
        return None if self._connection is None else self._connection()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first packet of a client has come."""
        super().connection_made(transport)
        self._engine = CarriedConnection(
            plain=self._quic,
            config=self._config,
            serves_requests=self._serves_requests,
            transport=cast(asyncio.DatagramTransport, transport),
            on_event=self._on_event,
            on_handshake=self._on_handshake,
            on_gone=self._on_gone,
            on_connection_id=self._on_connection_id,
        )
        self._quic = self._engine.quic

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        """A packet of this connection has come."""
        if self._engine is None:
            return
        if not self._is_announced:
            # aioquic's server knows the id of the QuicConnection that it made.
            self._is_announced = True
            self._connection_id_issued_handler(self._engine.connection_id)
        self._engine.packet_received(cast(bytes, data), addr)

    def quic_event_received(self, event: QuicEvent) -> None:
        """For subclasses that look on: called with each event, before the engine acts on it."""

    def transmit(self) -> None:
        """Send what there is to send."""
        if self._engine is not None:
            self._engine.flush()

    def set_connection(self, *, connection: WebTransportConnection) -> None:
        """What :attr:`connection` shows, by a weak reference."""
        self._connection = weakref.ref(connection)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: so are the sessions."""
        super().connection_lost(exc)
        if self._engine is not None:
            self._engine.lose("the socket was closed" if exc is None else str(exc))

    # from the engine

    def _on_event(self, event: QuicEvent) -> None:
        """aioquic's own part of an event, for ``wait_connected`` and ``ping``."""
        match event:
            case events.HandshakeCompleted():
                self._connected = True
                if self._connected_waiter is not None:
                    self._connected_waiter.set_result(None)
                    self._connected_waiter = None
            case events.PingAcknowledged(uid=uid):
                waiter = self._ping_waiters.pop(uid, None)
                if waiter is not None:
                    waiter.set_result(None)
        self.quic_event_received(event)

    def _on_handshake(self, engine: AioquicConnection) -> None:
        server = self._server()
        connection = None if server is None else server._accept_carried(engine)
        if connection is not None:
            self.set_connection(connection=connection)

    def _on_gone(self, _engine: AioquicConnection) -> None:
        waiters = [*self._ping_waiters.values()]
        if self._connected_waiter is not None:
            waiters.append(self._connected_waiter)
            self._connected_waiter = None
        self._ping_waiters.clear()
        for waiter in waiters:
            waiter.set_exception(ConnectionError("the connection has ended"))
        self._connection_terminated_handler()
        self._closed.set()

    def _on_connection_id(
        self, _engine: AioquicConnection, connection_id: bytes, is_new: bool
    ) -> None:
        if is_new:
            self._connection_id_issued_handler(connection_id)
        else:
            self._connection_id_retired_handler(connection_id)
