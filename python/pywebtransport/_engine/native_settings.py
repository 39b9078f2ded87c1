"""A configuration in the terms of the native engine, and its errors in those of the package."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Iterator
from operator import attrgetter
from typing import TYPE_CHECKING

from pywebtransport._certificates import check_pair
from pywebtransport._engine.driver import core_config
from pywebtransport._engine.rules import (
    CONNECT_STREAMS,
    CRITICAL_STREAMS,
    HANDSHAKE_TIMEOUT,
    LINGER,
    client_verify_mode,
    keep_alive_interval,
    key_log_file,
    qlog_directory,
    qlog_failed,
    retry_above,
)
from pywebtransport._native import (
    EndpointClient,
    EndpointServer,
    EndpointTransport,
    QuicConfigurationError,
)
from pywebtransport.exceptions import CertificateError

if TYPE_CHECKING:
    from pywebtransport.config import BaseConfig, ClientConfig, ServerConfig

__all__ = [
    "OF_CLIENT",
    "certificate_errors",
    "client_settings",
    "server_settings",
]

OF_CLIENT = attrgetter(
    "alpn_protocols",
    "ca_certs",
    "certfile",
    "close_timeout",
    "congestion_control_algorithm",
    "connection_idle_timeout",
    "connection_keepalive_timeout",
    "flow_control_window_auto_scale",
    "flow_control_window_size",
    "initial_max_data",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "keep_alive",
    "keyfile",
    "max_field_section_size",
    "max_incoming_datagrams",
    "max_outgoing_datagrams",
    "max_pending_events_per_session",
    "max_total_pending_events",
    "mtu_discovery",
    "pending_event_ttl",
    "qlog_dir",
    "quic_max_concurrent_bidi_streams",
    "quic_max_concurrent_uni_streams",
    "quic_receive_window",
    "quic_send_window",
    "quic_stream_receive_window",
    "server_certificate_hashes",
    "strict",
    "verify_mode",
)
"""What of a configuration a connection is made from."""
MAX_STREAM_HEADER = 16
"""A stream's window has room for its header beside the application's bytes."""
W3C_CONGESTION_CONTROL = {"default": "cubic", "throughput": "bbr", "low-latency": "bbr"}
"""BBR fills a link that loses packets, and lets no queue grow."""
VERIFY_MODES = {
    ssl.CERT_NONE: "none",
    ssl.CERT_OPTIONAL: "optional",
    ssl.CERT_REQUIRED: "required",
}


def client_settings(config: ClientConfig) -> EndpointClient:
    if config.certfile and config.keyfile:
        check_pair(certfile=config.certfile, keyfile=config.keyfile)
    return EndpointClient(
        transport=transport(config),
        core=core_config(config, is_client=True),
        alpn_protocols=config.alpn_protocols,
        verify_mode=VERIFY_MODES[client_verify_mode(config)],
        ca_certs=config.ca_certs or None,
        certificate_hashes=config.certificate_digests,
        certfile=config.certfile or None,
        keyfile=config.keyfile or None,
        key_log_file=key_log_file(),
    )


def server_settings(config: ServerConfig, *, serves_requests: bool = False) -> EndpointServer:
    check_pair(certfile=config.certfile, keyfile=config.keyfile)
    return EndpointServer(
        certfile=config.certfile,
        keyfile=config.keyfile,
        transport=transport(config),
        core=core_config(config, is_client=False, serves_requests=serves_requests),
        alpn_protocols=config.alpn_protocols,
        verify_mode=VERIFY_MODES[config.verify_mode],
        ca_certs=config.ca_certs or None,
        key_log_file=key_log_file(),
        max_connections=config.max_connections,
        max_connections_per_address=config.max_connections_per_address,
        retry=config.retry,
        retry_above=retry_above(config.max_connections),
        handshake_timeout=HANDSHAKE_TIMEOUT,
        first_session_timeout=config.first_session_timeout,
        request_linger=config.request_keep_alive_timeout,
    )


def transport(config: BaseConfig) -> EndpointTransport:
    algorithm = config.congestion_control_algorithm
    qlog = qlog_directory(config)
    return EndpointTransport(
        congestion_control_algorithm=W3C_CONGESTION_CONTROL.get(algorithm, algorithm),
        idle_timeout=config.connection_idle_timeout,
        keep_alive_interval=keep_alive_interval(
            config.connection_keepalive_timeout if config.keep_alive else None,
            config.connection_idle_timeout,
        ),
        stream_receive_window=config.quic_stream_receive_window + MAX_STREAM_HEADER,
        receive_window=config.quic_receive_window,
        send_window=config.quic_send_window,
        max_streams_bidi=config.quic_max_concurrent_bidi_streams + CONNECT_STREAMS,
        max_streams_uni=config.quic_max_concurrent_uni_streams + CRITICAL_STREAMS,
        mtu_discovery=config.mtu_discovery,
        qlog=None if qlog is None else (qlog, functools.partial(qlog_failed, qlog)),
        incoming_datagrams=config.max_incoming_datagrams,
        outgoing_datagrams=config.max_outgoing_datagrams,
        linger=LINGER,
        close_timeout=config.close_timeout,
    )


@contextlib.contextmanager
def certificate_errors(path: str) -> Iterator[None]:
    try:
        yield
    except QuicConfigurationError as error:
        raise CertificateError(
            str(error), certificate_path=path, certificate_error=str(error)
        ) from error
