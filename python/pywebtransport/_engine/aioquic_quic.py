"""aioquic's QuicConnection, with the flow control and the cost this package needs.

What differs from aioquic 1.7:

* Credit for stream data goes back to the peer when the application has read it
  (:meth:`Quic.stream_consumed`), and credit for streams when it is done with one
  (:meth:`Quic.release_stream`). aioquic doubles its windows as data arrives.
* A packet costs what it carries. aioquic visits every open stream for every packet.
* Pacing knows how coarse the timers of event loops are (:class:`Pacer`).
* RESET_STREAM_AT is announced, received and sent (:mod:`.aioquic_reset`).
* The TLS exporter secret is kept, for ``export_keying_material``.
* :attr:`Quic.close_event` says at once that CONNECTION_CLOSE arrived; aioquic reports it after
  the draining period.

All of this overrides private methods; pyproject.toml bounds the version of aioquic for it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import size_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    STOP_SENDING_FRAME_CAPACITY,
    Limit,
    QuicConnectionState,
    QuicNetworkPath,
    QuicReceiveContext,
    stream_is_client_initiated,
    stream_is_unidirectional,
)
from aioquic.quic.packet import (
    QuicFrameType,
    QuicPacketType,
)
from aioquic.quic.packet_builder import (
    QuicDeliveryState,
    QuicPacketBuilder,
    QuicPacketBuilderStop,
    QuicSentPacket,
)
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace
from aioquic.quic.stream import QuicStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pywebtransport._engine.aioquic_reset import ReliableResets
from pywebtransport._engine.aioquic_stream import Stream

__all__ = ["Quic"]

DATA_SPACE = 8
"""With less room than this, a packet takes no further STREAM frame."""
SIGNAL_SPACE = 80
"""Room for STOP_SENDING and the longest way to reset a stream."""
SHORT_HEADER_OVERHEAD = 3 + 16
"""First byte, packet number and AEAD tag of a 1-RTT packet; the connection id comes on top."""
MAX_PROMISED_STREAMS = 1 << 60
TIMER_PRECISION = 0.001
"""Seconds that event loops count in."""
MAX_BURST = 64
"""Packets in a row, on the fastest path: a few milliseconds in which the loop does nothing else."""
LAST_ACK_DELAY = 0.02
"""Seconds for :meth:`Quic.delay_ack`: within the max_ack_delay of 25 ms that aioquic promises."""


@dataclass
class StreamReset(events.StreamReset):
    """With the final size, by which session flow control counts what will never arrive."""

    final_size: int = 0


@dataclass
class StopSendingReceived(events.StopSendingReceived):
    """With the payload that the reset in answer leaves unsent and uncounted at the peer."""

    withheld: int = 0


class Pacer(QuicPacketPacer):
    """Its bursts last as long as the event loop's timers are coarse (RFC 9002 §7.7).

    aioquic's are of 16 packets at most, and the shorter the larger the congestion window is.
    """

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(congestion_window, smoothed_rtt)
        self.packet_time = self._max_datagram_size * smoothed_rtt / congestion_window
        burst = min(TIMER_PRECISION, MAX_BURST * self.packet_time)
        self.bucket_max = max(self.bucket_max, burst)


class Recovery(QuicPacketRecovery):
    """Loss recovery that counts what it declares lost."""

    packets_lost = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pacer = Pacer(max_datagram_size=options["max_datagram_size"])

    def _on_packets_lost(self, *, packets: Iterable[QuicSentPacket], **details: Any) -> None:
        lost = list(packets)
        self.packets_lost += len(lost)
        super()._on_packets_lost(packets=lost, **details)


class Quic(ReliableResets):
    """One QUIC connection of the aioquic engine."""

    _streams: dict[int, Stream]  # type: ignore[assignment]  # every stream is one of ours
    _loss: Recovery

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        max_streams_bidi: int,
        max_streams_uni: int,
        max_datagrams: int,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self._local_max_streams_bidi = Limit(
            frame_type=QuicFrameType.MAX_STREAMS_BIDI,
            name="max_streams_bidi",
            value=max_streams_bidi,
        )
        self._local_max_streams_uni = Limit(
            frame_type=QuicFrameType.MAX_STREAMS_UNI,
            name="max_streams_uni",
            value=max_streams_uni,
        )
        self._max_datagrams = max_datagrams
        # Streams are announced by the eighth: browsers fail at a limit, they do not wait.
        self._limits = (
            (self._local_max_data, 1),
            (self._local_max_streams_bidi, max(1, max_streams_bidi // 8)),
            (self._local_max_streams_uni, max(1, max_streams_uni // 8)),
        )
        self._active: dict[int, Stream] = {}
        """Streams with something to send, in the order in which they are served."""
        self._starved: dict[int, Stream] = {}
        """Streams with data that the connection's credit does not cover."""
        self._credit_due: dict[int, Stream] = {}
        """Streams whose limit is to be announced."""
        self._finished: list[Stream] = []
        """Streams to be discarded, both halves being done."""
        self._consumed = 0
        self._exporter_secret: bytes | None = None
        self._exporter_hash: hashes.HashAlgorithm = hashes.SHA256()

        self.kept = 0
        """Stream bytes written that the peer has not acknowledged."""
        self.drained: dict[int, Stream] = {}
        """Streams that sent something since this was last emptied."""
        self.streams_granted: set[bool] = set()
        """Kinds of stream (unidirectional or not) of which the peer has allowed more."""
        self.datagrams_dropped = 0
        self.packets_sent = 0
        self.packets_received = 0
        self.bytes_sent = 0
        self.bytes_received = 0

        self._loss = Recovery(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=configuration.max_datagram_size,
            peer_completed_address_validation=not configuration.is_client,
            send_probe=self._send_probe,
        )

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
    def peer_max_datagram_frame_size(self) -> int:
        return self._remote_max_datagram_frame_size or 0

    @property
    def rtt(self) -> float:
        return self._loss._rtt_smoothed

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

    # streams

    def can_open(self, unidirectional: bool) -> bool:
        """Whether the peer's limit allows one more stream of this kind."""
        if unidirectional:
            return self._local_next_stream_id_uni // 4 < self._remote_max_streams_uni
        return self._local_next_stream_id_bidi // 4 < self._remote_max_streams_bidi

    def stream(self, stream_id: int) -> Stream | None:
        """The stream, unless it is unknown or already discarded."""
        return self._streams.get(stream_id)

    def activate(self, stream: Stream) -> None:
        """Have the next flush look at this stream."""
        if stream.is_finished:
            self._finished.append(stream)
        else:
            self._active[stream.stream_id] = stream

    def write_header(self, stream_id: int, header: bytes) -> None:
        """Open a stream with bytes that a later reset must not overtake."""
        stream = cast(Stream, self._get_or_create_stream_for_send(stream_id))
        stream.header_size = len(header)
        self.send_stream_data(stream_id, header)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        stream = cast(Stream, self._get_or_create_stream_for_send(stream_id))
        stream.sender.write(data, end_stream)
        if len(stream.head) <= stream.header_size:
            stream.head += bytes(data[: stream.header_size + 1 - len(stream.head)])
        self.kept += len(data)
        self.activate(stream)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.sender.is_finished or stream.sender.is_reset:
            return
        self.kept -= stream.sender.kept
        stream.sender.reset(error_code)
        self.activate(stream)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished:
            return
        stream.receiver.stop(error_code)
        self.activate(stream)

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

    def _handle_stream_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        reported = len(self._events)
        super()._handle_stream_frame(context, frame_type, buf)
        if len(self._events) > reported:
            event = cast(events.StreamDataReceived, self._events[-1])
            stream = self._streams[event.stream_id]
            if stream.reliable_reset is not None:
                event.end_stream = False
                self._apply_reliable_reset(stream)
            elif stream.receiver.is_finished:
                self.activate(stream)

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
        self.activate(stream)

    def _handle_stop_sending_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        start = buf.tell()
        stream = self._streams.get(buf.pull_uint_var())
        buf.seek(start)
        kept = withheld = 0
        if stream is not None:
            # reliable-stream-reset-10 §6: the answer to STOP_SENDING is a plain RESET_STREAM.
            stream.head = b""
            kept, withheld = stream.sender.kept, stream.withheld
        super()._handle_stop_sending_frame(context, frame_type, buf)
        event = cast(events.StopSendingReceived, self._events.pop())
        self._events.append(StopSendingReceived(event.error_code, event.stream_id, withheld))
        self.kept -= kept
        self.activate(self._streams[event.stream_id])

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
        stream = self.drained[stream_id] = self._streams[stream_id]
        self.activate(stream)

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        super()._on_max_stream_data_delivery(delivery, stream)
        if delivery is QuicDeliveryState.LOST and not stream.receiver.is_finished:
            self._credit_due[cast(int, stream.stream_id)] = cast(Stream, stream)

    # sending

    def max_datagram_payload(self) -> int:
        """The largest DATAGRAM payload that fits a packet of its own; 0: the peer takes none."""
        frame_size = self.peer_max_datagram_frame_size
        packet = self._max_datagram_size - SHORT_HEADER_OVERHEAD - len(self._peer_cid.cid)
        room = min(packet, frame_size)
        return max(0, room - 1 - size_uint_var(room)) if room > 1 else 0

    def send_datagram_frame(self, data: bytes) -> None:
        """Queue a datagram; when the queue is full its oldest goes, and is counted."""
        if len(self._datagrams_pending) >= self._max_datagrams:
            self._datagrams_pending.popleft()
            self.datagrams_dropped += 1
        self._datagrams_pending.append(data)

    def delay_ack(self, now: float) -> None:
        """An acknowledgement that is due goes out later, unless something else is to be sent."""
        space = self._spaces[tls.Epoch.ONE_RTT]
        if space.ack_at is not None:
            space.ack_at = now + LAST_ACK_DELAY

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        for stream in self._finished:
            self._discard(stream)
        self._finished.clear()
        datagrams = super().datagrams_to_send(now)
        self.packets_sent += len(datagrams)
        self.bytes_sent += sum(len(data) for data, _ in datagrams)
        return datagrams

    def _write_application(
        self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float
    ) -> None:
        crypto = self._cryptos[tls.Epoch.ONE_RTT]
        if not crypto.send.is_valid():
            return  # 0-RTT is never used: CONNECT is not a safe method (RFC 9114 §10.9).
        space = self._spaces[tls.Epoch.ONE_RTT]
        while True:
            ack_due = space.ack_at is not None and space.ack_at <= now
            if not ack_due:
                self._pacing_at = self._loss._pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            if ack_due or (space.ack_at is not None and self._has_payload()):
                self._write_ack_frame(builder=builder, space=space, now=now)
            try:
                self._fill_packet(builder, network_path, space, now)
            except QuicPacketBuilderStop:
                if builder.packet_is_empty:
                    raise  # not even one frame: the congestion window is used up
            if builder.packet_is_empty:
                return
            self._loss._pacer.update_after_send(now=now)

    def _has_payload(self) -> bool:
        return bool(self._active or self._datagrams_pending)

    def _fill_packet(
        self,
        builder: QuicPacketBuilder,
        network_path: QuicNetworkPath,
        space: QuicPacketSpace,
        now: float,
    ) -> None:
        """Frames by their urgency, until there are no more or one does not fit."""
        if self._handshake_complete:
            self._write_path_frames(builder, network_path, now)
            self._write_connection_limits(builder=builder, space=space)
        self._write_due_credit(builder)
        self._write_pings(builder)
        crypto_stream = self._crypto_streams[tls.Epoch.ONE_RTT]
        if not crypto_stream.sender.buffer_is_empty:
            self._write_crypto_frame(builder=builder, space=space, stream=crypto_stream)
        self._write_datagrams(builder)
        self._write_streams(builder, space)

    def _write_path_frames(
        self, builder: QuicPacketBuilder, path: QuicNetworkPath, now: float
    ) -> None:
        if not (path.is_validated or path.local_challenge_sent):
            self._write_path_challenge_frame(builder=builder, network_path=path)
            if path.validation_deadline is None:
                # RFC 9000 §8.2.4: three times the PTO, or that of a path never measured.
                path.validation_deadline = now + 3 * max(
                    self._loss.get_probe_timeout(), 2 * self._configuration.initial_rtt
                )
        if self._handshake_done_pending:
            self._write_handshake_done_frame(builder=builder)
            self._handshake_done_pending = False
        while path.remote_challenges:
            self._write_path_response_frame(builder=builder, challenge=path.remote_challenges[0])
            path.remote_challenges.popleft()
        for connection_id in self._host_cids:
            if not connection_id.was_sent:
                self._write_new_connection_id_frame(builder=builder, connection_id=connection_id)
        while self._retire_connection_ids:
            self._write_retire_connection_id_frame(
                builder=builder, sequence_number=self._retire_connection_ids[0]
            )
            del self._retire_connection_ids[0]

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        for limit, step in self._limits:
            if limit.value - limit.sent >= step:
                buf = builder.start_frame(
                    limit.frame_type,
                    capacity=CONNECTION_LIMIT_FRAME_CAPACITY,
                    handler=self._on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buf.push_uint_var(min(limit.value, MAX_PROMISED_STREAMS))
                limit.sent = limit.value

    def _write_due_credit(self, builder: QuicPacketBuilder) -> None:
        while self._credit_due:
            stream_id, stream = next(iter(self._credit_due.items()))
            if not stream.receiver.is_finished:
                buf = builder.start_frame(
                    QuicFrameType.MAX_STREAM_DATA,
                    capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
                    handler=self._on_max_stream_data_delivery,
                    handler_args=(stream,),
                )
                buf.push_uint_var(stream_id)
                buf.push_uint_var(stream.max_stream_data_local)
                stream.max_stream_data_local_sent = stream.max_stream_data_local
            del self._credit_due[stream_id]

    def _write_pings(self, builder: QuicPacketBuilder) -> None:
        if self._ping_pending:
            self._write_ping_frame(builder, self._ping_pending)
            self._ping_pending.clear()
        if self._probe_pending:
            self._write_ping_frame(builder, comment="probe")
            self._probe_pending = False

    def _write_datagrams(self, builder: QuicPacketBuilder) -> None:
        pending: deque[bytes] = self._datagrams_pending
        while pending:
            try:
                self._write_datagram_frame(
                    builder=builder,
                    data=pending[0],
                    frame_type=QuicFrameType.DATAGRAM_WITH_LENGTH,
                )
            except QuicPacketBuilderStop:
                return
            pending.popleft()

    def _write_streams(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        """Fill the packet from the active streams; one that is not done goes to the end."""
        active = self._active
        for _ in range(len(active)):
            stream_id = next(iter(active))
            stream = active[stream_id]
            has_signal = stream.receiver.stop_pending or stream.sender.reset_pending
            if builder.remaining_flight_space < (SIGNAL_SPACE if has_signal else DATA_SPACE):
                return
            del active[stream_id]
            if stream.receiver.stop_pending:
                self._write_stop_sending_frame(builder=builder, stream=stream)
            if stream.sender.reset_pending:
                self._write_reset_stream_frame(builder=builder, stream=stream)
            if not stream.sender.buffer_is_empty:
                credit = self._remote_max_data - self._remote_max_data_used
                self._remote_max_data_used += self._write_stream_frame(
                    builder=builder,
                    space=space,
                    stream=stream,
                    max_offset=min(
                        stream.sender.highest_offset + credit, stream.max_stream_data_remote
                    ),
                )
                self._queue_again(stream)

    def _queue_again(self, stream: Stream) -> None:
        """Decide what a stream with unacknowledged data waits for after its turn."""
        sender = stream.sender
        if not sender.has_pending:
            sender.buffer_is_empty = True
        elif sender.next_offset < sender.highest_offset or not sender.has_pending_data:
            self._active[stream.stream_id] = stream  # retransmission or bare FIN: no credit needed
        elif sender.next_offset >= stream.max_stream_data_remote:
            return  # MAX_STREAM_DATA activates it
        elif self._remote_max_data_used >= self._remote_max_data:
            self._starved[stream.stream_id] = stream
        else:
            self._active[stream.stream_id] = stream

    def _discard(self, stream: Stream) -> None:
        if self._streams.pop(stream.stream_id, None) is None:
            return
        self._active.pop(stream.stream_id, None)
        self._credit_due.pop(stream.stream_id, None)
        self._starved.pop(stream.stream_id, None)
        is_peer_stream = stream_is_client_initiated(stream.stream_id) != self._is_client
        if is_peer_stream and not stream.is_retained:
            self._stream_limit(stream.stream_id).value += 1

    def _write_stop_sending_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        buf = builder.start_frame(
            QuicFrameType.STOP_SENDING,
            capacity=STOP_SENDING_FRAME_CAPACITY,
            handler=cast(Stream, stream).on_stop_delivery,
        )
        frame = stream.receiver.get_stop_frame()
        buf.push_uint_var(frame.stream_id)
        buf.push_uint_var(frame.error_code)

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


def exporter_context(session_id: int, label: bytes, context: bytes) -> bytes:
    """webtrans-http3-16 §4.9: what one session puts into the exporter's context."""
    return struct.pack("!QB", session_id, len(label)) + label + bytes([len(context)]) + context
