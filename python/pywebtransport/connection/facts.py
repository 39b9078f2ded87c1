"""What can be known of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pywebtransport._engine.base import EngineClosed
from pywebtransport._loop import check_loop
from pywebtransport._waiting import wait_among
from pywebtransport.config import ServerConfig
from pywebtransport.connection.base import ConnectionBase
from pywebtransport.connection.info import ConnectionDiagnostics, ConnectionInfo
from pywebtransport.events import EventEmitter
from pywebtransport.types import Address, ConnectionHandle, ConnectionState
from pywebtransport.utils import get_logger

__all__ = ["ConnectionFacts"]

logger = get_logger(name=__name__)

TYPICAL_PACKET = 1200


class ConnectionFacts(ConnectionBase):
    """What :class:`WebTransportConnection` says of itself. Not made by applications."""

    @property
    def diagnostics(self) -> ConnectionDiagnostics:
        """A fresh snapshot."""
        stats = self._engine_stats()
        local, remote = self.local_address, self.remote_address
        info = ConnectionInfo(
            connection_id=self.connection_id,
            state=self._state,
            local_address=local,
            remote_address=remote,
            established_at=self._established_at,
            closed_at=self._closed_at,
            bytes_sent=stats.bytes_sent,
            bytes_received=stats.bytes_received,
            packets_sent=stats.packets_sent,
            packets_received=stats.packets_received,
            error_count=0 if self._close_info is None or not self._was_lost() else 1,
            last_activity=self.last_activity_time or None,
        )
        return ConnectionDiagnostics(
            stats=info,
            rtt=stats.rtt,
            cwnd=stats.cwnd,
            packets_in_flight=-(-stats.bytes_in_flight // TYPICAL_PACKET),
            packet_loss_rate=stats.packets_lost / stats.packets_sent if stats.packets_sent else 0.0,
            counters=dict(stats.extra),
        )

    @property
    def events(self) -> EventEmitter:
        """The connection's emitter, which is the connection."""
        return self

    @property
    def handle(self) -> ConnectionHandle:
        """A number that no other connection of this process has."""
        return self._handle

    @property
    def idle_timeout(self) -> float | None:
        """A server's ``config.connection_idle_timeout``; None on a client."""
        config = self._config
        return config.connection_idle_timeout if isinstance(config, ServerConfig) else None

    @property
    def is_closing(self) -> bool:
        """Whether it is being closed from here."""
        return self._state == ConnectionState.CLOSING

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is complete and the connection has not ended."""
        return self._state == ConnectionState.CONNECTED

    @property
    def last_activity_time(self) -> float:
        """When a packet from the peer was last noticed; 0.0 before the first.

        Packets are noticed when this is read, so it is as exact as it is read often.
        """
        if self._link is not None and self._close_info is None:
            received = self._engine_stats().packets_received
            if received != self._packets_seen:
                self._packets_seen = received
                self._last_activity = time.time()
        return self._last_activity

    @property
    def local_address(self) -> Address | None:
        """Of the socket."""
        return None if self._link is None else self._link.engine.local_address

    @property
    def local_addresses(self) -> list[Address]:
        """``local_address`` as a list."""
        address = self.local_address
        return [] if address is None else [address]

    @property
    def protocol_handler(self) -> None:
        """None: both engines keep the protocol to themselves.

        The connection has a handler's facts (:meth:`get_session_info`, :meth:`get_all_sessions`,
        :attr:`diagnostics`) and emits its SESSION events. ``WebTransportProtocolHandler`` itself is
        for a QUIC connection of one's own.
        """
        return None

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the peer showed in the handshake, in DER; None: it showed none.

        On a server it has been checked against ``config.ca_certs``. Once the connection has ended
        only what was read before is known.
        """
        if self._peer_certificate is None and self._link is not None:
            with contextlib.suppress(EngineClosed):
                self._peer_certificate = next(iter(self._link.engine.peer_certificates()), None)
        return self._peer_certificate

    @property
    def state(self) -> ConnectionState:
        """Idle, connecting, connected, closing or closed."""
        return self._state

    async def wait_closed(self) -> None:
        """Wait until the connection has ended. Returns at once when closed or never opened."""
        if self._state in (ConnectionState.IDLE, ConnectionState.CLOSED):
            return
        if self._link is not None:
            check_loop(self._link.loop)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closed_waiters = waiters = self._closed_waiters or []
        await wait_among(waiters, future)

    async def monitor_health(
        self, *, check_interval: float = 30.0, rtt_timeout: float = 5.0
    ) -> None:
        """Log the round-trip time regularly, until the connection ends.

        Args:
            check_interval: Seconds between two looks.
            rtt_timeout: A round-trip time above so many seconds is logged as a warning and ends
                the monitoring.
        """
        while self.is_connected:
            rtt = self._engine_stats().rtt
            if rtt > rtt_timeout:
                logger.warning("%s: round-trip time of %.2f s", self, rtt)
                return
            logger.debug("%s: round-trip time of %.4f s", self, rtt)
            try:
                async with asyncio.timeout(check_interval):
                    await self.wait_closed()
            except TimeoutError:
                continue

    def record_activity(self) -> None:
        """Set ``last_activity_time`` to now."""
        self._last_activity = time.time()
