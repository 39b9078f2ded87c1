"""Frames and capsules out of the bytes of one stream, however they are cut."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pywebtransport._native import capsule_decode_header, frame_decode_header
from pywebtransport.constants import H3_FRAME_TYPE_DATA, ErrorCodes
from pywebtransport.exceptions import ProtocolError

__all__ = ["CapsuleReader", "FrameReader"]


class FrameReader:
    """HTTP/3 frames; DATA passes in pieces, what nobody wants by its type alone."""

    __slots__ = ("_buffer", "_left", "_limit", "_type", "_wanted")

    def __init__(self, *, wanted: Collection[int], max_frame_size: int) -> None:
        """``wanted``: types whose payload is gathered, of up to ``max_frame_size`` bytes."""
        self._buffer = bytearray()
        self._wanted = wanted
        self._limit = max_frame_size
        self._type = H3_FRAME_TYPE_DATA
        self._left = 0
        """Bytes of the present frame that are passed on, or skipped, as they come."""

    @property
    def is_at_boundary(self) -> bool:
        """Whether the stream may end here."""
        return not self._buffer and not self._left

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and payload of what is complete; ProtocolError for a frame over the limit."""
        self._buffer += data
        while True:
            if self._left:
                piece = self._take(min(self._left, len(self._buffer)))
                self._left -= len(piece)
                if self._type == H3_FRAME_TYPE_DATA and piece:
                    yield self._type, piece
                if self._left:
                    return
            header = frame_decode_header(self._buffer)
            if header is None:
                return
            frame_type, length, size = header
            if frame_type not in self._wanted:
                self._take(size)
                self._type, self._left = frame_type, length
                yield frame_type, b""
                continue
            if length > self._limit:
                raise ProtocolError(
                    f"a frame of {length} bytes is over the limit of {self._limit}",
                    error_code=ErrorCodes.H3_EXCESSIVE_LOAD,
                    frame_type=frame_type,
                )
            if len(self._buffer) < size + length:
                return
            self._take(size)
            yield frame_type, self._take(length)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class CapsuleReader:
    """Capsules out of the payload of DATA frames."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, *, max_capsule_size: int) -> None:
        self._buffer = bytearray()
        self._limit = max_capsule_size

    @property
    def is_at_boundary(self) -> bool:
        """Whether the stream may end here."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and value of what is complete; ProtocolError for a capsule over the limit."""
        self._buffer += data
        while (header := capsule_decode_header(self._buffer)) is not None:
            capsule_type, length, size = header
            if length > self._limit:
                raise ProtocolError(
                    f"a capsule of {length} bytes is over the limit of {self._limit}",
                    error_code=ErrorCodes.H3_EXCESSIVE_LOAD,
                )
            if len(self._buffer) < size + length:
                return
            value = bytes(self._buffer[size : size + length])
            del self._buffer[: size + length]
            yield capsule_type, value
