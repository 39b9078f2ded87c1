"""What goes into a packet of the aioquic engine, in which order and at what cost.

aioquic visits every open stream for every packet; here only those are visited that have something
to send, and one with more than its turn goes to the end of the line.
"""

from __future__ import annotations

from typing import Any, cast

from aioquic import tls
from aioquic.buffer import size_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    CONNECTION_LIMIT_FRAME_CAPACITY,
    MAX_STREAM_DATA_FRAME_CAPACITY,
    STOP_SENDING_FRAME_CAPACITY,
    Limit,
    QuicNetworkPath,
    stream_is_client_initiated,
)
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import (
    QuicDeliveryState,
    QuicPacketBuilder,
    QuicPacketBuilderStop,
)
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from pywebtransport._engine.aioquic_datagrams import OutgoingDatagrams
from pywebtransport._engine.aioquic_recovery import Recovery
from pywebtransport._engine.aioquic_reset import ReliableResets
from pywebtransport._engine.aioquic_stream import Stream

__all__ = ["PacketWriter"]

DATA_SPACE = 8
"""With less room than this, a packet takes no further STREAM frame."""
SIGNAL_SPACE = 80
"""Room for STOP_SENDING and the longest way to reset a stream."""
SHORT_HEADER_OVERHEAD = 3 + 16
"""First byte, packet number and AEAD tag of a 1-RTT packet; the connection id comes on top."""
MAX_PROMISED_STREAMS = 1 << 60
LAST_ACK_DELAY = 0.02
"""Seconds for :meth:`PacketWriter.delay_ack`: within the max_ack_delay of 25 ms that aioquic
promises."""


class PacketWriter(ReliableResets):
    """A QUIC connection that knows which of its streams have something to send."""

    _streams: dict[int, Stream]  # type: ignore[assignment]  # every stream is one of ours
    _loss: Recovery

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        max_streams_bidi: int,
        max_streams_uni: int,
        max_datagrams: int,
        **options: Any,
    ) -> None:
        super().__init__(configuration=configuration, **options)
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
        self._loss = Recovery(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=configuration.max_datagram_size,
            peer_completed_address_validation=not configuration.is_client,
            quic_logger=self._quic_logger,
            send_probe=self._send_probe,
        )
        self._are_datagrams_first = False
        self.outgoing = OutgoingDatagrams(max_datagrams)
        self.datagrams_sent = 0
        self.datagrams_lost = 0
        """Of those sent, how many were in packets that did not arrive."""
        self.packets_sent = 0
        self.bytes_sent = 0

    def _connect(self, now: float) -> None:
        # After Retry or version negotiation aioquic begins anew, and counts the first flight as
        # in flight for ever (RFC 9002 §6.3).
        for space in self._spaces.values():
            self._loss.discard_space(space)
        super()._connect(now=now)

    def activate(self, stream_id: int) -> None:
        """Have the next flush look at this stream, unless it is discarded already."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.is_finished:
            self._finished.append(stream)
        else:
            self._active[stream_id] = stream

    @property
    def peer_max_datagram_frame_size(self) -> int:
        return self._remote_max_datagram_frame_size or 0

    def max_datagram_payload(self) -> int:
        """The largest DATAGRAM payload that fits a packet of its own; 0: the peer takes none."""
        packet = self._max_datagram_size - SHORT_HEADER_OVERHEAD - len(self._peer_cid.cid)
        room = min(packet, self.peer_max_datagram_frame_size)
        return max(0, room - 1 - size_uint_var(room)) if room > 1 else 0

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
        return bool(self._active or self.outgoing)

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
        # Neither kind can starve the other: packet by packet the other one goes first.
        self._are_datagrams_first = not self._are_datagrams_first
        if self._are_datagrams_first:
            self._write_datagrams(builder)
            self._write_streams(builder, space)
        else:
            self._write_streams(builder, space)
            self._write_datagrams(builder)

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
                if self._quic_logger is not None:
                    frame = self._quic_logger.encode_connection_limit_frame(
                        frame_type=limit.frame_type, maximum=limit.value
                    )
                    self._log_frame(builder, frame)

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
                if self._quic_logger is not None:
                    frame = self._quic_logger.encode_max_stream_data_frame(
                        maximum=stream.max_stream_data_local, stream_id=stream_id
                    )
                    self._log_frame(builder, frame)
            del self._credit_due[stream_id]

    def _write_pings(self, builder: QuicPacketBuilder) -> None:
        if self._ping_pending:
            self._write_ping_frame(builder, self._ping_pending)
            self._ping_pending.clear()
        if self._probe_pending:
            self._write_ping_frame(builder, comment="probe")
            self._probe_pending = False

    def _write_datagrams(self, builder: QuicPacketBuilder) -> None:
        outgoing, limit = self.outgoing, self.max_datagram_payload()
        while outgoing:
            data = outgoing.first()
            if len(data) > limit:
                # The path or the peer's connection id has changed since it was given: it would
                # wait for ever, and all others behind it.
                outgoing.drop_first()
                continue
            try:
                buf = builder.start_frame(
                    QuicFrameType.DATAGRAM_WITH_LENGTH,
                    capacity=1 + size_uint_var(len(data)) + len(data),
                    handler=self._on_datagram_delivery,
                )
            except QuicPacketBuilderStop:
                return
            buf.push_uint_var(len(data))
            buf.push_bytes(data)
            outgoing.pop()
            self.datagrams_sent += 1
            if self._quic_logger is not None:
                self._log_frame(builder, self._quic_logger.encode_datagram_frame(len(data)))

    def _on_datagram_delivery(self, delivery: QuicDeliveryState) -> None:
        if delivery is QuicDeliveryState.LOST:
            self.datagrams_lost += 1

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
        if self._quic_logger is not None:
            told = self._quic_logger.encode_stop_sending_frame(frame.error_code, frame.stream_id)
            self._log_frame(builder, told)
