"""The extension module; private."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, Self, final

from typing_extensions import Buffer, disjoint_base

__version__: Final[str]

# --- pywt-wire: the codecs ----------------------------------------------------------------------

class CodecError(Exception):
    """Bytes from a peer that can never become valid."""

    code: int
    """The error code on the wire."""

def varint_encode(value: int, /) -> bytes: ...
def varint_decode(data: Buffer, offset: int = 0, /) -> tuple[int, int] | None: ...
def stream_header_encode(session_id: int, *, unidirectional: bool) -> bytes: ...
def stream_header_decode(
    data: Buffer, *, unidirectional: bool
) -> tuple[int | None, int | None, int] | None:
    """Type, session id and header length; None when more data is needed."""

def datagram_encode(session_id: int, payload: Buffer, /) -> bytes: ...
def datagram_decode(data: Buffer, /) -> tuple[int, bytes]: ...
def app_error_to_http(code: int, /) -> int: ...
def http_to_app_error(code: int, /) -> int | None: ...
def error_name(code: int, /) -> str | None: ...
def settings_encode(settings: dict[int, int], /) -> bytes: ...
def settings_decode(payload: Buffer, /, *, wt_enabled_is_flag: bool = False) -> dict[int, int]: ...
def capsule_decode_header(data: Buffer, offset: int = 0, /) -> tuple[int, int, int] | None:
    """Type, payload length and header length; None when more data is needed."""

def capsule_decode(type_: int, payload: Buffer, /) -> tuple[int, str] | int | bytes | None: ...
def capsule_encode(type_: int, value: tuple[int, str] | int | Buffer | None, /) -> bytes: ...
def frame_encode(type_: int, payload: Buffer, /) -> bytes: ...
def frame_decode_header(data: Buffer, offset: int = 0, /) -> tuple[int, int, int] | None:
    """Type, payload length and header length; None when more data is needed."""

def frame_parse_many(data: Buffer, /) -> Frames: ...

@final
class Frames:
    """The complete frames of one buffer, as a sequence of ``(type, payload)``."""

    @property
    def consumed(self) -> int:
        """Bytes up to the first incomplete frame."""

    def types(self) -> list[int]: ...
    def spans(self) -> list[tuple[int, int]]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> tuple[int, bytes]: ...
    def __iter__(self) -> Iterator[tuple[int, bytes]]: ...

def section_encode(fields: Iterable[tuple[bytes, bytes]], /, *, huffman: bool = True) -> bytes: ...
def section_decode(
    data: Buffer, /, *, max_size: int = 65536, max_fields: int = 256
) -> list[tuple[bytes, bytes]]: ...

@final
class QpackEncoderStream:
    """Reads a peer's QPACK encoder stream when no dynamic table was offered."""

    def __new__(cls) -> Self: ...
    def feed(self, data: Buffer, /) -> None: ...

@final
class QpackDecoderStream:
    """Reads a peer's QPACK decoder stream when our encoder never inserts."""

    def __new__(cls) -> Self: ...
    def feed(self, data: Buffer, /) -> None: ...

def string_list_parse(field: str, /) -> list[str] | None: ...
def string_list_format(strings: Sequence[str], /) -> str: ...
def string_item_parse(field: str, /) -> str | None: ...
def string_item_format(string: str, /) -> str: ...
def reset_stream_at_encode(
    stream_id: int, code: int, final_size: int, reliable_size: int
) -> bytes: ...
def reset_stream_at_decode(data: Buffer, /) -> tuple[tuple[int, int, int, int], int] | None:
    """The fields after the frame type and their length; None when more data is needed."""

def transport_parameters_encode(parameters: Sequence[tuple[int, bytes]], /) -> bytes: ...
def transport_parameters_decode(data: Buffer, /) -> list[tuple[int, bytes]]: ...
def exporter_context_encode(session_id: int, label: Buffer, context: Buffer = ...) -> bytes: ...
def exporter_context_decode(data: Buffer, /) -> tuple[int, bytes, bytes]: ...

# --- pywt-core: the protocol, without I/O -------------------------------------------------------

CORE_NOTIFICATIONS: Final[tuple[str, ...]]
"""Names of what ``CoreConnection.drain`` returns, by tag."""

class CoreError(Exception):
    """A call that the state of the HTTP/3 connection does not allow."""

class CoreClosed(CoreError):
    """The HTTP/3 connection is closed or closing."""

class CorePanic(CoreError):
    """A bug in this library; the connection it happened on is lost, please report it."""

class CoreSessionError(CoreError):
    """The session is unknown, has ended, or is not in a state for this."""

@final
class CoreConfig:
    """What the connections of one endpoint have in common."""

    def __new__(
        cls,
        *,
        is_client: bool,
        initial_max_data: int = 0,
        initial_max_streams_bidi: int = 0,
        initial_max_streams_uni: int = 0,
        max_data_window: int = 0,
        max_streams_window: int = 0,
        strict: bool = False,
        grease: bool = True,
        grease_seed: int = 0,
        max_sessions: int | None = None,
        max_early_streams: int | None = None,
        max_early_stream_bytes: int | None = None,
        max_early_datagrams: int | None = None,
        early_timeout: float | None = None,
        close_timeout: float | None = None,
        max_field_section_size: int | None = None,
        settings_timeout: float | None = None,
        session_credit: bool = True,
        max_early_streams_per_session: int | None = None,
        serves_requests: bool = False,
        max_requests: int | None = None,
        headers_timeout: float | None = None,
    ) -> Self: ...

@final
class CoreConnection:
    """One HTTP/3 connection that carries WebTransport.

    ``now`` is the time in seconds since an epoch of the caller's choice and never goes back.
    """

    def __new__(cls, config: CoreConfig) -> Self: ...
    @property
    def dialect(self) -> str | None: ...
    @property
    def is_idle(self) -> bool:
        """No session, and every CONNECT stream is closed by both ends."""
    def peer_settings(self) -> dict[int, int] | None: ...
    def handle_connected(
        self,
        control_stream: int,
        max_datagram_frame_size: int,
        local_max_datagram_frame_size: int,
        reset_stream_at: bool,
        local_reset_stream_at: bool,
        now: float,
    ) -> None: ...
    def handle_stream_data(self, stream_id: int, data: Buffer, fin: bool, now: float) -> None: ...
    def handle_stream_bytes(self, stream_id: int, size: int, fin: bool, now: float) -> None: ...
    def handle_stream_reset(
        self, stream_id: int, code: int, final_size: int, now: float
    ) -> None: ...
    def handle_stop_sending(self, stream_id: int, code: int, now: float) -> None: ...
    def handle_datagram(self, data: Buffer, now: float) -> None: ...
    def handle_unsent(self, size: int) -> None:
        """QUIC still holds back so many bytes of ``send_stream`` for one stream."""
    def handle_timeout(self, now: float) -> None: ...
    def handle_closed(self, code: int | None, reason: str) -> None:
        """``code``: the application code of the peer's CONNECTION_CLOSE, or None."""
    def set_rtt(self, rtt: float) -> None: ...
    def drain(self) -> list[tuple[Any, ...]]:
        """Everything there is to do and to tell, in order: actions first, then events."""
    def poll_timeout(self) -> float | None:
        """When to call ``handle_timeout``, or None."""
    def connect(
        self,
        stream_id: int,
        authority: str,
        path: str,
        headers: list[tuple[str, str]],
        protocols: list[str],
        now: float,
    ) -> None: ...
    def accept(
        self, session_id: int, protocol: str | None, headers: list[tuple[str, str]], now: float
    ) -> None: ...
    def reject(
        self, session_id: int, status: int, headers: list[tuple[str, str]], now: float
    ) -> None: ...
    def close_session(self, session_id: int, code: int, reason: str, now: float) -> None: ...
    def close_all(self, code: int, reason: str, now: float) -> None:
        """Ends every session before a close of the connection with this code."""
    def drain_session(self, session_id: int) -> None: ...
    def goaway(self) -> None: ...
    def check_open(self, session_id: int, unidirectional: bool) -> bool:
        """False: blocked, ``streams_available`` follows."""
    def open_stream(self, session_id: int, stream_id: int, unidirectional: bool) -> bytes | None:
        """The header to write first; None: blocked, ``streams_available`` follows."""
    def reserve_send(self, stream_id: int, want: int) -> int: ...
    def release_send(self, stream_id: int, unused: int) -> None:
        """Gives back what ``reserve_send`` granted and nobody used."""
    def stream_consumed(self, stream_id: int, size: int, now: float) -> None: ...
    def stream_finished(self, stream_id: int) -> None: ...
    def respond(
        self, stream_id: int, status: int, headers: Iterable[tuple[bytes, bytes]], fin: bool
    ) -> None:
        """An interim response, or the head of the final one."""
    def body_frame(self, stream_id: int, size: int, wanted: int) -> bytes | None:
        """What goes before so much of a body; None: it is dropped."""
    def finish_response(self, stream_id: int, trailers: Iterable[tuple[bytes, bytes]]) -> None: ...
    def end_request(self, stream_id: int, code: int) -> None:
        """Ends a request in any state, with an HTTP/3 code for what is cut off."""
    def reset_stream(self, stream_id: int, code: int) -> None: ...
    def stop_stream(self, stream_id: int, code: int) -> None: ...
    def stopped_stream_gone(self, stream_id: int, final_size: int) -> None:
        """The receiving side of a stream that ``stop_sending`` stopped has ended."""
    def stream_gone(self, stream_id: int) -> None:
        """QUIC reports nothing more about a stream."""
    def datagram_prefix(self, session_id: int) -> bytes:
        """What goes before the payload of a datagram of this session."""
    def exporter(self, session_id: int, label: bytes, context: bytes) -> tuple[bytes, bytes]:
        """Label and context to give to the TLS exporter."""
    def session_flow(self, session_id: int) -> dict[str, int]:
        """By the field names of ``WebTransportSessionInfo``; empty without flow control."""
    def stats(self) -> dict[str, int]: ...

# --- pywt-quic: one QUIC connection, without I/O --------------------------------------------------

class QuicConfigurationError(Exception):
    """A certificate, a trust store or a limit that QUIC cannot use."""

class QuicMisuse(Exception):
    """A call that the state of the QUIC connection or stream does not allow."""

@final
class QuicCore:
    """One QUIC connection without I/O; times are seconds on the driver's clock."""

    def __new__(
        cls,
        *,
        is_client: bool,
        alpn_protocols: list[str],
        server_name: str,
        verify: bool,
        cafile: str | None,
        certificate_hashes: list[bytes],
        certificate_chain: bytes | None,
        private_key: bytes | None,
        secrets_log_file: str | None,
        congestion_control_algorithm: str,
        idle_timeout: float,
        max_data: int,
        max_stream_data: int,
        max_streams: int,
        datagrams: bool,
    ) -> Self: ...
    @property
    def datagrams_dropped(self) -> int: ...
    @property
    def max_datagram_size(self) -> int: ...
    @property
    def peer_certificates(self) -> list[bytes]: ...
    @property
    def rtt(self) -> float: ...
    def connect(self, host: str, port: int, now: float) -> None: ...
    def receive_datagram(self, data: bytes, host: str, port: int, now: float) -> None: ...
    def datagrams_to_send(self, now: float) -> list[tuple[bytes, str, int]]: ...
    def get_timer(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def next_event(self) -> tuple[Any, ...] | None: ...
    def get_next_available_stream_id(self, is_unidirectional: bool) -> int: ...
    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool) -> None: ...
    def unsent(self, stream_id: int) -> int:
        """Bytes that the peer's limits hold back."""
    def reset_stream(self, stream_id: int, error_code: int) -> None: ...
    def stop_stream(self, stream_id: int, error_code: int) -> None: ...
    def send_ping(self, uid: int) -> None: ...
    def send_datagram_frame(self, data: bytes) -> None: ...
    def close(self, error_code: int, reason_phrase: str) -> None: ...

# --- pywt-endpoint: the native engine -----------------------------------------------------------

@final
class EndpointTransport:
    """QUIC and queue settings, shared by clients and servers. Bytes and seconds."""

    def __new__(
        cls,
        *,
        congestion_control_algorithm: str = "cubic",
        idle_timeout: float | None = None,
        keep_alive_interval: float | None = None,
        stream_receive_window: int | None = None,
        receive_window: int | None = None,
        send_window: int | None = None,
        initial_streams: int | None = None,
        max_streams_bidi: int | None = None,
        max_streams_uni: int | None = None,
        mtu_discovery: bool = True,
        qlog: tuple[str, Callable[[str], None]] | None = None,
        incoming_datagrams: int | None = None,
        outgoing_datagrams: int | None = None,
        linger: float | None = None,
        close_timeout: float | None = None,
    ) -> Self: ...

@final
class EndpointServer:
    """A server: certificate, admission, transport and protocol."""

    def __new__(
        cls,
        *,
        certfile: str,
        keyfile: str,
        transport: EndpointTransport,
        core: CoreConfig,
        alpn_protocols: Sequence[str],
        verify_mode: str = "none",
        ca_certs: str | None = None,
        key_log_file: str | None = None,
        max_connections: int,
        max_connections_per_address: int | None,
        retry: bool,
        retry_above: int,
        handshake_timeout: float,
        first_session_timeout: float,
        request_linger: float,
    ) -> Self: ...

@final
class EndpointClient:
    """A client: trust, transport and protocol. Connections made with one value share tickets."""

    def __new__(
        cls,
        *,
        transport: EndpointTransport,
        core: CoreConfig,
        alpn_protocols: Sequence[str],
        verify_mode: str = "required",
        ca_certs: str | None = None,
        certificate_hashes: Sequence[bytes] = ...,
        certfile: str | None = None,
        keyfile: str | None = None,
        key_log_file: str | None = None,
    ) -> Self: ...

@final
class EndpointSeam:
    """The types and errors of the engine seam, which is written in Python."""

    def __new__(
        cls,
        *,
        close_info: Callable[..., object],
        session_request: Callable[..., object],
        stats: Callable[..., object],
        closed: type[Exception],
        stream_finished: type[Exception],
        session_refused: type[Exception],
        datagram_too_large: Callable[..., Exception],
        no_datagrams: Callable[[], Exception],
        wrong_thread: Callable[[str, str], Exception],
    ) -> Self: ...

class _WorkerPlace(Protocol):
    """Its file descriptors are given away with it."""

    @property
    def index(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def secret(self) -> bytes: ...
    @property
    def inbox(self) -> int: ...
    @property
    def outboxes(self) -> Sequence[int]: ...

@final
class Endpoint:
    """A UDP socket and its connections, for the event loop that runs in this thread.

    ``hooks`` has the methods ``schedule_flush()``, ``arm_timer(delay)``, ``watch_writable(on)``,
    ``watch_again()``, ``is_running_here()``, ``new_connection()`` and
    ``failed(connection, error)``; a server's also ``accepted(connection)``.
    """

    def __new__(
        cls,
        *,
        host: str,
        port: int,
        hooks: object,
        seam: EndpointSeam,
        server: EndpointServer | None = None,
        fileno: int | None = None,
        place: _WorkerPlace | None = None,
    ) -> Self: ...
    def fileno(self) -> int: ...
    def inbox_fileno(self) -> int | None:
        """Readable when another worker has handed a packet on."""

    @property
    def local_address(self) -> tuple[str, int]: ...
    @property
    def connections(self) -> int:
        """Connections whose state is kept, those in their draining period included."""

    def handshakes(self) -> list[int]:
        """Begun, sent a Retry, refused: full, network full, leaving."""

    def open_connections(self) -> list[Any]: ...
    def connect(
        self, client: EndpointClient, remote: tuple[str, int], server_name: str
    ) -> EndpointConnection: ...
    def on_readable(self) -> None: ...
    def on_handed_on(self) -> None: ...
    def on_timer(self) -> None: ...
    def flush(self) -> None: ...
    def reload_certificate(self, certfile: str, keyfile: str) -> None: ...
    def close_connections(self, code: int, reason: str) -> None: ...
    def close(self, *, tell: bool = True) -> None:
        """End every connection at once, tell their peers and sinks, release the socket."""

@disjoint_base
class EndpointConnection:
    """One connection of the native engine; the methods of ``EngineConnection``.

    Made by ``Endpoint`` through its hooks; subclasses have ``connected()`` and
    ``lost(code, reason, by, kind, fault)``; ``fault`` is what this side has against the peer's
    certificate, as one word and as text, or None.
    """

    def __new__(cls) -> Self: ...
    @property
    def is_client(self) -> bool: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def local_address(self) -> tuple[str, int] | None: ...
    @property
    def remote_address(self) -> tuple[str, int] | None: ...
    def set_sink(self, sink: Any) -> None: ...
    def open_session(
        self,
        *,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str] = ...,
    ) -> int: ...
    def accept_session(
        self,
        session_id: int,
        *,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None: ...
    def reject_session(
        self, session_id: int, *, status: int, headers: Mapping[str, str] | None = None
    ) -> None: ...
    def close_session(self, session_id: int, *, code: int, reason: str) -> None: ...
    def drain_session(self, session_id: int) -> None: ...
    def respond(
        self, stream_id: int, *, status: int, headers: Iterable[tuple[bytes, bytes]], fin: bool
    ) -> None:
        """An interim response, or the head of the final one."""
    def finish_response(
        self, stream_id: int, *, trailers: Iterable[tuple[bytes, bytes]] | None = None
    ) -> None:
        """The end of a response."""
    def abort_request(self, stream_id: int, code: int) -> None: ...
    def open_stream(self, session_id: int, unidirectional: bool) -> int | None: ...
    def stream_read(self, stream_id: int, max_size: int) -> tuple[bytes, bool]: ...
    def stream_write(self, stream_id: int, data: Buffer, fin: bool) -> int: ...
    def stream_reset(self, stream_id: int, code: int) -> None: ...
    def stream_stop(self, stream_id: int, code: int) -> None: ...
    def set_stream_priority(self, stream_id: int, priority: int) -> None: ...
    def max_datagram_size(self, session_id: int) -> int: ...
    def send_datagram(self, session_id: int, data: Buffer) -> bool: ...
    def offer_datagram(self, session_id: int, data: Buffer) -> bool: ...
    def offer_datagrams(
        self, session_id: int, datagrams: list[bytes | bytearray | memoryview]
    ) -> int: ...
    def receive_datagram(self, session_id: int) -> bytes | None: ...
    def receive_datagrams(self, session_id: int, max_count: int) -> list[bytes]: ...
    def datagrams_dropped(self, session_id: int) -> int: ...
    def session_flow(self, session_id: int) -> dict[str, int]: ...
    def stats(self) -> Any: ...
    def export_keying_material(
        self, session_id: int, label: bytes, context: bytes, length: int
    ) -> bytes: ...
    def send_goaway(self) -> None: ...
    def close(self, *, code: int, reason: str) -> None: ...
    def peer_certificates(self) -> list[bytes]: ...
