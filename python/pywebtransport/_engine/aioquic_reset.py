"""RESET_STREAM_AT for aioquic (draft-ietf-quic-reliable-stream-reset).

A reset that says how much of the stream the peer shall still get: for WebTransport the header,
without which nobody knows whose stream it was (webtrans-http3-16 §4.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from aioquic._buffer import Buffer
from aioquic.buffer import UINT_VAR_MAX_SIZE
from aioquic.quic.connection import (
    EPOCHS,
    QuicConnection,
    QuicConnectionError,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicStreamFrame
from aioquic.quic.stream import FinalSizeError, QuicStream

from pywebtransport._engine.aioquic_stream import Stream

if TYPE_CHECKING:
    from aioquic.quic.packet_builder import QuicPacketBuilder

__all__ = ["ReliableResets"]

RESET_STREAM_AT_FRAME = 0x24
RESET_STREAM_AT_PARAMETERS = (0x1D, 0x17F7586D2CB571)
"""Transport parameters that announce frame 0x24: of reliable-stream-reset-08 and later, of -05."""
RESET_STREAM_AT_FRAME_CAPACITY = 1 + 4 * UINT_VAR_MAX_SIZE


class ReliableResets(QuicConnection):
    """A QUIC connection that knows the frame and both transport parameters announcing it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.peer_resets_at = False
        """Whether the peer takes RESET_STREAM_AT."""
        # aioquic keeps its table of frame handlers under a private, mangled name.
        handlers = cast(dict[int, Any], self.__dict__["_QuicConnection__frame_handlers"])
        handlers[RESET_STREAM_AT_FRAME] = (self._handle_reset_stream_at_frame, EPOCHS("01"))

    def _receiving_ended(self, stream: Stream, code: int) -> None:
        """The receiving side of a stream has been reset with this code."""
        raise NotImplementedError

    def _handle_reset_stream_at_frame(
        self, context: QuicReceiveContext, frame_type: int, buf: Buffer
    ) -> None:
        """reliable-stream-reset-10 §4; it acts on the receiving state like a FIN (§5)."""
        stream_id = buf.pull_uint_var()
        code = buf.pull_uint_var()
        final_size = buf.pull_uint_var()
        reliable_size = buf.pull_uint_var()
        if self._quic_logger is not None:
            self._log_reset_at(context, code, final_size, stream_id, reliable_size)

        def refuse(error: QuicErrorCode, reason: str) -> QuicConnectionError:
            return QuicConnectionError(int(error), frame_type, reason)

        if reliable_size > final_size:
            raise refuse(QuicErrorCode.FRAME_ENCODING_ERROR, "Reliable size beyond final size")
        self._assert_stream_can_receive(frame_type, stream_id)
        stream = cast(Stream, self._get_or_create_stream(frame_type, stream_id))
        arrived = max(0, final_size - stream.receiver.highest_offset)
        if (
            final_size > stream.max_stream_data_local
            or self._local_max_data.used + arrived > self._local_max_data.value
        ):
            raise refuse(QuicErrorCode.FLOW_CONTROL_ERROR, "Over data limit")
        if stream.reliable_reset is not None:
            if stream.reliable_reset[0] != code:
                raise refuse(QuicErrorCode.STREAM_STATE_ERROR, "Reset with another code")
            reliable_size = min(reliable_size, stream.reliable_reset[1])
        was_finished = stream.receiver.is_finished
        try:
            stream.receiver.handle_frame(QuicStreamFrame(offset=final_size, fin=True))
        except FinalSizeError as error:
            raise refuse(QuicErrorCode.FINAL_SIZE_ERROR, str(error)) from None
        self._local_max_data.used += arrived
        if not was_finished:
            stream.reliable_reset = (code, reliable_size)
            self._apply_reliable_reset(stream)

    def _apply_reliable_reset(self, stream: Stream) -> None:
        code, reliable_size = cast(tuple[int, int], stream.reliable_reset)
        if stream.receiver.starting_offset() < reliable_size:
            return
        stream.reliable_reset = None
        stream.receiver.is_finished = True
        self._receiving_ended(stream, code)

    def _write_reset_stream_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        """RESET_STREAM, or RESET_STREAM_AT with its reliable part beside it in the same packet.

        aioquic sends no stream data after a reset, so every copy of the frame brings the
        reliable part along. The peer's credit has to cover that.
        """
        stream = cast(Stream, stream)
        sender = stream.sender
        head = stream.reliable_part
        beyond = max(0, len(head) - sender.highest_offset)
        if (
            not head
            or len(head) > stream.max_stream_data_remote
            or beyond > self._remote_max_data - self._remote_max_data_used
        ):
            super()._write_reset_stream_frame(builder, stream)
            return
        capacity = RESET_STREAM_AT_FRAME_CAPACITY + 2 + UINT_VAR_MAX_SIZE + len(head)
        buf = builder.start_frame(
            QuicFrameType.STREAM_BASE | 2, capacity=capacity, handler=sender.on_reset_delivery
        )
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(len(head))
        buf.push_bytes(head)
        self._remote_max_data_used += beyond
        sender.highest_offset += beyond
        frame = sender.get_reset_frame()
        buf.push_uint_var(RESET_STREAM_AT_FRAME)
        buf.push_uint_var(frame.stream_id)
        buf.push_uint_var(frame.error_code)
        buf.push_uint_var(frame.final_size)
        buf.push_uint_var(len(head))
        if self._quic_logger is not None:
            part = QuicStreamFrame(data=head)
            self._log_frame(builder, self._quic_logger.encode_stream_frame(part, stream.stream_id))
            self._log_reset_at(
                builder, frame.error_code, frame.final_size, stream.stream_id, len(head)
            )

    def _log_reset_at(
        self,
        packet: QuicPacketBuilder | QuicReceiveContext,
        code: int,
        final_size: int,
        stream_id: int,
        reliable_size: int,
    ) -> None:
        assert self._quic_logger is not None, "there is a log"
        frame = self._quic_logger.encode_reset_stream_frame(code, final_size, stream_id)
        told = {"frame_type": "reset_stream_at", "reliable_size": reliable_size}
        self._log_frame(packet, frame | told)

    @staticmethod
    def _log_frame(packet: QuicPacketBuilder | QuicReceiveContext, frame: dict[str, Any]) -> None:
        """For the log of a packet that is sent or received."""
        assert packet.quic_logger_frames is not None, "there is a log"
        packet.quic_logger_frames.append(frame)

    def _serialize_transport_parameters(self) -> bytes:
        buf = Buffer(capacity=16 * len(RESET_STREAM_AT_PARAMETERS))
        for parameter in RESET_STREAM_AT_PARAMETERS:
            buf.push_uint_var(parameter)
            buf.push_uint_var(0)
        return super()._serialize_transport_parameters() + buf.data

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        buf = Buffer(data=data)
        while not buf.eof():
            parameter = buf.pull_uint_var()
            value = buf.pull_bytes(buf.pull_uint_var())
            if parameter in RESET_STREAM_AT_PARAMETERS:
                if value:
                    raise QuicConnectionError(
                        error_code=QuicErrorCode.TRANSPORT_PARAMETER_ERROR,
                        frame_type=QuicFrameType.CRYPTO,
                        reason_phrase="reset_stream_at has a value",
                    )
                self.peer_resets_at = True
