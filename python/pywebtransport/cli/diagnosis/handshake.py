"""One QUIC handshake that trusts everybody, and all that the server says in it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509

from pywebtransport._engine.addresses import SocketAddress
from pywebtransport._native import (
    CodecError,
    frame_decode_header,
    settings_decode,
    transport_parameters_decode,
    varint_decode,
)
from pywebtransport.constants import ALPN_H3, H3_FRAME_TYPE_SETTINGS, MAX_DATAGRAM_SIZE, ErrorCodes

__all__ = ["ANY_ALPN", "Handshake", "Wanted", "shake_hands"]

ANY_ALPN = ("h3", "h3-29", "h3-32", "hq-interop", "hq-29", "doq", "smb", "moq-00", "h2", "http/1.1")
"""What to offer in order to learn what a server speaks instead of HTTP/3."""
CONTROL_STREAM = b"\x00"
IS_UNI_OF_SERVER = 0b11
MAX_DATAGRAM_FRAME_SIZE = 0x20
RESET_STREAM_AT = (0x17F7586D2CB571, 0x1D)
"""Transport parameters of reliable-stream-reset, the draft's and the registered one."""


@dataclass
class Handshake:
    """What came of it."""

    seconds: float = 0.0
    is_complete: bool = False
    has_answered: bool = False
    """A packet came back, whatever was in it."""
    alpn: str | None = None
    certificates: list[x509.Certificate] = field(default_factory=list)
    """As the server showed them, its own first."""
    parameters: dict[int, bytes] = field(default_factory=dict)
    """QUIC transport parameters (RFC 9000 §18)."""
    settings: dict[int, int] | None = None
    """HTTP/3's (RFC 9114 §7.2.4); None: none came."""
    settings_fault: str = ""
    """What is wrong with the server's control stream."""
    close_code: int | None = None
    """Of the CONNECTION_CLOSE that ended it."""
    close_reason: str = ""
    is_closed_by_server: bool = False

    @property
    def max_datagram_frame_size(self) -> int:
        """The server's; 0: it takes no datagrams (RFC 9221 §3)."""
        value = varint_decode(self.parameters.get(MAX_DATAGRAM_FRAME_SIZE, b"\0"))
        return 0 if value is None else value[0]

    @property
    def has_reset_stream_at(self) -> bool:
        """Whether the server speaks RESET_STREAM_AT, which drafts 13 and later demand."""
        return any(parameter in self.parameters for parameter in RESET_STREAM_AT)


@dataclass(frozen=True)
class Wanted:
    """Where to, and how."""

    address: SocketAddress
    server_name: str
    certfile: str | None = None
    keyfile: str | None = None


async def shake_hands(
    wanted: Wanted, *, patience: float, alpn: Sequence[str] = (ALPN_H3,)
) -> Handshake:
    """Connect, wait for SETTINGS, and leave; at most ``patience`` seconds."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=list(alpn),
        server_name=wanted.server_name,
        verify_mode=ssl.CERT_NONE,
        max_datagram_frame_size=MAX_DATAGRAM_SIZE,
        idle_timeout=2 * patience,
    )
    if wanted.certfile and wanted.keyfile:
        configuration.load_cert_chain(wanted.certfile, wanted.keyfile)
    found = Handshake()
    loop = asyncio.get_running_loop()
    address = wanted.address
    quic = _Connection(configuration=configuration, found=found)
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: _Protocol(quic, found),
        family=address.family,
        local_addr=("::" if address.version == 6 else "0.0.0.0", 0),
    )
    started = time.perf_counter()
    try:
        protocol.connect(address.address)
        try:
            async with asyncio.timeout(patience):
                await protocol.shaken.wait()
                found.seconds = time.perf_counter() - started
                await protocol.heard.wait()
        except TimeoutError:
            found.seconds = found.seconds or patience
        found.is_closed_by_server = quic.is_closed_by_server
        _take_certificates(quic, found)
        protocol.close(error_code=ErrorCodes.H3_NO_ERROR)
    finally:
        protocol.forget()
        transport.close()
    return found


def _take_certificates(quic: QuicConnection, found: Handshake) -> None:
    tls = getattr(quic, "tls", None)
    leaf = getattr(tls, "_peer_certificate", None)
    if leaf is not None:
        found.certificates = [leaf, *getattr(tls, "_peer_certificate_chain", ())]


class _Connection(QuicConnection):
    def __init__(self, *, found: Handshake, **options: Any) -> None:
        super().__init__(**options)
        self._found = found
        self.is_closed_by_server = False

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        self._found.has_answered = True
        super().receive_datagram(data, addr, now)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        self._found.parameters = dict(transport_parameters_decode(data))
        super()._parse_transport_parameters(data, from_session_ticket)

    def _handle_connection_close_frame(self, context: Any, frame_type: int, buf: Any) -> None:
        self.is_closed_by_server = True
        super()._handle_connection_close_frame(context, frame_type, buf)


class _Protocol(QuicConnectionProtocol):
    """Collects; the events are set when there is nothing more to wait for."""

    def __init__(self, quic: QuicConnection, found: Handshake) -> None:
        super().__init__(quic)
        self.shaken = asyncio.Event()
        self.heard = asyncio.Event()
        self._found = found
        self._streams: dict[int, bytearray] = {}

    def quic_event_received(self, event: events.QuicEvent) -> None:
        found = self._found
        match event:
            case events.HandshakeCompleted():
                found.is_complete = True
                found.alpn = event.alpn_protocol
                self.shaken.set()
                if found.alpn != ALPN_H3:
                    self.heard.set()
            case events.StreamDataReceived() if event.stream_id & 0b11 == IS_UNI_OF_SERVER:
                stream = self._streams.setdefault(event.stream_id, bytearray())
                stream += event.data
                if stream.startswith(CONTROL_STREAM):
                    self._read_settings(bytes(stream))
            case events.ConnectionTerminated():
                found.close_code = event.error_code
                found.close_reason = event.reason_phrase
                self.shaken.set()
                self.heard.set()

    def forget(self) -> None:
        """No timer of a connection that is over."""
        for handle in (self._timer, self._transmit_task):
            if handle is not None:
                handle.cancel()

    def _read_settings(self, stream: bytes) -> None:
        """RFC 9114 §6.2.1: SETTINGS is the first frame of the control stream."""
        try:
            header = frame_decode_header(stream, len(CONTROL_STREAM))
            if header is None:
                return
            frame_type, length, size = header
            start = len(CONTROL_STREAM) + size
            if frame_type != H3_FRAME_TYPE_SETTINGS:
                self._found.settings_fault = (
                    f"its control stream begins with frame {frame_type:#x}, not with SETTINGS"
                )
            elif len(stream) < start + length:
                return
            else:
                self._found.settings = settings_decode(stream[start : start + length])
        except CodecError as error:
            self._found.settings_fault = str(error)
        self.heard.set()
