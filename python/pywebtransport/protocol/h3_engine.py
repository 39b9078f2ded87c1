"""HTTP/3 frames for WebTransport, on a QUIC connection that somebody else drives.

Framing and nothing else: which session a stream belongs to, whether a request is a good one,
what a capsule means and how much may be sent is the caller's business. Applications want
:class:`~pywebtransport.protocol.WebTransportProtocolHandler`, which knows all of that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pywebtransport import constants as c
from pywebtransport._engine.driver import core_config, peer_max_datagram_frame_size
from pywebtransport._native import (
    CORE_NOTIFICATIONS,
    CodecError,
    CoreConnection,
    QpackDecoderStream,
    QpackEncoderStream,
    datagram_decode,
    datagram_encode,
    frame_encode,
    section_decode,
    section_encode,
    settings_decode,
    stream_header_decode,
    stream_header_encode,
)
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import ProtocolError
from pywebtransport.protocol._frame_reader import CapsuleReader, FrameReader
from pywebtransport.protocol.events import (
    CapsuleReceived,
    DatagramReceived,
    H3Event,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from pywebtransport.protocol.utils import (
    is_client_initiated_stream,
    is_unidirectional_stream,
)
from pywebtransport.types import EventType, Headers, StreamId

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection
    from aioquic.quic.events import QuicEvent

    from pywebtransport.config import ClientConfig, ServerConfig

__all__ = ["WebTransportH3Engine"]

MAX_CAPSULE_SIZE = 65_536
"""A value that is longer ends the connection; CLOSE has at most 1,028 bytes."""
MAX_CONTROL_FRAME_SIZE = 16_384
"""SETTINGS and GOAWAY that are longer end the connection."""

CAPSULE_TYPES = frozenset(
    {
        c.CLOSE_WEBTRANSPORT_SESSION_TYPE,
        c.DRAIN_WEBTRANSPORT_SESSION_TYPE,
        c.WT_DATA_BLOCKED_TYPE,
        c.WT_MAX_DATA_TYPE,
        c.WT_MAX_STREAMS_BIDI_TYPE,
        c.WT_MAX_STREAMS_UNI_TYPE,
        c.WT_STREAMS_BLOCKED_BIDI_TYPE,
        c.WT_STREAMS_BLOCKED_UNI_TYPE,
    }
)
"""PyWebTransport 0.8 sends them without DATA frames around them."""
HTTP2_FRAME_TYPES = frozenset({0x2, 0x6, 0x8, 0x9})
"""Reserved so that they are never mistaken for HTTP/2's (RFC 9114 §7.2.8)."""
NOT_ON_CONTROL_STREAM = HTTP2_FRAME_TYPES | {
    c.H3_FRAME_TYPE_DATA,
    c.H3_FRAME_TYPE_HEADERS,
    c.H3_FRAME_TYPE_PUSH_PROMISE,
}
NOT_ON_REQUEST_STREAM = HTTP2_FRAME_TYPES | {
    c.H3_FRAME_TYPE_CANCEL_PUSH,
    c.H3_FRAME_TYPE_GOAWAY,
    c.H3_FRAME_TYPE_MAX_PUSH_ID,
    c.H3_FRAME_TYPE_PUSH_PROMISE,
    c.H3_FRAME_TYPE_SETTINGS,
}


class _Request:
    """A CONNECT stream."""

    __slots__ = ("capsules", "frames", "has_received_headers", "has_sent_headers")

    def __init__(self, max_field_section_size: int) -> None:
        self.frames = FrameReader(
            wanted={c.H3_FRAME_TYPE_HEADERS} | CAPSULE_TYPES,
            max_frame_size=max_field_section_size,
        )
        self.capsules = CapsuleReader(max_capsule_size=MAX_CAPSULE_SIZE)
        self.has_received_headers = False
        self.has_sent_headers = False


class _Critical:
    """One of the peer's streams that live as long as the connection (RFC 9114 §6.2.1)."""

    __slots__ = ("reader", "type")

    def __init__(
        self, stream_type: int, reader: FrameReader | QpackEncoderStream | QpackDecoderStream
    ) -> None:
        self.type = stream_type
        self.reader = reader


class WebTransportH3Engine(EventEmitter):
    """Reads and writes the frames, capsules and stream headers of one HTTP/3 connection.

    Make it when the handshake is complete: it opens the control stream and sends SETTINGS, without
    a QPACK table. It emits SETTINGS_RECEIVED ``{"settings": {id: value}}``. After every call, send
    what the QUIC connection has to send.

    Args:
        quic: A connection of aioquic, of qh3 or of :mod:`pywebtransport.quic`.
        config: Decides what SETTINGS announce, and the largest field section.
    """

    def __init__(self, quic: QuicConnection, *, config: ClientConfig | ServerConfig) -> None:
        super().__init__()
        self._quic = quic
        self._is_client = quic.configuration.is_client
        self._max_field_section_size = config.max_field_section_size
        self._is_done = False
        self._has_settings = False
        self._headers: dict[StreamId, bytearray] = {}
        """Streams of the peer whose header is incomplete."""
        self._requests: dict[StreamId, _Request] = {}
        self._payload: dict[StreamId, StreamId] = {}
        """WebTransport streams to be received, with their CONNECT streams."""
        self._critical: dict[StreamId, _Critical] = {}
        self._ignored: set[StreamId] = set()
        self._announce(config)

    @property
    def is_client(self) -> bool:
        """The role of the QUIC connection."""
        return self._is_client

    # from QUIC

    async def handle_event(self, *, event: QuicEvent) -> list[H3Event]:
        """Take one event of the QUIC connection; what it means for HTTP/3.

        A peer that breaks the rules has its connection closed, and nothing is reported any more.
        The end of a CONNECT stream after its headers is in its QUIC event only.
        """
        if self._is_done:
            return []
        found: list[H3Event] = []
        settings: list[dict[int, int]] = []
        data: Any = event
        try:
            match type(event).__name__:
                case "StreamDataReceived":
                    received = self._receive(data.stream_id, data.data, data.end_stream)
                    for item in received:
                        if isinstance(item, dict):
                            settings.append(item)
                        else:
                            found.append(item)
                case "StreamReset":
                    self._reset(data.stream_id)
                case "DatagramFrameReceived":
                    stream_id, payload = datagram_decode(data.data)
                    found.append(DatagramReceived(data=payload, stream_id=stream_id))
        except (CodecError, ProtocolError) as error:
            self._is_done = True
            code = error.code if isinstance(error, CodecError) else error.error_code
            self._quic.close(error_code=code, reason_phrase=str(error))
        for one in settings:
            await self.emit(
                event_type=EventType.SETTINGS_RECEIVED, data={"settings": one}, source=self
            )
        return found

    # towards QUIC

    def create_webtransport_stream(
        self, *, control_stream_id: StreamId, is_unidirectional: bool = False
    ) -> int:
        """Open a stream in the session of this CONNECT stream; its id."""
        stream_id = self.get_next_available_stream_id(is_unidirectional)
        header = stream_header_encode(control_stream_id, unidirectional=is_unidirectional)
        self._quic.send_stream_data(stream_id, header)
        if not is_unidirectional:
            self._payload[stream_id] = control_stream_id
        return stream_id

    def send_capsule(self, *, stream_id: StreamId, capsule_data: bytes) -> None:
        """Send a capsule, encoded with type and length, in a DATA frame on a CONNECT stream.

        PyWebTransport 0.8 wants it without the frame: :meth:`send_data` sends it so. Raises
        ProtocolError for other streams.
        """
        self._check_request(stream_id, "capsules")
        frame = frame_encode(c.H3_FRAME_TYPE_DATA, capsule_data)
        self._quic.send_stream_data(stream_id, frame)

    def send_data(self, *, stream_id: int, data: bytes, end_stream: bool) -> None:
        """Send bytes as they are: the payload of a WebTransport stream, or the end of any."""
        if data or end_stream:
            self._quic.send_stream_data(stream_id, data, end_stream)

    def send_datagram(self, *, stream_id: int, data: bytes) -> None:
        """Send a datagram in the session of this CONNECT stream; ProtocolError for others."""
        self._check_request(stream_id, "datagrams")
        self._quic.send_datagram_frame(datagram_encode(stream_id, data))

    def send_headers(
        self, *, stream_id: StreamId, headers: Headers, end_stream: bool = False
    ) -> None:
        """Send a request or a response, in the order of ``headers``, once on a stream."""
        request = self._requests.get(stream_id)
        if request is None and self._is_client:
            request = self._requests[stream_id] = _Request(self._max_field_section_size)
        if request is not None:
            if request.has_sent_headers:
                raise ProtocolError(
                    f"stream {stream_id} has had its headers",
                    error_code=ErrorCodes.H3_FRAME_UNEXPECTED,
                )
            request.has_sent_headers = True
        section = section_encode((name.encode(), value.encode()) for name, value in headers.items())
        frame = frame_encode(c.H3_FRAME_TYPE_HEADERS, section)
        self._quic.send_stream_data(stream_id, frame, end_stream)

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        """The id that the next stream opened here will have."""
        return self._quic.get_next_available_stream_id(is_unidirectional)

    def get_server_name(self) -> str | None:
        """The name that the client asked for, or asks for, in TLS; None when not configured."""
        return self._quic.configuration.server_name

    # private

    def _announce(self, config: ClientConfig | ServerConfig) -> None:
        """Open the control stream as the protocol core does it."""
        core = CoreConnection(core_config(config, is_client=self._is_client))
        core.handle_connected(
            self.get_next_available_stream_id(True),
            peer_max_datagram_frame_size(self._quic),
            config.max_datagram_size,
            False,
            False,
            0.0,
        )
        for tag, *arguments in core.drain():
            if CORE_NOTIFICATIONS[tag] == "send_stream":
                self._quic.send_stream_data(*arguments)

    def _check_request(self, stream_id: StreamId, what: str) -> None:
        if is_unidirectional_stream(stream_id=stream_id) or not is_client_initiated_stream(
            stream_id=stream_id
        ):
            raise ProtocolError(
                f"{what} belong to a CONNECT stream, which stream {stream_id} cannot be",
                error_code=ErrorCodes.H3_STREAM_CREATION_ERROR,
            )

    def _receive(
        self, stream_id: StreamId, data: bytes, ended: bool
    ) -> Iterator[H3Event | dict[int, int]]:
        if stream_id in self._payload:
            yield self._payload_received(stream_id, data, ended)
        elif stream_id in self._requests:
            yield from self._request_received(stream_id, data, ended)
        elif stream_id in self._critical:
            yield from self._critical_received(self._critical[stream_id], data, ended)
        elif stream_id in self._ignored:
            if ended:
                self._ignored.discard(stream_id)
        else:
            yield from self._unknown_received(stream_id, data, ended)

    def _unknown_received(
        self, stream_id: StreamId, data: bytes, ended: bool
    ) -> Iterator[H3Event | dict[int, int]]:
        """The first bytes of a stream of the peer."""
        head = self._headers.setdefault(stream_id, bytearray())
        head += data
        is_uni = is_unidirectional_stream(stream_id=stream_id)
        found = stream_header_decode(head, unidirectional=is_uni)
        if found is None:
            if ended:
                del self._headers[stream_id]  # RFC 9114 §6.2: that is allowed
            return
        del self._headers[stream_id]
        stream_type, session_id, size = found
        rest = bytes(head[size:])
        if session_id is not None:
            self._payload[stream_id] = session_id
        elif is_uni:
            self._unidirectional_opened(stream_id, stream_type)
        elif self._is_client:
            raise ProtocolError(
                f"the server opened stream {stream_id} without a session",
                error_code=ErrorCodes.H3_STREAM_CREATION_ERROR,
            )
        else:
            self._requests[stream_id] = _Request(self._max_field_section_size)
        if rest or ended:
            yield from self._receive(stream_id, rest, ended)

    def _unidirectional_opened(self, stream_id: StreamId, stream_type: int | None) -> None:
        reader: FrameReader | QpackEncoderStream | QpackDecoderStream
        match stream_type:
            case c.H3_STREAM_TYPE_CONTROL:
                reader = FrameReader(
                    wanted={c.H3_FRAME_TYPE_SETTINGS, c.H3_FRAME_TYPE_GOAWAY},
                    max_frame_size=MAX_CONTROL_FRAME_SIZE,
                )
            case c.H3_STREAM_TYPE_QPACK_ENCODER:
                reader = QpackEncoderStream()
            case c.H3_STREAM_TYPE_QPACK_DECODER:
                reader = QpackDecoderStream()
            case c.H3_STREAM_TYPE_PUSH:
                code = ErrorCodes.H3_ID_ERROR if self._is_client else None
                raise ProtocolError(
                    "a push stream, and nobody allowed pushes",
                    error_code=code or ErrorCodes.H3_STREAM_CREATION_ERROR,
                )
            case _:
                self._ignored.add(stream_id)
                return
        if any(known.type == stream_type for known in self._critical.values()):
            raise ProtocolError(
                f"a second stream of type {stream_type}",
                error_code=ErrorCodes.H3_STREAM_CREATION_ERROR,
            )
        self._critical[stream_id] = _Critical(stream_type, reader)

    def _payload_received(
        self, stream_id: StreamId, data: bytes, ended: bool
    ) -> WebTransportStreamDataReceived:
        event = WebTransportStreamDataReceived(
            data=data,
            control_stream_id=self._payload[stream_id],
            stream_id=stream_id,
            stream_ended=ended,
        )
        if ended:
            del self._payload[stream_id]
        return event

    def _critical_received(
        self, stream: _Critical, data: bytes, ended: bool
    ) -> Iterator[dict[int, int]]:
        if isinstance(stream.reader, FrameReader):
            for frame_type, payload in stream.reader.feed(data):
                yield from self._control_frame(frame_type, payload)
        else:
            stream.reader.feed(data)
        if ended:
            raise ProtocolError(
                "a critical stream ended", error_code=ErrorCodes.H3_CLOSED_CRITICAL_STREAM
            )

    def _control_frame(self, frame_type: int, payload: bytes) -> Iterator[dict[int, int]]:
        if frame_type == c.H3_FRAME_TYPE_SETTINGS and not self._has_settings:
            self._has_settings = True
            yield settings_decode(payload)
            return
        if not self._has_settings:
            raise ProtocolError(
                "the control stream does not begin with SETTINGS",
                error_code=ErrorCodes.H3_MISSING_SETTINGS,
            )
        if frame_type in NOT_ON_CONTROL_STREAM or frame_type == c.H3_FRAME_TYPE_SETTINGS:
            raise _unexpected(frame_type)

    def _request_received(self, stream_id: StreamId, data: bytes, ended: bool) -> Iterator[H3Event]:
        request = self._requests[stream_id]
        found: list[H3Event] = []
        for frame_type, payload in request.frames.feed(data):
            found += self._request_frame(stream_id, request, frame_type, payload)
        if ended:
            del self._requests[stream_id]
            if not request.frames.is_at_boundary or not request.capsules.is_at_boundary:
                raise ProtocolError(
                    f"stream {stream_id} ended within a frame or a capsule",
                    error_code=ErrorCodes.H3_FRAME_ERROR,
                )
            if found and isinstance(found[-1], HeadersReceived):
                found[-1].stream_ended = True
        yield from found

    def _request_frame(
        self, stream_id: StreamId, request: _Request, frame_type: int, payload: bytes
    ) -> Iterator[H3Event]:
        if frame_type in NOT_ON_REQUEST_STREAM:
            raise _unexpected(frame_type)
        if frame_type == c.H3_FRAME_TYPE_WEBTRANSPORT_STREAM:
            # webtrans-http3-16 §4.3: it is the first thing on a stream or an error.
            raise ProtocolError(
                "a WebTransport stream header within a stream",
                error_code=ErrorCodes.H3_FRAME_ERROR,
                frame_type=frame_type,
            )
        if frame_type == c.H3_FRAME_TYPE_HEADERS:
            if request.has_received_headers:
                raise _unexpected(frame_type)
            headers = self._fields(payload)
            # RFC 9110 §15.2: the answer proper follows an interim one.
            status = headers.get(":status", "") if self._is_client else ""
            request.has_received_headers = not status.startswith("1")
            yield HeadersReceived(headers=headers, stream_id=stream_id, stream_ended=False)
        elif frame_type == c.H3_FRAME_TYPE_DATA:
            if not request.has_received_headers:
                raise _unexpected(frame_type)
            for capsule_type, value in request.capsules.feed(payload):
                yield CapsuleReceived(
                    capsule_data=value, capsule_type=capsule_type, stream_id=stream_id
                )
        elif frame_type in CAPSULE_TYPES and request.has_received_headers:
            yield CapsuleReceived(
                capsule_data=payload, capsule_type=frame_type, stream_id=stream_id
            )

    def _fields(self, section: bytes) -> Headers:
        headers: Headers = {}
        for raw_name, raw_value in section_decode(section, max_size=self._max_field_section_size):
            name, value = raw_name.decode("latin-1"), raw_value.decode("utf-8", "replace")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return headers

    def _reset(self, stream_id: StreamId) -> None:
        """The peer will send nothing more on a stream."""
        if stream_id in self._critical:
            raise ProtocolError(
                "a critical stream was reset", error_code=ErrorCodes.H3_CLOSED_CRITICAL_STREAM
            )
        for streams in (self._headers, self._requests, self._payload):
            streams.pop(stream_id, None)
        self._ignored.discard(stream_id)


def _unexpected(frame_type: int) -> ProtocolError:
    return ProtocolError(
        f"a frame of type {frame_type:#x} where none may be",
        error_code=ErrorCodes.H3_FRAME_UNEXPECTED,
        frame_type=frame_type,
    )
