"""One QUIC connection on an event loop: packets in and out, its one timer, and how it ends.

What one turn of the event loop wants to send goes out in one flush at its end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import _get_running_loop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from cryptography.hazmat.primitives.serialization import Encoding

from pywebtransport._engine.addresses import plain_address
from pywebtransport._engine.aioquic_endpoint import Endpoint
from pywebtransport._engine.aioquic_inbound import Inbound, Limits
from pywebtransport._engine.aioquic_quic import Quic
from pywebtransport._engine.base import CloseInfo, ConnectionSink, EngineClosed, EngineStats
from pywebtransport._engine.driver import Driver
from pywebtransport._engine.rules import LINGER, PROBE_INTERVAL, keep_alive_interval
from pywebtransport._native import CoreClosed, CoreConfig, CoreError
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import wrong_loop, wrong_thread

if TYPE_CHECKING:
    from cryptography import x509

    from pywebtransport.types import Address

__all__ = ["LoopConnection"]


logger = logging.getLogger(__name__)


class Facts(NamedTuple):
    """What is still asked of a connection that is gone."""

    remote_address: Address | None
    peer_certificate: x509.Certificate | None
    stats: EngineStats


class LoopConnection:
    """What of ``EngineConnection`` is not about sessions."""

    def __init__(
        self,
        *,
        quic: Quic,
        core_config: CoreConfig,
        limits: Limits,
        endpoint: Endpoint,
        on_handshake: Callable[[Any], None],
        on_gone: Callable[[Any], None],
        on_connection_id: Callable[[Any, bytes, bool], None] | None = None,
    ) -> None:
        self.connection_ids: set[bytes] = set()
        """Ids that lead to this connection, kept by the server's router."""
        self.is_client = quic.configuration.is_client
        self._quic = quic
        self._limits = limits
        self._endpoint = endpoint
        self._loop = endpoint.loop
        self._thread = threading.current_thread().name
        self._on_handshake = on_handshake
        self._on_gone = on_gone
        self._on_connection_id = on_connection_id
        self._inbound = Inbound(
            quic=quic, limits=limits, flush_soon=self._flush_soon, fail=self.fail
        )
        self._streams = self._inbound.streams
        self._driver = Driver(
            quic=quic,
            config=core_config,
            owner=self._inbound,
            max_datagram_frame_size=limits.max_datagram_frame_size,
        )
        self._flush_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._last_activity = self._loop.time()
        self._handshake_deadline: float | None = self._last_activity + limits.handshake_timeout
        self._first_session_deadline: float | None = None
        self._probe_at: float | None = self._last_activity + PROBE_INTERVAL
        self._empty_deadline: float | None = None
        self._close_deadline: float | None = None
        self._is_heard = False
        self._close_request: tuple[int, str] | None = None
        self._close_info: CloseInfo | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._closing_packets: list[tuple[bytes, Any]] = []
        self._packets_after_close = 0
        self._is_gone = False
        self._last_facts: Facts | None = None
        """As they were when the connection was gone."""
        self.socket_error: Exception | None = None
        """What the kernel said before there was a connection."""

    # facts

    @property
    def connection_id(self) -> bytes:
        return self._quic.host_cid

    @property
    def local_address(self) -> Address | None:
        return self._endpoint.local_address

    @property
    def remote_address(self) -> Address | None:
        if self._last_facts is not None:
            return self._last_facts.remote_address
        address = self._quic.get_peer_address()
        return None if address is None else plain_address(address)

    @property
    def close_info(self) -> CloseInfo | None:
        """Why the connection ended; None while it lives."""
        return self._close_info

    @property
    def alpn_protocol(self) -> str | None:
        return self._quic.tls.alpn_negotiated

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        if self._last_facts is not None:
            return self._last_facts.peer_certificate
        return self._quic.peer_certificate()

    def peer_certificates(self) -> list[bytes]:
        certificate = self.peer_certificate
        return [] if certificate is None else [certificate.public_bytes(Encoding.DER)]

    def stats(self) -> EngineStats:
        if self._last_facts is not None:
            return self._last_facts.stats
        quic = self._quic
        try:
            core = self._driver.core.stats()
        except CoreClosed:
            core = {}
        return EngineStats(
            rtt=quic.rtt,
            cwnd=quic.congestion_window,
            bytes_in_flight=quic.bytes_in_flight,
            bytes_sent=quic.bytes_sent,
            bytes_received=quic.bytes_received,
            packets_sent=quic.packets_sent,
            packets_received=quic.packets_received,
            packets_lost=quic.packets_lost,
            datagrams_dropped=(
                self._inbound.datagrams_dropped
                + quic.outgoing.dropped
                + core.get("datagrams_dropped", 0)
            ),
            extra={
                **core,
                "bytes_lost": quic.bytes_lost,
                "min_rtt": quic.min_rtt,
                "rtt_variation": quic.rtt_variation,
                "datagrams_sent": quic.datagrams_sent,
                "datagrams_lost": quic.datagrams_lost,
                "datagrams_waiting": len(quic.outgoing),
                "datagrams_dropped_outgoing": quic.outgoing.dropped,
                "datagrams_dropped_incoming": self._inbound.datagrams_dropped,
                "datagrams_dropped_early": core.get("datagrams_dropped", 0),
            },
        )

    def release_endpoint(self) -> None:
        self._endpoint.close()

    # packets, events, flushes

    def start(self, peer: tuple[Any, ...]) -> None:
        """Client: send the first flight."""
        self._quic.connect(peer, now=self._loop.time())
        self._flush()

    def set_sink(self, sink: ConnectionSink) -> None:
        self._inbound.set_sink(sink)

    def packet_received(self, data: bytes, address: Any) -> None:
        if self._is_gone:
            return
        if self._close_info is not None:
            self._answer_after_close()
            return
        self._last_activity = self._loop.time()
        try:
            self._quic.receive_datagram(data, address, now=self._last_activity)
        except Exception:
            # A bug in aioquic that a peer has found may end this connection and no other.
            logger.exception("packet from %s could not be processed", address)
            self._quic.close(
                error_code=QuicErrorCode.INTERNAL_ERROR, frame_type=QuicFrameType.PADDING
            )
        self._process_events()
        self._flush_soon()

    def socket_failed(self, error: Exception) -> None:
        """Packets do not get there (ICMP); later on that may pass, at first it is an answer."""
        if not self._driver.is_connected:
            self.socket_error = error
            self._end(CloseInfo(0, str(error), "transport", is_application=False))
            self.leave()

    def _process_events(self) -> None:
        quic, driver, now = self._quic, self._driver, self._loop.time()
        while (event := quic.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                driver.handle_event(event, now)
                self._handshake_deadline = None
                if (patience := self._limits.first_session_timeout) is not None:
                    self._first_session_deadline = now + patience
                self._on_handshake(self)
            elif isinstance(event, events.ConnectionIdIssued | events.ConnectionIdRetired):
                if self._on_connection_id is not None:
                    is_new = isinstance(event, events.ConnectionIdIssued)
                    self._on_connection_id(self, event.connection_id, is_new)
            else:
                driver.handle_event(event, now)
        if quic.streams_granted:
            self._inbound.tell_streams_granted()

    def _flush_soon(self) -> None:
        if self._flush_handle is None and not self._is_gone:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what this turn of the loop has gathered, and arm the timer."""
        self._flush_handle = None
        if self._is_gone:
            return
        if self._close_info is None:
            self._driver.set_rtt(self._quic.rtt)
            self._driver.handle_timeout(self._loop.time())
            self._look_for_end()
        packets = self._quic.datagrams_to_send(now=self._loop.time())
        for data, address in packets:
            self._endpoint.send(data, address)
        self._inbound.tell_writers()
        if self._quic.close_event is not None and self._close_info is None:
            self._closing_packets = packets
            self._end_as_quic_did()
        self._arm_timer()

    def _arm_timer(self) -> None:
        at = self._quic.get_timer()
        if self._close_info is None:
            for deadline in (
                self._driver.next_timeout(),
                self._handshake_deadline,
                self._first_session_deadline,
                self._probe_at,
                self._empty_deadline,
                self._close_deadline,
                self._keep_alive_at(),
            ):
                if deadline is not None and (at is None or deadline < at):
                    at = deadline
        if at is None or self._is_gone or (self._timer is not None and self._timer_at <= at):
            return  # one that fires early finds nothing to do and arms the next
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        # The loop's clock may fire a hair early.
        now = max(self._timer_at, self._loop.time())
        at = self._quic.get_timer()
        if at is not None and at <= now:
            self._quic.handle_timer(now)
            self._process_events()
        if self._quic.is_terminated:
            self._end_as_quic_did()
            self.leave()
            return
        if is_due(self._handshake_deadline, now):
            self._end(CloseInfo(0, "handshake timed out", "transport", is_application=False))
            self.leave()
            return
        if is_due(self._close_deadline, now) and self._close_request is not None:
            self._close_quic(*self._close_request)
        elif is_due(self._empty_deadline, now):
            self._close_request = (ErrorCodes.H3_NO_ERROR, "")
            self._close_quic(*self._close_request)
        elif is_due(self._first_session_deadline, now):
            self._first_session_deadline = None
            if not (self._inbound.had_session or self._inbound.had_request):
                patience = self._limits.first_session_timeout
                self.close(
                    code=ErrorCodes.H3_NO_ERROR,
                    reason=f"no session was requested within {patience} s",
                )
        if is_due(self._keep_alive_at(), now):
            self._last_activity = now
            self._quic.send_ping(0)
        if is_due(self._probe_at, now):
            self._probe(now)
        self._flush()

    def _probe(self, now: float) -> None:
        """Help a beginning along, while something of it may be lost; see ``PROBE_INTERVAL``."""
        is_shaken = self._handshake_deadline is None
        is_sending = self._quic.bytes_in_flight > 0
        is_opening = self._driver.is_opening
        # A server has no PING that a client could read before the handshake's end.
        if (self.is_client or is_shaken) and (is_sending or is_opening):
            self._quic.probe()
        is_awaited = self._first_session_deadline is not None and not self._inbound.had_session
        is_over = is_shaken and not (is_sending or is_opening or is_awaited)
        self._probe_at = None if is_over else now + PROBE_INTERVAL

    def _keep_alive_at(self) -> float | None:
        if not self._driver.is_connected:
            return None
        interval = keep_alive_interval(self._limits.keep_alive, self._quic.idle_timeout)
        return None if interval is None else self._last_activity + interval

    # the end

    def close(self, *, code: int, reason: str) -> None:
        """Close the sessions, wait for their peers to have seen it, then close QUIC.

        A CONNECTION_CLOSE in the flight of a CLOSE capsule hides the capsule from the peer.
        """
        self._require_here()
        if self._close_info is not None or self._close_request is not None:
            return
        self._close_request = (code, reason)
        if not self._driver.is_connected:
            self._close_quic(code, reason)
            return
        self._close_deadline = self._loop.time() + self._limits.close_timeout
        try:
            self._driver.close_all(code=code, reason=reason, now=self._loop.time())
        except CoreError as error:
            logger.debug("the sessions have ended by themselves: %s", error)
        self._flush_soon()

    def refuse(self) -> None:
        """Server: there is no place for it (RFC 9000 §20.1)."""
        self._close_request = (QuicErrorCode.CONNECTION_REFUSED, "")
        self._quic.close(
            error_code=QuicErrorCode.CONNECTION_REFUSED, frame_type=QuicFrameType.PADDING
        )
        self._flush_soon()

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    def _look_for_end(self) -> None:
        """Close QUIC when that is due and hides no last words from the peer."""
        if not self._driver.is_connected:
            return
        is_waiting = self._close_request is not None
        had_work = self._inbound.had_session or self._inbound.had_request
        if not is_waiting and (self.is_client or not had_work):
            return
        try:
            is_idle = self._driver.core.is_idle
        except CoreClosed:
            is_idle = True
        if self._inbound.has_unacknowledged():
            self._empty_deadline = None
        elif not is_idle:
            self._empty_deadline = None
            if self._close_deadline is not None and self._quic.requests_delivered(self._streams):
                self._close_deadline = min(self._close_deadline, self._loop.time() + LINGER)
        elif self._close_request is not None:
            self._close_when_heard()
        elif self._empty_deadline is None:
            self._empty_deadline = self._last_fin_heard()

    def _close_when_heard(self) -> None:
        """The peer has ended its side of the last session."""
        assert self._close_request is not None
        if self.is_client or not self._inbound.had_session:
            self._close_quic(*self._close_request)
        elif not self._is_heard and self._close_deadline is not None:
            self._is_heard = True
            self._close_deadline = min(self._close_deadline, self._last_fin_heard())

    def _last_fin_heard(self) -> float:
        """The peer's FIN has come: until when its connection stays.

        Chromium forgets the session when that FIN is acknowledged. Where that happens before it
        has told the page, the page's `closed` rejects with "Connection lost".
        """
        now = self._loop.time()
        if self._inbound.had_request and self._close_request is None:
            return now + self._limits.request_linger
        self._quic.delay_ack(now)
        return now + LINGER

    def _close_quic(self, code: int, reason: str) -> None:
        self._quic.close(error_code=code, reason_phrase=reason)
        self._flush_soon()

    def fail(self) -> None:
        """An error of ours: this connection ends, and no other."""
        self._driver.fail("internal error")
        self._flush_soon()

    def _end_as_quic_did(self) -> None:
        event = self._quic.close_event
        if event is None or self._close_info is not None:
            return
        if self._quic.is_closed_by_peer:
            by = "remote"
        else:
            by = "transport" if self._close_request is None else "local"
        is_application = event.frame_type is None
        self._end(CloseInfo(event.error_code, event.reason_phrase, by, is_application))

    def _end(self, info: CloseInfo) -> None:
        """Tell everybody, once: streams and sessions first, the connection last."""
        if self._close_info is not None:
            return
        self._close_info = info
        is_peers_code = info.by == "remote" and info.is_application
        self._driver.handle_closed(info.code if is_peers_code else None, info.reason)
        for session_id in (*self._inbound.requests, *self._inbound.sessions):
            self._inbound.session_closed(session_id, 0, info.reason, "transport", None)
        self._inbound.closed(info)
        if not self._closed.done():
            self._closed.set_result(None)
        if self.is_client:
            # RFC 9000 §10.2: an endpoint that leaves its address need not wait there.
            self.leave()

    def _answer_after_close(self) -> None:
        """Repeat CONNECTION_CLOSE, ever more rarely, to a peer that missed it (RFC 9000 §10.2)."""
        self._packets_after_close += 1
        if self._packets_after_close & (self._packets_after_close - 1) == 0:
            for data, address in self._closing_packets:
                self._endpoint.send(data, address)

    def leave(self) -> None:
        """Be gone at once, draining period or not."""
        if not self._is_gone:
            self._is_gone = True
            for handle in (self._timer, self._flush_handle):
                if handle is not None:
                    handle.cancel()
            self._on_gone(self)
            # Not now: somebody below may be at work with its parts.
            self._loop.call_soon(self._come_apart)

    def _come_apart(self) -> None:
        """Let go of parts that refer to each other: they need no collector to be freed."""
        self._last_facts = Facts(self.remote_address, self.peer_certificate, self.stats())
        self._timer = self._flush_handle = None
        self._closing_packets.clear()
        self._quic.come_apart()
        self._driver.come_apart()
        self._inbound.come_apart()

    def _require_here(self) -> None:
        """Nothing here is locked: another thread, or another loop, would tear it apart."""
        if _get_running_loop() is not self._loop:
            caller = threading.current_thread().name
            if caller == self._thread:
                raise wrong_loop(self._loop.is_closed())
            raise wrong_thread(self._thread, caller)

    def _require_open(self) -> None:
        self._require_here()
        if self._close_info is not None or self._close_request is not None:
            raise EngineClosed("the connection is closed")


def is_due(deadline: float | None, now: float) -> bool:
    return deadline is not None and deadline <= now
