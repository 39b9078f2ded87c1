"""Every number and name that stands in more than one place, and every default.

The wire's own values live in the Rust codecs; those repeated here are the documented names for
them. Defaults of settings stand here and nowhere else.
"""

from __future__ import annotations

import ssl
from enum import IntEnum
from typing import Any, Final, TypedDict

from pywebtransport.types import Headers
from pywebtransport.version import __version__

__all__ = [
    "ALPN_H3",
    "ALPN_H3_29",
    "ALPN_H3_32",
    "BIDIRECTIONAL_STREAM",
    "CLOSE_WEBTRANSPORT_SESSION_TYPE",
    "CONGESTION_CONTROL_ALGORITHMS",
    "DEFAULT_ACCESS_LOG",
    "DEFAULT_ALLOW_POOLING",
    "DEFAULT_ALPN_PROTOCOLS",
    "DEFAULT_AUTO_RECONNECT",
    "DEFAULT_BIND_HOST",
    "DEFAULT_BUFFER_SIZE",
    "DEFAULT_CERTFILE",
    "DEFAULT_CLIENT_MAX_CONNECTIONS",
    "DEFAULT_CLIENT_VERIFY_MODE",
    "DEFAULT_CLOSE_TIMEOUT",
    "DEFAULT_CONGESTION_CONTROL_ALGORITHM",
    "DEFAULT_CONNECTION_CLEANUP_INTERVAL",
    "DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL",
    "DEFAULT_CONNECTION_IDLE_TIMEOUT",
    "DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT",
    "DEFAULT_CONNECT_TIMEOUT",
    "DEFAULT_DEBUG",
    "DEFAULT_DEV_PORT",
    "DEFAULT_FIRST_SESSION_TIMEOUT",
    "DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE",
    "DEFAULT_FLOW_CONTROL_WINDOW_SIZE",
    "DEFAULT_GRACEFUL_TIMEOUT",
    "DEFAULT_INITIAL_MAX_DATA",
    "DEFAULT_INITIAL_MAX_STREAMS_BIDI",
    "DEFAULT_INITIAL_MAX_STREAMS_UNI",
    "DEFAULT_KEEP_ALIVE",
    "DEFAULT_KEYFILE",
    "DEFAULT_LOG_FORMAT",
    "DEFAULT_LOG_LEVEL",
    "DEFAULT_MAX_CONNECTIONS_PER_ADDRESS",
    "DEFAULT_MAX_DATAGRAM_SIZE",
    "DEFAULT_MAX_EVENT_HISTORY",
    "DEFAULT_MAX_EVENT_LISTENERS",
    "DEFAULT_MAX_FIELD_SECTION_SIZE",
    "DEFAULT_MAX_INCOMING_DATAGRAMS",
    "DEFAULT_MAX_INCOMING_STREAMS",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_MAX_OUTGOING_DATAGRAMS",
    "DEFAULT_MAX_PENDING_EVENTS_PER_SESSION",
    "DEFAULT_MAX_QUEUED_EVENTS",
    "DEFAULT_MAX_REQUESTS_PER_CONNECTION",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_MAX_RETRY_DELAY",
    "DEFAULT_MAX_SESSIONS",
    "DEFAULT_MAX_SESSIONS_PER_CONNECTION",
    "DEFAULT_MAX_STREAMS",
    "DEFAULT_MAX_STREAMS_PER_CONNECTION",
    "DEFAULT_MAX_TOTAL_PENDING_EVENTS",
    "DEFAULT_MAX_UNFINISHED_MESSAGE_BYTES",
    "DEFAULT_MTU_DISCOVERY",
    "DEFAULT_PENDING_EVENT_TTL",
    "DEFAULT_PORT",
    "DEFAULT_PROXY_CONNECT_TIMEOUT",
    "DEFAULT_PUBSUB_SUBSCRIPTION_QUEUE_SIZE",
    "DEFAULT_QUIC_MAX_CONCURRENT_BIDI_STREAMS",
    "DEFAULT_QUIC_MAX_CONCURRENT_UNI_STREAMS",
    "DEFAULT_QUIC_RECEIVE_WINDOW",
    "DEFAULT_QUIC_SEND_WINDOW",
    "DEFAULT_QUIC_STREAM_RECEIVE_WINDOW",
    "DEFAULT_READ_TIMEOUT",
    "DEFAULT_REQUEST_HEAD_TIMEOUT",
    "DEFAULT_REQUEST_KEEP_ALIVE_TIMEOUT",
    "DEFAULT_REQUEST_TIMEOUT",
    "DEFAULT_RETRY",
    "DEFAULT_RETRY_BACKOFF",
    "DEFAULT_RETRY_DELAY",
    "DEFAULT_RPC_CONCURRENCY_LIMIT",
    "DEFAULT_SECURE_PORT",
    "DEFAULT_SERVER_MAX_CONNECTIONS",
    "DEFAULT_SERVER_VERIFY_MODE",
    "DEFAULT_SESSION_CLEANUP_INTERVAL",
    "DEFAULT_SESSION_CREDIT",
    "DEFAULT_STREAM_CLEANUP_INTERVAL",
    "DEFAULT_STREAM_CREATION_TIMEOUT",
    "DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI",
    "DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI",
    "DEFAULT_STREAM_LINE_LIMIT",
    "DEFAULT_STRICT",
    "DEFAULT_USER_AGENT",
    "DEFAULT_VERSION",
    "DEFAULT_WEBTRANSPORT_PATH",
    "DEFAULT_WRITE_TIMEOUT",
    "DRAFT_VERSION",
    "DRAIN_WEBTRANSPORT_SESSION_TYPE",
    "H3_FRAME_TYPE_CANCEL_PUSH",
    "H3_FRAME_TYPE_DATA",
    "H3_FRAME_TYPE_GOAWAY",
    "H3_FRAME_TYPE_HEADERS",
    "H3_FRAME_TYPE_MAX_PUSH_ID",
    "H3_FRAME_TYPE_PUSH_PROMISE",
    "H3_FRAME_TYPE_SETTINGS",
    "H3_FRAME_TYPE_WEBTRANSPORT_STREAM",
    "H3_STREAM_TYPE_CONTROL",
    "H3_STREAM_TYPE_PUSH",
    "H3_STREAM_TYPE_QPACK_DECODER",
    "H3_STREAM_TYPE_QPACK_ENCODER",
    "H3_STREAM_TYPE_WEBTRANSPORT",
    "MAX_BROWSER_CERTIFICATE_DAYS",
    "MAX_BUFFER_SIZE",
    "MAX_DATAGRAM_SIZE",
    "MAX_STREAM_ID",
    "ORIGIN_HEADER",
    "RECOMMENDED_BUFFER_SIZES",
    "SECURE_SCHEMES",
    "SEC_WEBTRANSPORT_HTTP3_DRAFT13",
    "SETTINGS_ENABLE_CONNECT_PROTOCOL",
    "SETTINGS_H3_DATAGRAM",
    "SETTINGS_QPACK_BLOCKED_STREAMS",
    "SETTINGS_QPACK_MAX_TABLE_CAPACITY",
    "SETTINGS_WT_INITIAL_MAX_DATA",
    "SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI",
    "SETTINGS_WT_INITIAL_MAX_STREAMS_UNI",
    "SETTINGS_WT_MAX_SESSIONS",
    "SUPPORTED_CONGESTION_CONTROL_ALGORITHMS",
    "SUPPORTED_VERSIONS",
    "UNIDIRECTIONAL_STREAM",
    "USER_AGENT_HEADER",
    "WEBTRANSPORT_HEADER",
    "WEBTRANSPORT_MIME_TYPE",
    "WEBTRANSPORT_SCHEME",
    "WEBTRANSPORT_SCHEMES",
    "WT_DATA_BLOCKED_TYPE",
    "WT_MAX_DATA_TYPE",
    "WT_MAX_STREAMS_BIDI_TYPE",
    "WT_MAX_STREAMS_UNI_TYPE",
    "WT_STREAMS_BLOCKED_BIDI_TYPE",
    "WT_STREAMS_BLOCKED_UNI_TYPE",
    "ClientConfigDefaults",
    "Defaults",
    "ErrorCodes",
    "ServerConfigDefaults",
    "get_default_client_config",
    "get_default_server_config",
]

# Names on the wire and in URLs

ALPN_H3: Final[str] = "h3"
SUPPORTED_CONGESTION_CONTROL_ALGORITHMS: Final[tuple[str, ...]] = ("reno", "cubic")
USER_AGENT_HEADER: Final[str] = "user-agent"
WEBTRANSPORT_SCHEME: Final[str] = "https"

# Numbers on the wire (RFC 9114, RFC 9297, draft-ietf-webtrans-http3)

BIDIRECTIONAL_STREAM: Final[int] = 0x0
CLOSE_WEBTRANSPORT_SESSION_TYPE: Final[int] = 0x2843
DRAIN_WEBTRANSPORT_SESSION_TYPE: Final[int] = 0x78AE
H3_FRAME_TYPE_CANCEL_PUSH: Final[int] = 0x3
H3_FRAME_TYPE_DATA: Final[int] = 0x0
H3_FRAME_TYPE_GOAWAY: Final[int] = 0x7
H3_FRAME_TYPE_HEADERS: Final[int] = 0x1
H3_FRAME_TYPE_MAX_PUSH_ID: Final[int] = 0xD
H3_FRAME_TYPE_PUSH_PROMISE: Final[int] = 0x5
H3_FRAME_TYPE_SETTINGS: Final[int] = 0x4
H3_FRAME_TYPE_WEBTRANSPORT_STREAM: Final[int] = 0x41
H3_STREAM_TYPE_CONTROL: Final[int] = 0x0
H3_STREAM_TYPE_PUSH: Final[int] = 0x1
H3_STREAM_TYPE_QPACK_DECODER: Final[int] = 0x3
H3_STREAM_TYPE_QPACK_ENCODER: Final[int] = 0x2
H3_STREAM_TYPE_WEBTRANSPORT: Final[int] = 0x54
MAX_STREAM_ID: Final[int] = 2**62 - 1
SETTINGS_ENABLE_CONNECT_PROTOCOL: Final[int] = 0x8
SETTINGS_H3_DATAGRAM: Final[int] = 0x33
SETTINGS_QPACK_BLOCKED_STREAMS: Final[int] = 0x7
SETTINGS_QPACK_MAX_TABLE_CAPACITY: Final[int] = 0x1
SETTINGS_WT_INITIAL_MAX_DATA: Final[int] = 0x2B61
SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI: Final[int] = 0x2B65
SETTINGS_WT_INITIAL_MAX_STREAMS_UNI: Final[int] = 0x2B64
SETTINGS_WT_MAX_SESSIONS: Final[int] = 0x14E9CD29
UNIDIRECTIONAL_STREAM: Final[int] = 0x2
WT_DATA_BLOCKED_TYPE: Final[int] = 0x190B4D41
WT_MAX_DATA_TYPE: Final[int] = 0x190B4D3D
WT_MAX_STREAMS_BIDI_TYPE: Final[int] = 0x190B4D3F
WT_MAX_STREAMS_UNI_TYPE: Final[int] = 0x190B4D40
WT_STREAMS_BLOCKED_BIDI_TYPE: Final[int] = 0x190B4D43
WT_STREAMS_BLOCKED_UNI_TYPE: Final[int] = 0x190B4D44

# Hard limits

MAX_BUFFER_SIZE: Final[int] = 1024 * 1024
MAX_DATAGRAM_SIZE: Final[int] = 65_535

MAX_BROWSER_CERTIFICATE_DAYS: Final[int] = 14
"""How long a certificate may be valid that a browser accepts by its hash."""

ENGINES: Final[tuple[str, ...]] = ("aioquic", "native")
"""What can carry a connection."""
DEFAULT_ENGINE: Final[str] = "native"
CONGESTION_CONTROL_ALGORITHMS: Final[tuple[str, ...]] = (
    *SUPPORTED_CONGESTION_CONTROL_ALGORITHMS,
    "bbr",
    "default",
    "throughput",
    "low-latency",
)
"""Every algorithm a configuration may name, an engine that lacks it says so; and the W3C API's
values of ``congestionControl``, for which each engine takes what it has."""

# Defaults

DEFAULT_ACCESS_LOG: Final[bool] = True
DEFAULT_ALLOW_POOLING: Final[bool] = False
DEFAULT_ALPN_PROTOCOLS: Final[tuple[str]] = (ALPN_H3,)
DEFAULT_AUTO_RECONNECT: Final[bool] = False
DEFAULT_BIND_HOST: Final[str] = "localhost"
DEFAULT_BUFFER_SIZE: Final[int] = 64 * 1024
DEFAULT_CERTFILE: Final[str] = ""
DEFAULT_CLIENT_MAX_CONNECTIONS: Final[int] = 100
DEFAULT_CLIENT_VERIFY_MODE: Final[ssl.VerifyMode] = ssl.VerifyMode.CERT_REQUIRED
DEFAULT_CLOSE_TIMEOUT: Final[float] = 5.0
DEFAULT_GRACEFUL_TIMEOUT: Final[float] = 1.0
DEFAULT_REQUEST_HEAD_TIMEOUT: Final[float] = 10.0
DEFAULT_REQUEST_KEEP_ALIVE_TIMEOUT: Final[float] = 60.0
DEFAULT_REQUEST_TIMEOUT: Final[float] = 30.0
DEFAULT_CONGESTION_CONTROL_ALGORITHM: Final[str] = "cubic"
DEFAULT_CONNECTION_CLEANUP_INTERVAL: Final[float] = 30.0
DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL: Final[float] = 5.0
DEFAULT_CONNECTION_IDLE_TIMEOUT: Final[float] = 60.0
DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT: Final[float] = 30.0
DEFAULT_CONNECT_TIMEOUT: Final[float] = 30.0
DEFAULT_DEBUG: Final[bool] = False
DEFAULT_DEV_PORT: Final[int] = 4433
DEFAULT_FIRST_SESSION_TIMEOUT: Final[float] = 10.0
DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE: Final[bool] = True
DEFAULT_FLOW_CONTROL_WINDOW_SIZE: Final[int] = 1024 * 1024
DEFAULT_INITIAL_MAX_DATA: Final[int] = 0
DEFAULT_INITIAL_MAX_STREAMS_BIDI: Final[int] = 0
DEFAULT_INITIAL_MAX_STREAMS_UNI: Final[int] = 0
DEFAULT_KEEP_ALIVE: Final[bool] = True
DEFAULT_KEYFILE: Final[str] = ""
DEFAULT_LOG_LEVEL: Final[str] = "INFO"
DEFAULT_MAX_CONNECTIONS_PER_ADDRESS: Final[int | None] = None
DEFAULT_MAX_DATAGRAM_SIZE: Final[int] = 65_535
DEFAULT_MAX_EVENT_HISTORY: Final[int] = 0
DEFAULT_MAX_EVENT_LISTENERS: Final[int] = 100
DEFAULT_MAX_FIELD_SECTION_SIZE: Final[int] = 64 * 1024
DEFAULT_MAX_INCOMING_DATAGRAMS: Final[int] = 4096
DEFAULT_MAX_INCOMING_STREAMS: Final[int] = 100
DEFAULT_MAX_MESSAGE_SIZE: Final[int] = 1024 * 1024
DEFAULT_MAX_OUTGOING_DATAGRAMS: Final[int] = 4096
DEFAULT_MAX_PENDING_EVENTS_PER_SESSION: Final[int] = 16
DEFAULT_MAX_QUEUED_EVENTS: Final[int] = 1000
DEFAULT_MAX_REQUESTS_PER_CONNECTION: Final[int] = 128
DEFAULT_MAX_RETRIES: Final[int] = 3
DEFAULT_MAX_RETRY_DELAY: Final[float] = 30.0
DEFAULT_MAX_SESSIONS: Final[int] = 10_000
DEFAULT_MAX_SESSIONS_PER_CONNECTION: Final[int] = 100
DEFAULT_MAX_STREAMS: Final[int] = 100
DEFAULT_MAX_STREAMS_PER_CONNECTION: Final[int] = 100
DEFAULT_MAX_TOTAL_PENDING_EVENTS: Final[int] = 1000
DEFAULT_MAX_UNFINISHED_MESSAGE_BYTES: Final[int] = 16 * 1024 * 1024
DEFAULT_MTU_DISCOVERY: Final[bool] = True
DEFAULT_PENDING_EVENT_TTL: Final[float] = 5.0
DEFAULT_PROXY_CONNECT_TIMEOUT: Final[float] = 10.0
DEFAULT_PUBSUB_SUBSCRIPTION_QUEUE_SIZE: Final[int] = 16
DEFAULT_QUIC_MAX_CONCURRENT_BIDI_STREAMS: Final[int] = 1024
DEFAULT_QUIC_MAX_CONCURRENT_UNI_STREAMS: Final[int] = 1024
DEFAULT_QUIC_RECEIVE_WINDOW: Final[int] = 16 * 1024 * 1024
DEFAULT_QUIC_SEND_WINDOW: Final[int] = 16 * 1024 * 1024
DEFAULT_QUIC_STREAM_RECEIVE_WINDOW: Final[int] = 2_500_000
DEFAULT_READ_TIMEOUT: Final[float] = 60.0
DEFAULT_RETRY: Final[bool] = False
DEFAULT_RETRY_BACKOFF: Final[float] = 2.0
DEFAULT_RETRY_DELAY: Final[float] = 1.0
DEFAULT_RPC_CONCURRENCY_LIMIT: Final[int] = 100
DEFAULT_SECURE_PORT: Final[int] = 443
DEFAULT_SERVER_MAX_CONNECTIONS: Final[int] = 3000
DEFAULT_SERVER_VERIFY_MODE: Final[ssl.VerifyMode] = ssl.VerifyMode.CERT_OPTIONAL
DEFAULT_SESSION_CLEANUP_INTERVAL: Final[float] = 60.0
DEFAULT_SESSION_CREDIT: Final[bool] = True
DEFAULT_STREAM_CLEANUP_INTERVAL: Final[float] = 15.0
DEFAULT_STREAM_CREATION_TIMEOUT: Final[float] = 10.0
DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI: Final[int] = 10
DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI: Final[int] = 10
DEFAULT_STREAM_LINE_LIMIT: Final[int] = 64 * 1024
DEFAULT_STRICT: Final[bool] = False
DEFAULT_USER_AGENT: Final[str] = f"pywebtransport/{__version__}"
DEFAULT_WEBTRANSPORT_PATH: Final[str] = "/webtransport"
DEFAULT_WRITE_TIMEOUT: Final[float] = 30.0

# Kept for programs written for 0.7

ALPN_H3_29: Final[str] = "h3-29"
ALPN_H3_32: Final[str] = "h3-32"
DEFAULT_LOG_FORMAT: Final[str] = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
DEFAULT_PORT: Final[int] = 80
DEFAULT_VERSION: Final[str] = "h3"
DRAFT_VERSION: Final[int] = 13
ORIGIN_HEADER: Final[str] = "origin"
RECOMMENDED_BUFFER_SIZES: Final[dict[str, int]] = {
    "small": 8 * 1024,
    "medium": 64 * 1024,
    "large": 256 * 1024,
}
SECURE_SCHEMES: Final[tuple[str, ...]] = ("https", "wss")
SEC_WEBTRANSPORT_HTTP3_DRAFT13: Final[str] = "webtransport"
SUPPORTED_VERSIONS: Final[tuple[str, ...]] = ("draft-ietf-webtrans-http3-13", "h3")
WEBTRANSPORT_HEADER: Final[str] = "webtransport"
WEBTRANSPORT_MIME_TYPE: Final[str] = "application/webtransport"
WEBTRANSPORT_SCHEMES: Final[tuple[str, ...]] = SECURE_SCHEMES


class ErrorCodes(IntEnum):
    """Codes of QUIC, HTTP/3, WebTransport and QPACK, and those of the library itself."""

    NO_ERROR = 0x0
    INTERNAL_ERROR = 0x1
    CONNECTION_REFUSED = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_LIMIT_ERROR = 0x4
    STREAM_STATE_ERROR = 0x5
    FINAL_SIZE_ERROR = 0x6
    FRAME_ENCODING_ERROR = 0x7
    TRANSPORT_PARAMETER_ERROR = 0x8
    CONNECTION_ID_LIMIT_ERROR = 0x9
    PROTOCOL_VIOLATION = 0xA
    INVALID_TOKEN = 0xB
    APPLICATION_ERROR = 0xC
    CRYPTO_BUFFER_EXCEEDED = 0xD
    KEY_UPDATE_ERROR = 0xE
    AEAD_LIMIT_REACHED = 0xF
    NO_VIABLE_PATH = 0x10
    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x100
    H3_GENERAL_PROTOCOL_ERROR = 0x101
    H3_INTERNAL_ERROR = 0x102
    H3_STREAM_CREATION_ERROR = 0x103
    H3_CLOSED_CRITICAL_STREAM = 0x104
    H3_FRAME_UNEXPECTED = 0x105
    H3_FRAME_ERROR = 0x106
    H3_EXCESSIVE_LOAD = 0x107
    H3_ID_ERROR = 0x108
    H3_SETTINGS_ERROR = 0x109
    H3_MISSING_SETTINGS = 0x10A
    H3_REQUEST_REJECTED = 0x10B
    H3_REQUEST_CANCELLED = 0x10C
    H3_REQUEST_INCOMPLETE = 0x10D
    H3_MESSAGE_ERROR = 0x10E
    H3_CONNECT_ERROR = 0x10F
    H3_VERSION_FALLBACK = 0x110
    WT_SESSION_GONE = 0x170D7B68
    WT_BUFFERED_STREAM_REJECTED = 0x3994BD84
    WT_APPLICATION_ERROR_FIRST = 0x52E4A40FA8DB
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202
    APP_CONNECTION_TIMEOUT = 0x1000
    APP_AUTHENTICATION_FAILED = 0x1001
    APP_PERMISSION_DENIED = 0x1002
    APP_RESOURCE_EXHAUSTED = 0x1003
    APP_INVALID_REQUEST = 0x1004
    APP_SERVICE_UNAVAILABLE = 0x1005


class ClientConfigDefaults(TypedDict):
    """The defaults of a client, by the names of the fields of ``ClientConfig``."""

    alpn_protocols: list[str]
    auto_reconnect: bool
    ca_certs: str | None
    certfile: str | None
    close_timeout: float
    congestion_control_algorithm: str
    connect_timeout: float
    connection_cleanup_interval: float
    connection_idle_check_interval: float
    connection_idle_timeout: float
    connection_keepalive_timeout: float
    debug: bool
    flow_control_window_auto_scale: bool
    flow_control_window_size: int
    headers: Headers
    initial_max_data: int
    initial_max_streams_bidi: int
    initial_max_streams_uni: int
    keep_alive: bool
    keyfile: str | None
    log_level: str
    max_connections: int
    max_datagram_size: int
    max_incoming_streams: int
    max_pending_events_per_session: int
    max_retries: int
    max_retry_delay: float
    max_stream_buffer_size: int
    max_streams: int
    max_total_pending_events: int
    pending_event_ttl: float
    proxy: Any
    read_timeout: float | None
    retry_backoff: float
    retry_delay: float
    rpc_concurrency_limit: int
    stream_buffer_size: int
    stream_cleanup_interval: float
    stream_creation_timeout: float
    stream_flow_control_increment_bidi: int
    stream_flow_control_increment_uni: int
    user_agent: str
    verify_mode: ssl.VerifyMode | None
    write_timeout: float | None


class ServerConfigDefaults(TypedDict):
    """The defaults of a server, by the names of the fields of ``ServerConfig``."""

    access_log: bool
    alpn_protocols: list[str]
    bind_host: str
    bind_port: int
    ca_certs: str | None
    certfile: str
    congestion_control_algorithm: str
    connection_cleanup_interval: float
    connection_idle_check_interval: float
    connection_idle_timeout: float
    connection_keepalive_timeout: float
    debug: bool
    flow_control_window_auto_scale: bool
    flow_control_window_size: int
    initial_max_data: int
    initial_max_streams_bidi: int
    initial_max_streams_uni: int
    keep_alive: bool
    keyfile: str
    log_level: str
    max_connections: int
    max_datagram_size: int
    max_incoming_streams: int
    max_pending_events_per_session: int
    max_sessions: int
    max_stream_buffer_size: int
    max_streams_per_connection: int
    max_total_pending_events: int
    middleware: list[Any]
    pending_event_ttl: float
    read_timeout: float | None
    rpc_concurrency_limit: int
    session_cleanup_interval: float
    stream_buffer_size: int
    stream_cleanup_interval: float
    stream_flow_control_increment_bidi: int
    stream_flow_control_increment_uni: int
    verify_mode: ssl.VerifyMode
    write_timeout: float | None


def get_default_client_config() -> ClientConfigDefaults:
    """A new dictionary of a client's defaults; its lists and dictionaries are new as well."""
    return ClientConfigDefaults(
        alpn_protocols=list(DEFAULT_ALPN_PROTOCOLS),
        auto_reconnect=DEFAULT_AUTO_RECONNECT,
        ca_certs=None,
        certfile=None,
        close_timeout=DEFAULT_CLOSE_TIMEOUT,
        congestion_control_algorithm=DEFAULT_CONGESTION_CONTROL_ALGORITHM,
        connect_timeout=DEFAULT_CONNECT_TIMEOUT,
        connection_cleanup_interval=DEFAULT_CONNECTION_CLEANUP_INTERVAL,
        connection_idle_check_interval=DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
        connection_idle_timeout=DEFAULT_CONNECTION_IDLE_TIMEOUT,
        connection_keepalive_timeout=DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT,
        debug=DEFAULT_DEBUG,
        flow_control_window_auto_scale=DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE,
        flow_control_window_size=DEFAULT_FLOW_CONTROL_WINDOW_SIZE,
        headers={},
        initial_max_data=DEFAULT_INITIAL_MAX_DATA,
        initial_max_streams_bidi=DEFAULT_INITIAL_MAX_STREAMS_BIDI,
        initial_max_streams_uni=DEFAULT_INITIAL_MAX_STREAMS_UNI,
        keep_alive=DEFAULT_KEEP_ALIVE,
        keyfile=None,
        log_level=DEFAULT_LOG_LEVEL,
        max_connections=DEFAULT_CLIENT_MAX_CONNECTIONS,
        max_datagram_size=DEFAULT_MAX_DATAGRAM_SIZE,
        max_incoming_streams=DEFAULT_MAX_INCOMING_STREAMS,
        max_pending_events_per_session=DEFAULT_MAX_PENDING_EVENTS_PER_SESSION,
        max_retries=DEFAULT_MAX_RETRIES,
        max_retry_delay=DEFAULT_MAX_RETRY_DELAY,
        max_stream_buffer_size=MAX_BUFFER_SIZE,
        max_streams=DEFAULT_MAX_STREAMS,
        max_total_pending_events=DEFAULT_MAX_TOTAL_PENDING_EVENTS,
        pending_event_ttl=DEFAULT_PENDING_EVENT_TTL,
        proxy=None,
        read_timeout=DEFAULT_READ_TIMEOUT,
        retry_backoff=DEFAULT_RETRY_BACKOFF,
        retry_delay=DEFAULT_RETRY_DELAY,
        rpc_concurrency_limit=DEFAULT_RPC_CONCURRENCY_LIMIT,
        stream_buffer_size=DEFAULT_BUFFER_SIZE,
        stream_cleanup_interval=DEFAULT_STREAM_CLEANUP_INTERVAL,
        stream_creation_timeout=DEFAULT_STREAM_CREATION_TIMEOUT,
        stream_flow_control_increment_bidi=DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI,
        stream_flow_control_increment_uni=DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI,
        user_agent=DEFAULT_USER_AGENT,
        verify_mode=DEFAULT_CLIENT_VERIFY_MODE,
        write_timeout=DEFAULT_WRITE_TIMEOUT,
    )


def get_default_server_config() -> ServerConfigDefaults:
    """A new dictionary of a server's defaults; its lists and dictionaries are new as well."""
    return ServerConfigDefaults(
        access_log=DEFAULT_ACCESS_LOG,
        alpn_protocols=list(DEFAULT_ALPN_PROTOCOLS),
        bind_host=DEFAULT_BIND_HOST,
        bind_port=DEFAULT_DEV_PORT,
        ca_certs=None,
        certfile=DEFAULT_CERTFILE,
        congestion_control_algorithm=DEFAULT_CONGESTION_CONTROL_ALGORITHM,
        connection_cleanup_interval=DEFAULT_CONNECTION_CLEANUP_INTERVAL,
        connection_idle_check_interval=DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
        connection_idle_timeout=DEFAULT_CONNECTION_IDLE_TIMEOUT,
        connection_keepalive_timeout=DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT,
        debug=DEFAULT_DEBUG,
        flow_control_window_auto_scale=DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE,
        flow_control_window_size=DEFAULT_FLOW_CONTROL_WINDOW_SIZE,
        initial_max_data=DEFAULT_INITIAL_MAX_DATA,
        initial_max_streams_bidi=DEFAULT_INITIAL_MAX_STREAMS_BIDI,
        initial_max_streams_uni=DEFAULT_INITIAL_MAX_STREAMS_UNI,
        keep_alive=DEFAULT_KEEP_ALIVE,
        keyfile=DEFAULT_KEYFILE,
        log_level=DEFAULT_LOG_LEVEL,
        max_connections=DEFAULT_SERVER_MAX_CONNECTIONS,
        max_datagram_size=DEFAULT_MAX_DATAGRAM_SIZE,
        max_incoming_streams=DEFAULT_MAX_INCOMING_STREAMS,
        max_pending_events_per_session=DEFAULT_MAX_PENDING_EVENTS_PER_SESSION,
        max_sessions=DEFAULT_MAX_SESSIONS,
        max_stream_buffer_size=MAX_BUFFER_SIZE,
        max_streams_per_connection=DEFAULT_MAX_STREAMS_PER_CONNECTION,
        max_total_pending_events=DEFAULT_MAX_TOTAL_PENDING_EVENTS,
        middleware=[],
        pending_event_ttl=DEFAULT_PENDING_EVENT_TTL,
        read_timeout=DEFAULT_READ_TIMEOUT,
        rpc_concurrency_limit=DEFAULT_RPC_CONCURRENCY_LIMIT,
        session_cleanup_interval=DEFAULT_SESSION_CLEANUP_INTERVAL,
        stream_buffer_size=DEFAULT_BUFFER_SIZE,
        stream_cleanup_interval=DEFAULT_STREAM_CLEANUP_INTERVAL,
        stream_flow_control_increment_bidi=DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI,
        stream_flow_control_increment_uni=DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI,
        verify_mode=DEFAULT_SERVER_VERIFY_MODE,
        write_timeout=DEFAULT_WRITE_TIMEOUT,
    )


class Defaults:
    """The two functions above under their names of 0.7."""

    @staticmethod
    def get_client_config() -> ClientConfigDefaults:
        """As :func:`get_default_client_config`."""
        return get_default_client_config()

    @staticmethod
    def get_server_config() -> ServerConfigDefaults:
        """As :func:`get_default_server_config`."""
        return get_default_server_config()
