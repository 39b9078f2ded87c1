"""Settings of clients and servers: frozen, validated when made, changed by :meth:`update`.

Defaults stand in :mod:`pywebtransport.constants`. A value that cannot work raises
``ConfigurationError`` naming the field, the value and what would do; a certificate file that is
not there raises ``CertificateError``.
"""

from __future__ import annotations

import copy
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from pywebtransport import constants as c
from pywebtransport._origins import normal_origin
from pywebtransport._words import redacted
from pywebtransport.exceptions import certificate_not_found, invalid_config
from pywebtransport.types import Headers, MiddlewareProtocol

__all__ = ["BaseConfig", "ClientConfig", "ProxyConfig", "ServerConfig"]

MAX_SECONDS = 10**9
SHA256_SIZE = 32
ORIGINS_NEEDED = (
    'must be None or a list of origins, each scheme://host or scheme://host:port, "*" or "null"'
)


@dataclass(kw_only=True, repr=False)
class ProxyConfig:
    """An HTTP proxy that a client's packets go through; the URL needs a host and a port."""

    url: str
    """``http://host:port``."""
    headers: Headers = field(default_factory=dict)
    """Fields for the proxy."""
    connect_timeout: float = c.DEFAULT_PROXY_CONNECT_TIMEOUT
    """How long reaching the proxy may take."""

    def __repr__(self) -> str:
        """Without what may be secret: the user-info of the URL, and the headers."""
        url = redacted(self.url)
        return f"ProxyConfig(url={url!r}, connect_timeout={self.connect_timeout})"


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """What clients and servers have in common. Times in seconds, sizes in bytes."""

    alpn_protocols: list[str] = field(default_factory=lambda: list(c.DEFAULT_ALPN_PROTOCOLS))
    """What TLS offers; ``h3`` is the one that carries WebTransport."""
    ca_certs: str | None = None
    """PEM file with the authorities that a peer's certificate is checked against."""
    close_timeout: float = c.DEFAULT_CLOSE_TIMEOUT
    """How long a close waits for the peer to have read the end of its sessions."""
    congestion_control_algorithm: str = c.DEFAULT_CONGESTION_CONTROL_ALGORITHM
    """``"reno"``, ``"cubic"`` or, on the native engine, ``"bbr"``; or as in the W3C API
    ``"default"`` (CUBIC), ``"throughput"`` or ``"low-latency"``: BBR on the native engine, on
    aioquic CUBIC and Reno."""
    connection_cleanup_interval: float = c.DEFAULT_CONNECTION_CLEANUP_INTERVAL
    """How often managers look for connections that have ended."""
    connection_idle_check_interval: float = c.DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL
    """How often managers look for connections that are idle."""
    connection_idle_timeout: float = c.DEFAULT_CONNECTION_IDLE_TIMEOUT
    """Silence that ends a connection; the peer may ask for less."""
    connection_keepalive_timeout: float = c.DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT
    """PING after this much silence, when ``keep_alive`` is on."""
    debug: bool = c.DEFAULT_DEBUG
    """For the application: nothing here reads it."""
    engine: str | None = None
    """``"native"`` or ``"aioquic"``; None: PYWEBTRANSPORT_ENGINE, else the default engine."""
    flow_control_window_auto_scale: bool = c.DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE
    """Whether the windows of a session grow as they are used."""
    flow_control_window_size: int = c.DEFAULT_FLOW_CONTROL_WINDOW_SIZE
    """The data window of a session, where session flow control is spoken."""
    initial_max_data: int = c.DEFAULT_INITIAL_MAX_DATA
    """Payload of a session the peer may send at first. This and the next two at 0: so much that
    QUIC's windows stay the limit; else each is what it says, 0 too. See ``session_credit``."""
    initial_max_streams_bidi: int = c.DEFAULT_INITIAL_MAX_STREAMS_BIDI
    """Bidirectional streams of a session the peer may open at first."""
    initial_max_streams_uni: int = c.DEFAULT_INITIAL_MAX_STREAMS_UNI
    """Unidirectional streams of a session the peer may open at first."""
    keep_alive: bool = c.DEFAULT_KEEP_ALIVE
    """Whether PINGs keep an idle connection open."""
    log_level: str = c.DEFAULT_LOG_LEVEL
    """For the application: loggers under ``pywebtransport`` are its to configure."""
    max_datagram_size: int = c.DEFAULT_MAX_DATAGRAM_SIZE
    """The largest DATAGRAM frame that is accepted."""
    max_field_section_size: int = c.DEFAULT_MAX_FIELD_SECTION_SIZE
    """Decoded size of the header fields of one request (RFC 9114 §4.2.2)."""
    max_incoming_datagrams: int = c.DEFAULT_MAX_INCOMING_DATAGRAMS
    """Received datagrams kept for each session until they are read; the oldest are dropped."""
    max_incoming_streams: int = c.DEFAULT_MAX_INCOMING_STREAMS
    """No effect: ``quic_max_concurrent_bidi_streams`` and ``quic_max_concurrent_uni_streams`` bound
    what the peer may open, accepted or not."""
    max_outgoing_datagrams: int = c.DEFAULT_MAX_OUTGOING_DATAGRAMS
    """Datagrams of a session that wait for room in a packet; senders wait for theirs here."""
    max_pending_events_per_session: int = c.DEFAULT_MAX_PENDING_EVENTS_PER_SESSION
    """Streams that may wait for one session that is not established; the oldest are refused."""
    max_stream_buffer_size: int = c.MAX_BUFFER_SIZE
    """Unsent bytes of one stream above which writes wait."""
    max_total_pending_events: int = c.DEFAULT_MAX_TOTAL_PENDING_EVENTS
    """Streams, and datagrams, that may wait on a connection for sessions that are not established;
    the oldest are refused."""
    max_unfinished_message_bytes: int = c.DEFAULT_MAX_UNFINISHED_MESSAGE_BYTES
    """Bytes of messages that have come in part, of all streams of a connection together, where the
    library puts messages together: for plain functions of ``stream_route``, structured streams, RPC
    and PubSub. The stream that would need more is ended."""
    mtu_discovery: bool = c.DEFAULT_MTU_DISCOVERY
    """Whether packets larger than 1200 bytes are tried (RFC 8899)."""
    pending_event_ttl: float = c.DEFAULT_PENDING_EVENT_TTL
    """How long streams and datagrams wait for a session that is not established yet."""
    qlog_dir: str | None = None
    """Directory for a log of each connection in qlog; None: QLOGDIR, and without it none."""
    quic_max_concurrent_bidi_streams: int = c.DEFAULT_QUIC_MAX_CONCURRENT_BIDI_STREAMS
    """Streams the peer may have open on a connection at once."""
    quic_max_concurrent_uni_streams: int = c.DEFAULT_QUIC_MAX_CONCURRENT_UNI_STREAMS
    """As ``quic_max_concurrent_bidi_streams``, unidirectional."""
    quic_receive_window: int = c.DEFAULT_QUIC_RECEIVE_WINDOW
    """Unread bytes the peer may have outstanding on all streams of a connection together."""
    quic_send_window: int = c.DEFAULT_QUIC_SEND_WINDOW
    """Unacknowledged bytes kept for all streams of a connection together."""
    quic_stream_receive_window: int = c.DEFAULT_QUIC_STREAM_RECEIVE_WINDOW
    """Unread bytes the peer may have outstanding on one stream."""
    read_timeout: float | None = c.DEFAULT_READ_TIMEOUT
    """How long a read waits for data; None: for ever."""
    rpc_concurrency_limit: int = c.DEFAULT_RPC_CONCURRENCY_LIMIT
    """For the application: ``RpcManager`` has an argument of its own."""
    session_credit: bool = c.DEFAULT_SESSION_CREDIT
    """Whether session flow control is offered. Without it Safari's pages cannot open streams, and
    drafts 13 and later have one session on a connection."""
    stream_buffer_size: int = c.DEFAULT_BUFFER_SIZE
    """No effect but this: ``max_stream_buffer_size`` must be at least as large."""
    stream_cleanup_interval: float = c.DEFAULT_STREAM_CLEANUP_INTERVAL
    """How often managers look for streams that have ended."""
    stream_creation_timeout: float = c.DEFAULT_STREAM_CREATION_TIMEOUT
    """How long opening a stream waits for the peer to allow it."""
    stream_flow_control_increment_bidi: int = c.DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI
    """No effect: limits are raised as streams end."""
    stream_flow_control_increment_uni: int = c.DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI
    """No effect: limits are raised as streams end."""
    strict: bool = c.DEFAULT_STRICT
    """Refuse what the drafts forbid but deployed peers do."""
    write_timeout: float | None = c.DEFAULT_WRITE_TIMEOUT
    """How long a write waits without any progress; None: for ever."""
    wt_available_protocols: list[str] | None = None
    """Application protocols offered (client) or chosen from (server), most wanted first."""

    _TIMES: ClassVar[tuple[str, ...]] = (
        "close_timeout",
        "connection_cleanup_interval",
        "connection_idle_check_interval",
        "connection_idle_timeout",
        "connection_keepalive_timeout",
        "pending_event_ttl",
        "stream_cleanup_interval",
        "stream_creation_timeout",
    )
    _OPTIONAL_TIMES: ClassVar[tuple[str, ...]] = ("read_timeout", "write_timeout")
    _COUNTS: ClassVar[tuple[str, ...]] = (
        "flow_control_window_size",
        "max_connections",
        "max_field_section_size",
        "max_incoming_datagrams",
        "max_incoming_streams",
        "max_outgoing_datagrams",
        "max_pending_events_per_session",
        "max_total_pending_events",
        "max_unfinished_message_bytes",
        "quic_max_concurrent_bidi_streams",
        "quic_max_concurrent_uni_streams",
        "quic_receive_window",
        "quic_send_window",
        "quic_stream_receive_window",
        "rpc_concurrency_limit",
        "stream_buffer_size",
        "stream_flow_control_increment_bidi",
        "stream_flow_control_increment_uni",
    )
    _CREDITS: ClassVar[tuple[str, ...]] = (
        "initial_max_data",
        "initial_max_streams_bidi",
        "initial_max_streams_uni",
    )
    _SWITCHES: ClassVar[tuple[str, ...]] = ("mtu_discovery", "session_credit", "strict")
    _OPAQUE: ClassVar[tuple[str, ...]] = ()
    """Lists of callables: copied as lists, their members shared."""

    @property
    def event_queue_capacity(self) -> int:
        """Events of an emitter that may wait for their handlers, by its name of 0.20."""
        return c.DEFAULT_MAX_QUEUED_EVENTS

    def __post_init__(self) -> None:
        self.validate()

    @classmethod
    def from_dict(cls, *, config_dict: dict[str, Any]) -> Self:
        """From what :meth:`to_dict` gives.

        Raises:
            ConfigurationError: There is no field of one of the names, or a value cannot work.
        """
        known = {f.name for f in fields(cls)}
        for name, value in config_dict.items():
            if name not in known:
                raise invalid_config(key=name, value=value, reason="unknown configuration key")
        values = dict(config_dict)
        mode = values.get("verify_mode")
        if isinstance(mode, str) and mode in ssl.VerifyMode.__members__:
            values["verify_mode"] = ssl.VerifyMode[mode]
        return cls(**values)

    def copy(self) -> Self:
        """An independent copy: changing its lists and dictionaries does not touch this one."""
        twin = copy.copy(self)
        for name, value in vars(self).items():
            value = list(value) if name in self._OPAQUE else copy.deepcopy(value)
            object.__setattr__(twin, name, value)
        return twin

    def to_dict(self) -> dict[str, Any]:
        """One key for each field; a verify mode is given by its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: value.name if isinstance(value, ssl.VerifyMode) else value
            for name, value in values.items()
        }

    def update(self, **kwargs: Any) -> Self:
        """A changed and validated copy."""
        known = {f.name for f in fields(self)}
        for name, value in kwargs.items():
            if name not in known:
                raise invalid_config(key=name, value=value, reason="unknown configuration key")
        changed = self.copy()
        for name, value in kwargs.items():
            object.__setattr__(changed, name, value)
        changed.validate()
        return changed

    def validate(self) -> None:
        """Check every field that can be wrong."""
        _each(self, self._TIMES, _is_time, f"must be seconds > 0 and <= {MAX_SECONDS}")
        for name in self._OPTIONAL_TIMES:
            if getattr(self, name) is not None:
                reason = f"must be seconds > 0 and <= {MAX_SECONDS}, or None to wait for ever"
                _each(self, (name,), _is_time, reason)
        _each(self, self._COUNTS, _is_count, "must be an integer > 0 and < 2**62")
        _each(self, self._CREDITS, _is_credit, "must be an integer >= 0 and < 2**62")
        _each(self, self._SWITCHES, _is_switch, "must be True or False")
        if not self.alpn_protocols or not _is_names(self.alpn_protocols):
            reason = "must be a list of names that is not empty"
            raise invalid_config(key="alpn_protocols", value=self.alpn_protocols, reason=reason)
        if self.wt_available_protocols is not None:
            _each(self, ("wt_available_protocols",), _is_names, "must be a list of names or None")
        self._check_choice("congestion_control_algorithm", c.CONGESTION_CONTROL_ALGORITHMS)
        if self.engine is not None:
            self._check_choice("engine", c.ENGINES)
        self._check_range("max_datagram_size", 1, c.MAX_DATAGRAM_SIZE)
        size = self.max_stream_buffer_size
        if not _is_count(size) or size < self.stream_buffer_size:
            raise invalid_config(
                key="max_stream_buffer_size",
                value=size,
                reason=f"must be >= stream_buffer_size ({self.stream_buffer_size})",
            )
        self._check_files()

    def _check_choice(self, name: str, choices: Iterable[Any]) -> None:
        value = getattr(self, name)
        if value not in choices:
            known = ", ".join(repr(choice) for choice in choices)
            raise invalid_config(key=name, value=value, reason=f"must be one of {known}")

    def _check_range(self, name: str, lowest: int, highest: int) -> None:
        value = getattr(self, name)
        if not _is_int(value) or not lowest <= value <= highest:
            reason = f"must be an integer from {lowest} to {highest}"
            raise invalid_config(key=name, value=value, reason=reason)

    def _check_files(self) -> None:
        if self.qlog_dir is not None and not isinstance(self.qlog_dir, str | os.PathLike):
            reason = "must be the path of a directory"
            raise invalid_config(key="qlog_dir", value=self.qlog_dir, reason=reason)
        certfile, keyfile = getattr(self, "certfile", None), getattr(self, "keyfile", None)
        files = {"ca_certs": self.ca_certs, "certfile": certfile, "keyfile": keyfile}
        for name, path in files.items():
            if path is not None and not isinstance(path, str | os.PathLike):
                raise invalid_config(key=name, value=path, reason="must be the path of a file")
        if bool(certfile) != bool(keyfile):
            raise invalid_config(
                key="certfile/keyfile",
                value=(certfile, keyfile),
                reason="both must be provided together",
            )
        for path in files.values():
            if path and not Path(path).is_file():
                raise certificate_not_found(path=str(path))


@dataclass(frozen=True, kw_only=True)
class ClientConfig(BaseConfig):
    """Settings of a client.

    Names of ``headers`` become lower case when the object is made, values become text, and
    ``user-agent`` is added where it is missing.
    """

    allow_pooling: bool = c.DEFAULT_ALLOW_POOLING
    """Whether sessions of one client with the same host, port and proxy share a connection that
    takes several: one that drains, is full or closes is not shared, and it ends with its last
    session. W3C's ``allowPooling``; not together with ``server_certificate_hashes``."""
    auto_reconnect: bool = c.DEFAULT_AUTO_RECONNECT
    """No effect: ``ReconnectingClient`` is what reconnects."""
    certfile: str | None = None
    """PEM certificate for servers that ask for one; goes with ``keyfile``."""
    connect_timeout: float = c.DEFAULT_CONNECT_TIMEOUT
    """How long name resolution, handshake and session request may take."""
    headers: Headers = field(default_factory=dict, repr=False)
    """Fields of every session request; not in the configuration's ``repr``."""
    keyfile: str | None = None
    """PEM key of ``certfile``, unencrypted."""
    max_connections: int = c.DEFAULT_CLIENT_MAX_CONNECTIONS
    """Connections of one client at once."""
    max_retries: int = c.DEFAULT_MAX_RETRIES
    """Attempts after the first that failed."""
    max_retry_delay: float = c.DEFAULT_MAX_RETRY_DELAY
    """The longest pause between two attempts."""
    max_streams: int = c.DEFAULT_MAX_STREAMS
    """Streams of one session that are open at once, opened here."""
    proxy: ProxyConfig | None = None
    """None: packets go to the host."""
    retry_backoff: float = c.DEFAULT_RETRY_BACKOFF
    """By how much the pause grows with each attempt."""
    retry_delay: float = c.DEFAULT_RETRY_DELAY
    """The pause before the first further attempt."""
    server_certificate_hashes: list[bytes | str] | None = None
    """SHA-256 of the certificates that are trusted instead of asking an authority: 32 bytes, or
    64 hexadecimal digits with or without colons."""
    user_agent: str = c.DEFAULT_USER_AGENT
    """The ``user-agent`` of requests that name none."""
    verify_mode: ssl.VerifyMode | None = c.DEFAULT_CLIENT_VERIFY_MODE
    """Whether the server's certificate is checked; ``CERT_NONE`` is for tests."""

    _TIMES = (*BaseConfig._TIMES, "connect_timeout", "max_retry_delay", "retry_delay")
    _COUNTS = (*BaseConfig._COUNTS, "max_streams")
    _SWITCHES = (*BaseConfig._SWITCHES, "allow_pooling")

    def __post_init__(self) -> None:
        if not isinstance(self.headers, Mapping):
            kind = type(self.headers).__name__
            raise invalid_config(key="headers", value=kind, reason="must be a dictionary")
        headers = {str(name).lower(): str(value) for name, value in self.headers.items()}
        headers.setdefault(c.USER_AGENT_HEADER, str(self.user_agent))
        object.__setattr__(self, "headers", headers)
        super().__post_init__()

    @classmethod
    def create_for_development(cls, *, verify_ssl: bool = False) -> Self:
        """Verbose, and by default without verification of the server."""
        verify_mode = ssl.CERT_REQUIRED if verify_ssl else ssl.CERT_NONE
        return cls(verify_mode=verify_mode, debug=True, log_level="DEBUG")

    @classmethod
    def create_for_production(
        cls,
        *,
        ca_certs: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> Self:
        """With verification of the server."""
        return cls(
            ca_certs=ca_certs,
            certfile=certfile,
            keyfile=keyfile,
            verify_mode=ssl.CERT_REQUIRED,
        )

    @property
    def certificate_digests(self) -> list[bytes]:
        """``server_certificate_hashes`` in one form, 32 bytes each; empty when there are none."""
        return [_digest(value) for value in self.server_certificate_hashes or ()]

    def update(self, **kwargs: Any) -> Self:
        """A changed and validated copy; ``headers`` are taken as they are given."""
        changed = super().update(**kwargs)
        if changed.headers.get(c.USER_AGENT_HEADER) == self.user_agent != changed.user_agent:
            changed.headers[c.USER_AGENT_HEADER] = changed.user_agent
        return changed

    def validate(self) -> None:
        """Check every field that can be wrong."""
        super().validate()
        self._check_choice("verify_mode", (None, *ssl.VerifyMode))
        if not _is_int(self.max_retries) or self.max_retries < 0:
            reason = "must be an integer >= 0"
            raise invalid_config(key="max_retries", value=self.max_retries, reason=reason)
        if not _is_time(self.retry_backoff) or self.retry_backoff < 1:
            reason = f"must be a number >= 1.0 and <= {MAX_SECONDS}"
            raise invalid_config(key="retry_backoff", value=self.retry_backoff, reason=reason)
        if self.proxy is not None:
            if not isinstance(self.proxy, ProxyConfig):
                reason = "must be a ProxyConfig or None"
                raise invalid_config(key="proxy", value=self.proxy, reason=reason)
            if not _is_time(self.proxy.connect_timeout):
                raise invalid_config(
                    key="proxy.connect_timeout",
                    value=self.proxy.connect_timeout,
                    reason=f"must be seconds > 0 and <= {MAX_SECONDS}",
                )
        hashes = self.server_certificate_hashes
        if hashes is not None and not isinstance(hashes, list | tuple):
            reason = "must be a list of SHA-256 digests or None"
            raise invalid_config(key="server_certificate_hashes", value=hashes, reason=reason)
        _ = self.certificate_digests  # a hash that is not one raises
        if self.allow_pooling and hashes:
            reason = "a connection trusted by a certificate's hash is not shared"
            raise invalid_config(key="allow_pooling", value=True, reason=reason)


@dataclass(frozen=True, kw_only=True)
class ServerConfig(BaseConfig):
    """Settings of a server. The certificate may be missing until it listens."""

    access_log: bool = c.DEFAULT_ACCESS_LOG
    """Whether each session is logged, at its opening and its end."""
    allowed_origins: list[str] | None = None
    """Web pages whose requests are answered, as ``https://example.org``; others get status 403.
    None: pages of the very host and port that they ask for. ``"*"``: any page. ``"null"``, a page
    without an origin, has to be named. Requests without an Origin, of programs, are no matter."""
    bind_host: str = c.DEFAULT_BIND_HOST
    """A name or an address."""
    bind_port: int = c.DEFAULT_DEV_PORT
    """A UDP port; 0: a free one, which ``server.local_address`` tells."""
    certfile: str = c.DEFAULT_CERTFILE
    """PEM chain, leaf first."""
    first_session_timeout: float = c.DEFAULT_FIRST_SESSION_TIMEOUT
    """How long a client may stay connected before it has asked for a session, or for anything that
    ``request_handler`` answers."""
    graceful_timeout: float = c.DEFAULT_GRACEFUL_TIMEOUT
    """At shutdown, how long handlers may go on once their peers were told that the server goes; 0:
    they are cancelled at once."""
    keyfile: str = c.DEFAULT_KEYFILE
    """PEM key of ``certfile``, unencrypted."""
    max_connections: int = c.DEFAULT_SERVER_MAX_CONNECTIONS
    """Connections at once; more are refused. From a quarter of them in handshakes on, or from
    1,000, clients have to prove their address first; those that have not do not count."""
    max_connections_per_address: int | None = c.DEFAULT_MAX_CONNECTIONS_PER_ADDRESS
    """Connections at once from one IPv4 address, or one IPv6 network of 64 bits; more are refused.
    None: ``max_connections`` is the only limit, as suits clients behind one address."""
    max_requests_per_connection: int = c.DEFAULT_MAX_REQUESTS_PER_CONNECTION
    """HTTP requests of one connection at once, until their handlers have returned; more are refused
    with H3_REQUEST_REJECTED, after which a client may try again."""
    max_sessions: int = c.DEFAULT_MAX_SESSIONS
    """Sessions of all connections at once; more are answered with status 429."""
    max_sessions_per_connection: int = c.DEFAULT_MAX_SESSIONS_PER_CONNECTION
    """Sessions of one connection at once; more are refused with H3_REQUEST_REJECTED."""
    max_streams_per_connection: int = c.DEFAULT_MAX_STREAMS_PER_CONNECTION
    """Streams of one session that are open at once, opened here."""
    middleware: list[MiddlewareProtocol] = field(default_factory=list)
    """Asked before the handler of every request of a ``ServerApp``, in this order."""
    request_head_timeout: float = c.DEFAULT_REQUEST_HEAD_TIMEOUT
    """How long a client may take to send the header fields of a request it has begun."""
    request_keep_alive_timeout: float = c.DEFAULT_REQUEST_KEEP_ALIVE_TIMEOUT
    """How long a connection that has carried HTTP requests waits for another, with no session on
    it."""
    request_timeout: float = c.DEFAULT_REQUEST_TIMEOUT
    """How long a request for a session may wait for its answer, middleware included; then it is
    status 503. The handler of an HTTP request may take as long as it wants."""
    retry: bool = c.DEFAULT_RETRY
    """Validate a client's address with a Retry packet before anything is kept for it."""
    session_cleanup_interval: float = c.DEFAULT_SESSION_CLEANUP_INTERVAL
    """How often the manager looks for sessions that have ended."""
    verify_mode: ssl.VerifyMode = c.DEFAULT_SERVER_VERIFY_MODE
    """Whether clients are asked for a certificate that ``ca_certs`` vouches for: CERT_REQUIRED lets
    nobody else in. CERT_OPTIONAL lets in who shows none, and on the aioquic engine asks nobody;
    ``session.peer_certificate`` says who showed one."""

    _TIMES = (
        *BaseConfig._TIMES,
        "first_session_timeout",
        "request_head_timeout",
        "request_keep_alive_timeout",
        "request_timeout",
        "session_cleanup_interval",
    )
    _COUNTS = (
        *BaseConfig._COUNTS,
        "max_requests_per_connection",
        "max_sessions",
        "max_sessions_per_connection",
        "max_streams_per_connection",
    )
    _OPAQUE = ("middleware",)
    _SWITCHES = (*BaseConfig._SWITCHES, "retry")

    @classmethod
    def create_for_development(
        cls,
        *,
        host: str = c.DEFAULT_BIND_HOST,
        port: int = c.DEFAULT_DEV_PORT,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> Self:
        """Verbose; the certificate is used when both of its files are given."""
        if not certfile or not keyfile:
            certfile, keyfile = c.DEFAULT_CERTFILE, c.DEFAULT_KEYFILE
        return cls(
            bind_host=host,
            bind_port=port,
            certfile=certfile,
            keyfile=keyfile,
            debug=True,
            log_level="DEBUG",
        )

    @classmethod
    def create_for_production(
        cls,
        *,
        host: str,
        port: int,
        certfile: str,
        keyfile: str,
        ca_certs: str | None = None,
    ) -> Self:
        """Clients are asked for a certificate when ``ca_certs`` says which ones are good.

        They may come without one: set ``verify_mode=ssl.CERT_REQUIRED`` by :meth:`update`, or look
        at ``session.peer_certificate``.
        """
        return cls(
            bind_host=host,
            bind_port=port,
            ca_certs=ca_certs,
            certfile=certfile,
            keyfile=keyfile,
            verify_mode=ssl.CERT_OPTIONAL if ca_certs else ssl.CERT_NONE,
        )

    def validate(self) -> None:
        """Check every field that can be wrong."""
        super().validate()
        if not isinstance(self.bind_host, str) or not self.bind_host:
            reason = "must be a host name or an address"
            raise invalid_config(key="bind_host", value=self.bind_host, reason=reason)
        if self.allowed_origins is not None:
            _each(self, ("allowed_origins",), _is_origins, ORIGINS_NEEDED)
        if self.max_connections_per_address is not None:
            reason = "must be an integer > 0 and < 2**62, or None for no limit of its own"
            _each(self, ("max_connections_per_address",), _is_count, reason)
        self._check_range("bind_port", 0, 65535)
        if self.graceful_timeout != 0:
            reason = f"must be seconds >= 0 and <= {MAX_SECONDS}"
            _each(self, ("graceful_timeout",), _is_time, reason)
        if not isinstance(self.middleware, list | tuple):
            reason = "must be a list of middleware"
            raise invalid_config(key="middleware", value=self.middleware, reason=reason)
        self._check_choice("verify_mode", tuple(ssl.VerifyMode))
        if self.verify_mode == ssl.CERT_REQUIRED and not self.ca_certs:
            reason = "must name the authorities of clients' certificates with CERT_REQUIRED"
            raise invalid_config(key="ca_certs", value=self.ca_certs, reason=reason)


def _each(
    config: BaseConfig, names: Iterable[str], is_good: Callable[[Any], bool], reason: str
) -> None:
    for name in names:
        value = getattr(config, name)
        if not is_good(value):
            raise invalid_config(key=name, value=value, reason=reason)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_credit(value) and value > 0


def _is_credit(value: Any) -> bool:
    # What fits into a variable-length integer (RFC 9000 §16).
    return _is_int(value) and 0 <= value <= c.MAX_STREAM_ID


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)


def _is_origins(value: Any) -> bool:
    # A string is a sequence of strings too, and "*" alone would even be one.
    if not isinstance(value, list | tuple):
        return False
    try:
        return all(isinstance(origin, str) and normal_origin(origin) for origin in value)
    except ValueError:
        return False


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 < value <= MAX_SECONDS


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _digest(value: Any) -> bytes:
    digest = value
    if isinstance(value, str):
        try:
            digest = bytes.fromhex(value.replace(":", ""))
        except ValueError:
            digest = b""
    if not isinstance(digest, bytes) or len(digest) != SHA256_SIZE:
        raise invalid_config(
            key="server_certificate_hashes",
            value=value,
            reason="each must be a SHA-256 digest: 32 bytes or 64 hexadecimal digits",
        )
    return digest
