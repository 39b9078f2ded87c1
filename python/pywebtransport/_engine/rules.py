"""What both engines must agree on: numbers, small rules, and the words of their errors."""

from __future__ import annotations

import errno
import logging
import os
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from pywebtransport._words import peer_text
from pywebtransport.exceptions import (
    CertificateError,
    ConnectionError,
    HandshakeError,
    TimeoutError,
    WebTransportError,
)

if TYPE_CHECKING:
    from pywebtransport._engine.base import CloseInfo
    from pywebtransport.config import BaseConfig, ClientConfig
    from pywebtransport.types import Address

__all__ = [
    "CONNECT_STREAMS",
    "CRITICAL_STREAMS",
    "HANDSHAKE_TIMEOUT",
    "LINGER",
    "PROBE_INTERVAL",
    "client_verify_mode",
    "connect_error",
    "connect_timed_out",
    "keep_alive_interval",
    "key_log_file",
    "open_key_log",
    "qlog_directory",
    "qlog_failed",
    "refuses_certificate",
    "remedy",
    "retry_above",
    "settings_timeout",
]

CONNECT_STREAMS = 16
"""Bidirectional streams allowed beside those of the application, for requests."""
CRITICAL_STREAMS = 8
"""Unidirectional streams allowed beside those of the application: control, QPACK, GREASE."""
HANDSHAKE_TIMEOUT = 30.0
"""How long a client may take to complete its handshake with a server. Its repetitions double from a
fraction of a second: with a fifth of the packets lost, one in a hundred needs more than ten."""

PROBE_INTERVAL = 0.5
"""Seconds between PINGs until the first session is answered, while something may be lost. QUIC's
timeouts double, from round trips that were measured while packets were missing; what arrives in
answer to a PING tells what was lost before it. The native engine does as much in Rust."""
LINGER = 1.0
"""Seconds after the peer's last FIN until a server closes the connection. Browsers just leave it;
and they send that FIN before the page has been told, so that a CONNECTION_CLOSE close behind takes
code and reason from the page. As long waits a close for that FIN once the peer has acknowledged
ours: some never send one."""

CONNECTION_REFUSED = 0x02
"""QUIC: the server takes no more connections (RFC 9000 §20.1)."""
CRYPTO_ERROR = 0x100
"""First of the QUIC codes that carry a TLS alert (RFC 9001 §4.8)."""
MAX_ALERT = 0xFF
CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 49, 116})
"""TLS alerts by which one end refuses the other's certificate (RFC 8446 §6.2)."""
NO_APPLICATION_PROTOCOL = 120
"""TLS alert (RFC 7301 §3.2)."""
BAD_CERTIFICATE = "invalid peer certificate"
"""How rustls begins, whatever alert it sends."""

MAX_FINGERPRINTS = 3
MAX_RETRY_ABOVE = 1_000

logger = logging.getLogger(__name__)


def retry_above(max_connections: int) -> int:
    """Handshakes at one time above which clients must prove their address (RFC 9000 §8.1.2).

    A quarter of the connections allowed: handshakes from addresses that are not their sender's
    can then never take up the rest.
    """
    return min(MAX_RETRY_ABOVE, max(1, max_connections // 4))


def settings_timeout(config: BaseConfig) -> float | None:
    """How long the peer may take to send SETTINGS once the handshake is complete.

    As long as the caller of ``connect()`` waits, or the server for the client's first request.
    """
    patience: float | None = getattr(config, "connect_timeout", None)
    return patience or getattr(config, "first_session_timeout", None)


def keep_alive_interval(wanted: float | None, idle_timeout: float) -> float | None:
    """Seconds of silence until a PING; None: never.

    Half of ``idle_timeout`` at most, which leaves time for a PING that is lost.
    """
    return None if wanted is None else min(wanted, idle_timeout / 2)


def client_verify_mode(config: ClientConfig) -> ssl.VerifyMode:
    """A client that says nothing verifies its server."""
    return ssl.CERT_REQUIRED if config.verify_mode is None else config.verify_mode


_announced: set[str] = set()


def key_log_file() -> str | None:
    """The file that SSLKEYLOGFILE names, if it can be written.

    It is made for its owner alone, and each file is announced once: whoever reads it reads the
    traffic.
    """
    path = os.environ.get("SSLKEYLOGFILE")
    if not path:
        return None
    try:
        os.close(open_key_log(path))
    except OSError as error:
        logger.warning("TLS secrets are not logged to %s: %s", path, error)
        return None
    if path not in _announced:
        _announced.add(path)
        logger.warning("TLS secrets of all connections are logged to %s (SSLKEYLOGFILE)", path)
    return path


def open_key_log(path: str) -> int:
    """A descriptor that appends; the file has mode 0600 then, also one that was there.

    Raises:
        OSError: It cannot be opened, or others can read it and it is not ours to change.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) & 0o077 and hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def qlog_directory(config: BaseConfig) -> str | None:
    """The directory that ``qlog_dir`` or QLOGDIR names, if files can be made there.

    It is made for its owner alone, and announced once: whoever reads it sees who talks and when.
    """
    wanted = os.environ.get("QLOGDIR") if config.qlog_dir is None else config.qlog_dir
    if not wanted:
        return None
    path = os.fspath(wanted)
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        qlog_failed(path, f"{path}: {error.strerror}")
        return None
    if path not in _announced:
        _announced.add(path)
        logger.warning("packets of all connections are described in files in %s (qlog)", path)
    return path


_failed: set[str] = set()


def qlog_failed(directory: str, reason: str) -> None:
    """Says once for each directory why a file of it is not written; any thread may call."""
    if directory not in _failed:
        _failed.add(directory)
        logger.warning("qlog is not written: %s", reason)


def connect_timed_out(target: Address, seconds: float) -> TimeoutError:
    return TimeoutError(
        f"no connection to {target[0]}:{target[1]} within {seconds} s",
        timeout_duration=seconds,
        operation="connect",
    )


def connect_error(
    remote: Address,
    code: int,
    reason: str,
    by: str,
    kind: str,
    fault: tuple[str, str] | None = None,
) -> WebTransportError:
    """What ended a handshake, in the words of the package.

    Args:
        remote: The peer.
        code: A QUIC or HTTP/3 code.
        reason: What came with it, or what the operating system said.
        by: As in ``CloseInfo``.
        kind: ``"application"``, ``"quic"``, ``"tls"``, ``"idle"``, ``"reset"``, ``"version"`` or
            ``"unreachable"``.
        fault: What is wrong with the peer's certificate: one word, which :func:`remedy` knows and
            which becomes ``certificate_error``, and a text.
    """
    peer = f"{remote[0]}:{remote[1]}"
    if fault is not None:
        return CertificateError(
            f"the certificate of {peer} is not accepted: {fault[1]}",
            error_code=code,
            certificate_error=fault[0],
        )
    if kind == "tls":
        return _tls_error(peer, code, reason, by)
    if kind == "version":
        return HandshakeError(f"{peer} speaks no QUIC version of ours", handshake_stage="quic")
    if kind == "idle":
        return TimeoutError(f"no answer from {peer}", operation="connect")
    if kind == "unreachable":
        return ConnectionError(f"cannot reach {peer}: {reason}", remote_address=remote)
    if kind == "quic" and by == "remote" and code == CONNECTION_REFUSED:
        text = f"{peer} takes no more connections"
    else:
        text = (
            f"{peer} closed the connection during the handshake, code {code:#x}: "
            f"{peer_text(reason) if reason else 'no reason given'}"
        )
    return ConnectionError(text, error_code=code, remote_address=remote)


def remedy(error: CertificateError, config: ClientConfig) -> str:
    """What to do about a server's certificate that was not accepted; "" when nobody knows."""
    match error.certificate_error:
        case "self_signed" | "unknown_issuer":
            words = (
                "pass ca_certs= with a PEM file that vouches for it, or server_certificate_hashes="
                " with its SHA-256 hash"
            )
            if config.ca_certs:
                shown = ", ".join(fingerprints(config.ca_certs)) or "no certificate"
                words = (
                    f"ca_certs={config.ca_certs} has {shown}: is that another certificate, or was"
                    f" the server's made anew? Otherwise {words}"
                )
            return words
        case "hash":
            return "was the server's certificate made anew? certificate_hash(path=...) tells a hash"
        case "key" | "lifetime":
            return "generate_self_signed_cert(browser_compatible=True) makes one that can be pinned"
        case "expired" | "not_yet_valid":
            return "renew it, or look at this machine's clock"
        case "name":
            return "connect to a name or an address that it is for"
    return ""


def fingerprints(path: str) -> list[str]:
    """SHA-256 of the certificates in a PEM file, when they are few enough for a person."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        certificates = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):
        return []
    if len(certificates) > MAX_FINGERPRINTS:
        return [f"{len(certificates)} certificates"]
    return [each.fingerprint(SHA256()).hex() for each in certificates]


def refuses_certificate(info: CloseInfo) -> bool:
    """Whether a server did not accept the certificate of its client, or missed it.

    It says so when the client holds the handshake to be complete (RFC 8446 §4.4.2.4).
    """
    alert = info.code - CRYPTO_ERROR
    return info.by == "remote" and not info.is_application and alert in CERTIFICATE_ALERTS


def _tls_error(peer: str, code: int, reason: str, by: str) -> WebTransportError:
    alert = code - CRYPTO_ERROR
    said = reason or f"TLS alert {alert}"
    if by == "remote" and alert in CERTIFICATE_ALERTS:
        text = f"{peer} does not accept our certificate: {said}"
    elif by != "remote" and (alert in CERTIFICATE_ALERTS or reason.startswith(BAD_CERTIFICATE)):
        text = f"the certificate of {peer} is not accepted: {said}"
    else:
        return HandshakeError(
            f"TLS handshake with {peer} failed: {said}",
            error_code=code,
            handshake_stage="alpn" if alert == NO_APPLICATION_PROTOCOL else "tls",
        )
    return CertificateError(text, error_code=code, certificate_error=said)
