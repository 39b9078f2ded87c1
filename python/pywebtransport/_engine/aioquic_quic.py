"""aioquic's QuicConnection, with the flow control and the cost this package needs.

What differs from aioquic 1.7:

* Credit for stream data goes back to the peer when the application has read it
  (:meth:`Quic.stream_consumed`), and credit for streams when it is done with one
  (:meth:`Quic.release_stream`). aioquic doubles its windows as data arrives.
* A packet costs what it carries (:mod:`.aioquic_packets`).
* Pacing knows how coarse the timers of event loops are (:mod:`.aioquic_recovery`).
* Each session has a queue of its own for the datagrams it sends (:mod:`.aioquic_datagrams`).
* RESET_STREAM_AT is announced, received and sent (:mod:`.aioquic_reset`).
* A stream with too many gaps ends the connection; aioquic's cost for them grows with their square.
* The TLS exporter secret is kept, for ``export_keying_material``.
* :attr:`Quic.close_event` says at once that CONNECTION_CLOSE arrived; aioquic reports it after
  the draining period.

All of this overrides private methods; pyproject.toml bounds the version of aioquic for it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, cast

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.connection import (
    QuicConnectionAdapter,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
    stream_is_client_initiated,
    stream_is_unidirectional,
)
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.packet_builder import (
    QuicDeliveryState,
)
from aioquic.quic.stream import QuicStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pywebtransport._engine.aioquic_packets import PacketWriter
from pywebtransport._engine.aioquic_qlog import Trace
from pywebtransport._engine.aioquic_stream import Stream
from pywebtransport._words import peer_text

__all__ = ["Quic"]

NO_SESSION = -1
MAX_GAPS = 1024
"""Pieces of one stream that may wait for what is missing between them, as on the native engine."""


@dataclass
class StreamReset(events.StreamReset):
    """With the final size, by which session flow control counts what will never arrive."""

    final_size: int = 0


@dataclass
class StopSendingReceived(events.StopSendingReceived):
    """With the payload that the reset in answer leaves unsent and uncounted at the peer."""

    withheld: int = 0


class EscapedLog(QuicConnectionAdapter):
    """aioquic logs the reason that a peer closed with as it came."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        if self.isEnabledFor(level):
            shown = (peer_text(a, is_quoted=False) if isinstance(a, str) else a for a in args)
            super().log(level, msg, *shown, **options)


class Quic(PacketWriter):
    """One QUIC connection of the aioquic engine."""

    def __init__(self, **options: Any) -> None:
        """The options of :class:`PacketWriter`, and a server's ids of its client."""
        super().__init__(**options)
        self._logger = EscapedLog(self._logger.logger, self._logger.extra)
        self._consumed = 0
        self._exporter_secret: bytes | None = None
        self._exporter_hash: hashes.HashAlgorithm = hashes.SHA256()

        self.kept = 0
        """Stream bytes written that the peer has not acknowledged."""
        self.drained: set[int] = set()
        """Streams that sent something since this was last emptied."""
        self.streams_granted: set[bool] = set()
        """Kinds of stream (unidirectional or not) of which the peer has allowed more."""
        self.packets_received = 0
        self.bytes_received = 0

    # state of the connection

    @property
    def close_event(self) -> events.ConnectionTerminated | None:
        """Why the connection ends, as soon as that is known."""
        return self._close_event

    @property
    def idle_timeout(self) -> float:
        """The smaller of both sides' timeouts."""
        return self._idle_timeout()

    @property
    def is_closed_by_peer(self) -> bool:
        return self._state is QuicConnectionState.DRAINING

    @property
    def is_terminated(self) -> bool:
        """Whether late packets need no answer any more."""
        return self._state is QuicConnectionState.TERMINATED

    @property
    def rtt(self) -> float:
        return self._loss._rtt_smoothed

    @property
    def min_rtt(self) -> float | None:
        return self._loss.min_rtt

    @property
    def rtt_variation(self) -> float | None:
        return self._loss.rtt_variation

    @property
    def bytes_lost(self) -> int:
        return self._loss.bytes_lost

    @property
    def congestion_window(self) -> int:
        return self._loss.congestion_window

    @property
    def packets_lost(self) -> int:
        return self._loss.packets_lost

    @property
    def bytes_in_flight(self) -> int:
        return self._loss.bytes_in_flight

    def peer_certificate(self) -> x509.Certificate | None:
        """What the server showed; its signature over the handshake has been verified."""
        return self.tls._peer_certificate

    def come_apart(self) -> None:
        """Nobody uses it any more, and its parts refer to each other in many ways."""
        for space in self._spaces.values():
            # A packet in flight knows whom to tell of its fate, which knows the packets.
            space.sent_packets.clear()
        vars(self).clear()

    # streams

    def can_open(self, unidirectional: bool) -> bool:
        """Whether the peer's limit allows one more stream of this kind."""
        if unidirectional:
            return self._local_next_stream_id_uni // 4 < self._remote_max_streams_uni
        return self._local_next_stream_id_bidi // 4 < self._remote_max_streams_bidi

    def stream(self, stream_id: int) -> Stream | None:
        """The stream, unless it is unknown or already discarded."""
        return self._streams.get(stream_id)

    def probe(self) -> None:
        """Queue a PING, also in a handshake that the peer has answered.

        Before it has, the PING might be the first that it sees, which not every server accepts.
        """
        epochs = (tls.Epoch.HANDSHAKE, tls.Epoch.ONE_RTT)
        if any(self._cryptos[epoch].send.is_valid() for epoch in epochs):
            self._probe_pending = True

    def requests_delivered(self, of_sessions: Container[int]) -> bool:
        """Whether the peer has acknowledged the end of every CONNECT stream that is still there.

        Args:
            of_sessions: The streams that are none.
        """
        return all(
            stream.sender.is_finished
            for stream_id, stream in self._streams.items()
            if stream_is_client_initiated(stream_id)
            and not stream_is_unidirectional(stream_id)
            and stream_id not in of_sessions
        )

    def write_header(self, stream_id: int, header: bytes) -> None:
        """Open a stream with bytes that a later reset may have to leave."""
        stream = cast(Stream, self._get_or_create_stream_for_send(stream_id))
        stream.header_size = len(header)
        self.send_stream_data(stream_id, header)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        stream = cast(Stream, self._get_or_create_stream_for_send(stream_id))
        stream.sender.write(data, end_stream)
        stream.keep_head(data)
        self.kept += len(data)
        self.activate(stream.stream_id)

    def unsent(self, stream_id: int) -> int:
        """Bytes written on a stream that no packet has carried yet."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender.unsent

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender.is_finished or stream.sender.is_reset:
            return
        self.kept -= stream.sender.kept
        stream.sender.reset(error_code)
        self.activate(stream.stream_id)

    def reset_stream_at(self, stream_id: int, error_code: int, reliable_size: int) -> None:
        """Reset, but let the peer have this many bytes from the start, if they were written."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.reliable_size = reliable_size
            self.reset_stream(stream_id, error_code)

    def send_datagram_frame(self, data: bytes) -> None:
        """For those who drive QUIC themselves: sessions have their queues in ``outgoing``."""
        self.outgoing.push(NO_SESSION, data)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return
        stream.receiver.stop(error_code)
        self.activate(stream.stream_id)

    def retain_stream(self, stream_id: int) -> bool:
        """The application has this stream: its end alone does not allow the peer another.

        False when it is gone already; then there is nothing to release.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return False
        stream.is_retained = True
        return True

    def release_stream(self, stream_id: int) -> bool:
        """Undo :meth:`retain_stream`; true when a limit is to be announced for that."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.is_retained = False
            return False
        limit = self._stream_limit(stream_id)
        limit.value += 1
        return limit.value - limit.sent >= self._limits[1 + stream_is_unidirectional(stream_id)][1]

    def stream_consumed(self, stream_id: int, size: int) -> bool:
        """The application read this much; true when a limit is to be announced for it."""
        self._consumed += size
        due = self._raise_max_data()
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            stream.consumed += size
            window = self._configuration.max_stream_data
            limit = stream.consumed + window
            if limit - stream.max_stream_data_local >= window // 2:
                stream.max_stream_data_local = limit
                self._credit_due[stream_id] = stream
                due = True
        return due

    def _raise_max_data(self) -> bool:
        limit = self._local_max_data
        value = self._consumed + self._configuration.max_data
        if value - limit.value >= self._configuration.max_data // 2:
            limit.value = value
        return limit.value != limit.sent

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        stream = self._streams.get(stream_id)
        if stream is None:
            super()._get_or_create_stream(frame_type, stream_id)
            stream = self._adopt(stream_id)
        return stream

    def _get_or_create_stream_for_send(self, stream_id: int) -> QuicStream:
        stream = self._streams.get(stream_id)
        if stream is None or not self._stream_can_send(stream_id):
            super()._get_or_create_stream_for_send(stream_id)
            stream = self._adopt(stream_id)
        return stream

    def _adopt(self, stream_id: int) -> Stream:
        for plain in self._streams_queue:
            self._streams[cast(int, plain.stream_id)] = Stream(self, plain)
        self._streams_queue.clear()
        return self._streams[stream_id]

    def _unblock_streams(self, is_unidirectional: bool) -> None:
        super()._unblock_streams(is_unidirectional)
        self.streams_granted.add(is_unidirectional)

    # receiving

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        self.bytes_received += len(data)
        self.packets_received += 1
        super().receive_datagram(data, addr, now)
        if self._quic_logger is not None:
            cast(Trace, self._quic_logger).release()

    def _handle_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        reported = len(self._events)
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_stream_frame(context, frame_type, buf)
        received = self._streams.get(stream_id)
        if received is not None and len(received.receiver._ranges) > MAX_GAPS:
            raise QuicConnectionError(
                error_code=QuicErrorCode.INTERNAL_ERROR,
                frame_type=frame_type,
                reason_phrase=f"stream {stream_id} has more than {MAX_GAPS} gaps",
            )
        if len(self._events) > reported:
            event = cast(events.StreamDataReceived, self._events[-1])
            stream = self._streams[event.stream_id]
            if stream.reliable_reset is not None:
                event.end_stream = False
                self._apply_reliable_reset(stream)
            elif stream.receiver.is_finished:
                self.activate(stream.stream_id)

    def _handle_reset_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        reported = len(self._events)
        super()._handle_reset_stream_frame(context, frame_type, buf)
        if len(self._events) > reported:
            event = cast(events.StreamReset, self._events.pop())
            stream = self._streams[event.stream_id]
            stream.reliable_reset = None
            self._receiving_ended(stream, event.error_code)

    def _receiving_ended(self, stream: Stream, code: int) -> None:
        """Tell of the reset; bytes that nobody will read give the connection its credit back."""
        size = stream.receiver.highest_offset
        self._events.append(
            StreamReset(error_code=code, stream_id=stream.stream_id, final_size=size)
        )
        self._consumed += size - stream.consumed
        stream.consumed = size
        stream.is_credit_settled = True
        self._raise_max_data()
        self.activate(stream.stream_id)

    def _handle_stop_sending_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        stream = self._streams.get(buf.pull_uint_var())
        buf.seek(start)
        kept = withheld = 0
        if stream is not None:
            # reliable-stream-reset-10 §6: the answer to STOP_SENDING is a plain RESET_STREAM.
            stream.reliable_size = 0
            kept, withheld = stream.sender.kept, stream.withheld(reliably=False)
        super()._handle_stop_sending_frame(context, frame_type, buf)
        event = cast(events.StopSendingReceived, self._events.pop())
        self._events.append(StopSendingReceived(event.error_code, event.stream_id, withheld))
        self.kept -= kept
        self.activate(event.stream_id)

    def _handle_max_data_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        if self._remote_max_data_used < self._remote_max_data:
            self._active.update(self._starved)
            self._starved.clear()

    def _handle_max_stream_data_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        self.drained.add(stream_id)
        self.activate(stream_id)

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if delivery is QuicDeliveryState.LOST and not stream.receiver.is_finished:
            self._credit_due[cast(int, stream.stream_id)] = cast(Stream, stream)

    # handshake

    def _update_traffic_key(
        self,
        direction: tls.Direction,
        epoch: tls.Epoch,
        cipher_suite: tls.CipherSuite,
        secret: bytes,
    ) -> None:
        if epoch is tls.Epoch.ONE_RTT and self._exporter_secret is None:
            # RFC 8446 §7.1: the transcript ends with the server's Finished, as it does when
            # either side installs its first application key.
            schedule = cast(tls.KeySchedule, self.tls.key_schedule)
            self._exporter_secret = schedule.derive_secret(b"exp master")
            self._exporter_hash = schedule.algorithm
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """RFC 8446 §7.5."""
        if self._exporter_secret is None:
            raise RuntimeError("the TLS handshake is not complete")
        algorithm = self._exporter_hash

        def digest(data: bytes) -> bytes:
            state = hashes.Hash(algorithm)
            state.update(data)
            return state.finalize()

        secret = tls.hkdf_expand_label(
            algorithm, self._exporter_secret, label, digest(b""), algorithm.digest_size
        )
        return tls.hkdf_expand_label(algorithm, secret, b"exporter", digest(context), length)
