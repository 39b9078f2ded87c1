"""A configuration in the terms of the native engine, and its errors in those of the package."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pywebtransport._engine.driver import core_config
from pywebtransport._native import (
    EndpointClient,
    EndpointServer,
    EndpointTransport,
    QuicConfigurationError,
)
from pywebtransport.exceptions import (
    CertificateError,
    ConnectionError,
    HandshakeError,
    TimeoutError,
    WebTransportError,
)

if TYPE_CHECKING:
    from pywebtransport.config import BaseConfig, ClientConfig, ServerConfig
    from pywebtransport.types import Address

__all__ = [
    "CLIENT_FIELDS",
    "certificate_errors",
    "client_settings",
    "connect_error",
    "server_settings",
]

CLIENT_FIELDS = (
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
CONNECT_STREAMS = 16
"""Bidirectional streams allowed beside those of the application, for requests."""
CRITICAL_STREAMS = 8
"""Unidirectional streams allowed beside those of the application: control, QPACK, GREASE."""
CRYPTO_ERROR = 0x100
"""First of the QUIC codes that carry a TLS alert (RFC 9001 §4.8)."""
MAX_STREAM_HEADER = 16
"""A stream's window has room for its header beside the application's bytes."""
NO_APPLICATION_PROTOCOL = 120
"""TLS alert (RFC 7301 §3.2)."""
PEER_CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 116})
"""TLS alerts by which a server refuses a client's certificate (RFC 8446 §6.2)."""
VERIFY_MODES = {
    ssl.CERT_NONE: "none",
    ssl.CERT_OPTIONAL: "optional",
    ssl.CERT_REQUIRED: "required",
}

logger = logging.getLogger(__name__)


def client_settings(config: ClientConfig) -> EndpointClient:
    verify_mode = ssl.CERT_REQUIRED if config.verify_mode is None else config.verify_mode
    return EndpointClient(
        transport=transport(config),
        core=core_config(config, is_client=True),
        alpn_protocols=config.alpn_protocols,
        verify_mode=VERIFY_MODES[verify_mode],
        ca_certs=config.ca_certs or None,
        certificate_hashes=config.certificate_digests,
        certfile=config.certfile or None,
        keyfile=config.keyfile or None,
        key_log_file=key_log_file(),
    )


def server_settings(config: ServerConfig) -> EndpointServer:
    return EndpointServer(
        certfile=config.certfile,
        keyfile=config.keyfile,
        transport=transport(config),
        core=core_config(config, is_client=False),
        alpn_protocols=config.alpn_protocols,
        verify_mode=VERIFY_MODES[config.verify_mode],
        ca_certs=config.ca_certs or None,
        key_log_file=key_log_file(),
        max_connections=config.max_connections,
        retry=config.retry,
    )


def transport(config: BaseConfig) -> EndpointTransport:
    keep_alive = None
    if config.keep_alive:
        keep_alive = min(config.connection_keepalive_timeout, config.connection_idle_timeout / 2)
    algorithm = config.congestion_control_algorithm
    return EndpointTransport(
        congestion_control_algorithm="reno" if algorithm == "new_reno" else algorithm,
        idle_timeout=config.connection_idle_timeout,
        keep_alive_interval=keep_alive,
        stream_receive_window=config.quic_stream_receive_window + MAX_STREAM_HEADER,
        receive_window=config.quic_receive_window,
        send_window=config.quic_send_window,
        max_streams_bidi=config.quic_max_concurrent_bidi_streams + CONNECT_STREAMS,
        max_streams_uni=config.quic_max_concurrent_uni_streams + CRITICAL_STREAMS,
        mtu_discovery=config.mtu_discovery,
        incoming_datagrams=config.max_incoming_datagrams,
        outgoing_datagrams=config.max_outgoing_datagrams,
        close_timeout=config.close_timeout,
    )


def key_log_file() -> str | None:
    """The file SSLKEYLOGFILE names, if it can be written."""
    path = os.environ.get("SSLKEYLOGFILE")
    if not path:
        return None
    try:
        with open(path, "ab"):
            return path
    except OSError as error:
        logger.warning("cannot log TLS secrets to %s: %s", path, error)
        return None


def connect_error(remote: Address, code: int, reason: str, by: str, kind: str) -> WebTransportError:
    """What ended a handshake, in the words of the package."""
    peer = f"{remote[0]}:{remote[1]}"
    if kind == "tls":
        alert = code - CRYPTO_ERROR
        said = reason or f"TLS alert {alert}"
        if by == "local" and reason.startswith("invalid peer certificate"):
            return CertificateError(
                f"the certificate of {peer} is not accepted: {said}",
                error_code=code,
                certificate_error=said,
            )
        if by == "remote" and alert in PEER_CERTIFICATE_ALERTS:
            return CertificateError(
                f"{peer} does not accept our certificate: {said}",
                error_code=code,
                certificate_error=said,
            )
        return HandshakeError(
            f"TLS handshake with {peer} failed: {said}",
            error_code=code,
            handshake_stage="alpn" if alert == NO_APPLICATION_PROTOCOL else "tls",
        )
    if kind == "version":
        return HandshakeError(f"{peer} speaks no QUIC version of ours", handshake_stage="quic")
    if kind == "idle":
        return TimeoutError(f"no answer from {peer}", operation="connect")
    if kind == "unreachable":
        return ConnectionError(f"cannot reach {peer}: {reason}", remote_address=remote)
    return ConnectionError(
        f"{peer} closed the connection during the handshake, code {code:#x}: "
        f"{reason or 'no reason given'}",
        error_code=code,
        remote_address=remote,
    )


@contextlib.contextmanager
def certificate_errors(path: str) -> Iterator[None]:
    try:
        yield
    except QuicConfigurationError as error:
        raise CertificateError(
            str(error), certificate_path=path, certificate_error=str(error)
        ) from error
