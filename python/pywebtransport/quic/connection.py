"""One QUIC connection without I/O, native, in the shape of aioquic's."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from pywebtransport import _native
from pywebtransport.quic import events
from pywebtransport.quic.configuration import QuicConfiguration

__all__ = ["QuicConnection", "QuicConnectionError"]


class QuicConnectionError(Exception):
    """A configuration that cannot be used, or a call at the wrong moment."""


class QuicConnection:
    """One QUIC connection; a server's serves the one client whose packets it is given.

    ``addr`` is what sockets give: ``(host, port)`` for IPv4, ``(host, port, flow, scope)`` for
    IPv6, with an IP address as host. ``now`` is in seconds on a clock of the caller's choice that
    never goes back. Raises :class:`QuicConnectionError` for a certificate, key, name or limit
    that cannot be used; the arguments after ``configuration`` are accepted for code written for
    aioquic and have no effect: the native side keeps those ids itself.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        self.configuration = configuration
        self._host_names: dict[str, str] = {}
        # One native event is two here; the second waits for the next call.
        self._negotiated: tuple[str | None] | None = None
        checks = configuration.verify_mode
        verify = configuration.is_client if checks is None else checks != ssl.CERT_NONE
        try:
            self._core = _native.QuicCore(
                is_client=configuration.is_client,
                alpn_protocols=configuration.alpn_protocols or ["h3"],
                server_name=configuration.server_name or "localhost",
                verify=verify,
                cafile=configuration.cafile,
                certificate_hashes=configuration.server_certificate_hashes,
                certificate_chain=configuration.certificate,
                private_key=configuration.private_key,
                secrets_log_file=configuration.secrets_log_file,
                congestion_control_algorithm=configuration.congestion_control_algorithm,
                idle_timeout=configuration.idle_timeout,
                max_data=configuration.max_data,
                max_stream_data=configuration.max_stream_data,
                max_streams=configuration.max_streams,
                datagrams=configuration.max_datagram_frame_size is not None,
            )
        except _native.QuicConfigurationError as error:
            raise QuicConnectionError(str(error)) from error

    @property
    def max_datagram_size(self) -> int:
        """The largest datagram that fits now, in bytes; 0 when the peer takes none."""
        return self._core.max_datagram_size

    @property
    def peer_certificates(self) -> list[bytes]:
        """The peer's certificate chain in DER, leaf first; empty before the handshake."""
        return self._core.peer_certificates

    @property
    def rtt(self) -> float:
        """Smoothed round-trip time in seconds."""
        return self._core.rtt

    def connect(self, addr: Any, now: float) -> None:
        """Client: start the handshake with the server at ``addr``."""
        try:
            self._core.connect(self._host(addr), addr[1], now)
        except (_native.QuicMisuse, _native.QuicConfigurationError) as error:
            raise QuicConnectionError(str(error)) from error

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Take one UDP payload that arrived from ``addr``."""
        self._core.receive_datagram(bytes(data), self._host(addr), addr[1], now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """The UDP payloads to send now, each with its address."""
        packets = []
        for data, host, port in self._core.datagrams_to_send(now):
            name = self._host_names.get(host, host)
            packets.append((data, (name, port, 0, 0) if ":" in host else (name, port)))
        return packets

    def get_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, or None."""
        return self._core.get_timer()

    def handle_timer(self, now: float) -> None:
        """Take note that the time is ``now``."""
        self._core.handle_timer(now)

    def next_event(self) -> events.QuicEvent | None:
        """The oldest event, or None. Stream credit goes back to the peer as events are taken."""
        if self._negotiated is not None:
            protocol, self._negotiated = self._negotiated[0], None
            return events.HandshakeCompleted(protocol, False, False)
        match self._core.next_event():
            case None:
                return None
            case ("data", stream_id, data, end_stream):
                return events.StreamDataReceived(data, end_stream, stream_id)
            case ("datagram", data):
                return events.DatagramFrameReceived(data)
            case ("connected", protocol):
                self._negotiated = (protocol,)
                return events.ProtocolNegotiated(protocol)
            case ("reset", stream_id, code):
                return events.StreamReset(code, stream_id)
            case ("stopped", stream_id, code):
                return events.StopSendingReceived(code, stream_id)
            case ("ping", uid):
                return events.PingAcknowledged(uid)
            case ("terminated", code, frame_type, reason):
                return events.ConnectionTerminated(code, frame_type, reason)
            case other:
                raise AssertionError(f"unknown native event {other!r}")

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        """The id that the next stream opened by this side will have."""
        return self._core.get_next_available_stream_id(is_unidirectional)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Queue data; an id of this side that is new opens the stream.

        What the peer's limits hold back is kept until they allow it.
        """
        _checked(self._core.send_stream_data, stream_id, bytes(data), end_stream)

    def unsent(self, stream_id: int) -> int:
        """Bytes of ``send_stream_data`` that the peer's limits hold back."""
        return self._core.unsent(stream_id)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """End the sending side with RESET_STREAM; queued data is dropped."""
        _checked(self._core.reset_stream, stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending (STOP_SENDING); unread data is dropped."""
        _checked(self._core.stop_stream, stream_id, error_code)

    def send_ping(self, uid: int) -> None:
        """Send a PING; an event ``PingAcknowledged`` brings ``uid`` back."""
        self._core.send_ping(uid)

    def send_datagram_frame(self, data: bytes) -> None:
        """Queue a DATAGRAM frame; of more than 1,024 that wait the oldest is dropped."""
        _checked(self._core.send_datagram_frame, bytes(data))

    def close(
        self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """Send CONNECTION_CLOSE with an application code. ``frame_type`` has no effect."""
        self._core.close(error_code, reason_phrase)

    def _host(self, addr: Any) -> str:
        """The address itself; a zone (``fe80::1%eth0``) is remembered for the way out."""
        host: str = addr[0]
        if "%" in host:
            bare = host.split("%", 1)[0]
            self._host_names[bare] = host
            return bare
        return host


def _checked(call: Callable[..., None], *arguments: object) -> None:
    """Make a native call; a call at the wrong moment is a QuicConnectionError."""
    try:
        call(*arguments)
    except _native.QuicMisuse as error:
        raise QuicConnectionError(str(error)) from error
