"""QUIC streams for the aioquic engine: aioquic's, with credit and activity made explicit.

aioquic looks at every stream for every packet it builds, and hands out credit as bytes arrive.
Both are replaced here and in :mod:`.aioquic_quic`: a stream says when it has something to
send, and its credit goes back when the application has read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStream, QuicStreamSender

if TYPE_CHECKING:
    from aioquic.quic.packet import QuicStreamFrame

__all__ = ["Sender", "Stream"]


class StreamOwner(Protocol):
    """What a stream asks of its connection."""

    drained: set[int]
    kept: int

    def activate(self, stream_id: int) -> None: ...


class Sender(QuicStreamSender):
    """The sending half; tells the connection what it sent, lost and finished.

    It does not know its stream: a stream that is done is freed, and not only by the collector.
    """

    def __init__(self, quic: StreamOwner, stream_id: int, *, writable: bool) -> None:
        super().__init__(stream_id=stream_id, writable=writable)
        self._quic = quic
        self._id = stream_id

    @property
    def written(self) -> int:
        """Bytes taken from the application, header included; 0 after a reset."""
        return 0 if self.is_reset else self._buffer_stop

    @property
    def unsent(self) -> int:
        """Bytes written that no packet has carried yet."""
        return 0 if self.is_reset else self._buffer_stop - self.highest_offset

    @property
    def kept(self) -> int:
        """Bytes written that the peer has not acknowledged."""
        return 0 if self.is_reset else self._buffer_stop - self._buffer_start

    @property
    def is_reset(self) -> bool:
        return self._reset_error_code is not None

    @property
    def is_ended(self) -> bool:
        """Whether nothing more may be written."""
        return self._buffer_fin is not None or self.is_reset or self.is_finished

    @property
    def has_pending(self) -> bool:
        """Whether there is data or a FIN to send, or to send again."""
        return self._pending_eof or len(self._pending) > 0

    @property
    def has_pending_data(self) -> bool:
        return len(self._pending) > 0

    def get_frame(self, max_size: int, max_offset: int | None = None) -> QuicStreamFrame | None:
        before = self.highest_offset
        frame = super().get_frame(max_size, max_offset)
        if self.highest_offset > before:
            self._quic.drained.add(self._id)
        return frame

    def on_data_delivery(
        self, delivery: QuicDeliveryState, start: int, stop: int, fin: bool
    ) -> None:
        before = self._buffer_start
        super().on_data_delivery(delivery, start, stop, fin)
        self._quic.kept -= self._buffer_start - before
        if delivery is QuicDeliveryState.LOST or self.is_finished:
            self._quic.activate(self._id)

    def on_reset_delivery(self, delivery: QuicDeliveryState) -> None:
        super().on_reset_delivery(delivery)
        self._quic.activate(self._id)


class Stream(QuicStream):
    """One QUIC stream with what the engine has to know about it."""

    sender: Sender
    stream_id: int

    def __init__(self, quic: StreamOwner, plain: QuicStream) -> None:
        """Takes the place of ``plain``, which aioquic has just created."""
        super().__init__(
            stream_id=plain.stream_id,
            max_stream_data_local=plain.max_stream_data_local,
            max_stream_data_remote=plain.max_stream_data_remote,
            readable=not plain.receiver.is_finished,
            writable=False,
        )
        self.quic = quic
        self.sender = Sender(quic, self.stream_id, writable=not plain.sender.is_finished)
        self.consumed = 0
        """Bytes whose credit has gone back to the peer."""
        self.is_credit_settled = False
        """All of it is consumed, also what the application has not read: it was reset."""
        self.is_retained = False
        """The application has not taken the whole of it: the peer gets no stream in exchange."""
        self.reliable_size = 0
        """Bytes from the start that the peer gets although the stream was reset."""
        self.header_size = 0
        """Length of the WebTransport header, if this end sends it."""
        self._head = b""
        """The header and one byte more: what a reset may have to leave."""
        self.reliable_reset: tuple[int, int] | None = None
        """Code and reliable size of a received RESET_STREAM_AT that waits for data."""

    @property
    def credit(self) -> int:
        """Bytes that the peer takes on this stream beyond those written."""
        return self.max_stream_data_remote - self.sender.written

    @property
    def reliable_part(self) -> bytes:
        """What goes with RESET_STREAM_AT; b"": a plain RESET_STREAM does."""
        return self._head[: self.reliable_size] if len(self._head) >= self.reliable_size else b""

    def keep_head(self, data: bytes) -> None:
        """Written, perhaps at the start of the stream."""
        if self.header_size and len(self._head) <= self.header_size:
            self._head += bytes(data[: self.header_size + 1 - len(self._head)])

    def withheld(self, *, reliably: bool) -> int:
        """Bytes of payload that a reset now keeps out of the final size that the peer gets."""
        sender = self.sender
        least = len(self._head) if reliably else self.header_size
        return max(0, sender.written - max(sender.highest_offset, least))

    def on_stop_delivery(self, delivery: QuicDeliveryState) -> None:
        self.receiver.on_stop_sending_delivery(delivery)
        if delivery is QuicDeliveryState.LOST:
            self.quic.activate(self.stream_id)
