"""aioquic's configuration object from ours: certificates, verification, key log."""

from __future__ import annotations

import datetime
import logging
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from pywebtransport._certificates import load_certificates, load_pair
from pywebtransport._engine.aioquic_qlog import QlogDirectory
from pywebtransport._engine.rules import (
    client_verify_mode,
    key_log_file,
    open_key_log,
    qlog_directory,
)
from pywebtransport.exceptions import (
    CertificateError,
    ConfigurationError,
)

if TYPE_CHECKING:
    from pywebtransport.config import ClientConfig, ServerConfig

__all__ = [
    "KeyLog",
    "check_pinned",
    "client_configuration",
    "server_configuration",
]

CONGESTION_CONTROLLERS = {
    "cubic": "cubic",
    "reno": "reno",
    "default": "cubic",
    "throughput": "cubic",
    "low-latency": "reno",  # grows slower than CUBIC does, so that queues do too
}
"""What aioquic has for the names that a configuration may have."""
MAX_DATAGRAM_FRAME_SIZE = 65535
MAX_PINNED_LIFETIME = datetime.timedelta(days=14, seconds=1)

logger = logging.getLogger(__name__)


class KeyLog:
    """The file that SSLKEYLOGFILE names; one that cannot be written ends the log, nothing else.

    It is opened for each secret, of which a connection has a few, so that no descriptor is
    kept and the file may be moved away.
    """

    def __init__(self, path: str) -> None:
        self._path: str | None = path

    @classmethod
    def from_environment(cls) -> KeyLog | None:
        path = key_log_file()
        return None if path is None else cls(path)

    def write(self, text: str) -> None:
        if self._path is None:
            return
        try:
            with open(open_key_log(self._path), "a", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            logger.warning("TLS secrets are not logged to %s: %s", self._path, error)
            self._path = None

    def flush(self) -> None:
        """Nothing to do: what was written is in the file."""


def client_configuration(
    config: ClientConfig, *, server_name: str, key_log: KeyLog | None
) -> QuicConfiguration:
    quic = _configuration(config, is_client=True, key_log=key_log)
    quic.server_name = server_name
    quic.verify_mode = client_verify_mode(config)
    if config.server_certificate_hashes:
        quic.verify_mode = ssl.CERT_NONE  # check_pinned replaces the authorities
    if config.ca_certs:
        load_certificates(config.ca_certs)
        quic.load_verify_locations(cafile=config.ca_certs)
    if config.certfile and config.keyfile:
        _use_pair(quic, certfile=config.certfile, keyfile=config.keyfile)
    return quic


def server_configuration(
    config: ServerConfig, *, certfile: str, keyfile: str, key_log: KeyLog | None
) -> QuicConfiguration:
    if config.verify_mode == ssl.CERT_REQUIRED:
        raise ConfigurationError(
            "the aioquic engine cannot ask clients for certificates; use engine='native'",
            config_key="verify_mode",
            config_value=config.verify_mode,
        )
    if config.verify_mode == ssl.CERT_OPTIONAL and config.ca_certs:
        logger.warning(
            "the aioquic engine asks no client for a certificate: ca_certs=%s has no effect;"
            " use engine='native'",
            config.ca_certs,
        )
    quic = _configuration(config, is_client=False, key_log=key_log)
    _use_pair(quic, certfile=certfile, keyfile=keyfile)
    return quic


def _use_pair(quic: QuicConfiguration, *, certfile: str, keyfile: str) -> None:
    (quic.certificate, *quic.certificate_chain), quic.private_key = load_pair(certfile, keyfile)


def _configuration(
    config: ClientConfig | ServerConfig, *, is_client: bool, key_log: KeyLog | None
) -> QuicConfiguration:
    algorithm = CONGESTION_CONTROLLERS.get(config.congestion_control_algorithm)
    if algorithm is None:
        raise ConfigurationError(
            f"the aioquic engine has no congestion control named "
            f"{config.congestion_control_algorithm!r}; it has cubic and reno",
            config_key="congestion_control_algorithm",
            config_value=config.congestion_control_algorithm,
        )
    qlog = qlog_directory(config)
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=list(config.alpn_protocols),
        congestion_control_algorithm=algorithm,
        idle_timeout=config.connection_idle_timeout,
        max_stream_data=config.quic_stream_receive_window,
        max_data=config.quic_receive_window,
        max_datagram_frame_size=min(config.max_datagram_size, MAX_DATAGRAM_FRAME_SIZE),
        quic_logger=None if qlog is None else QlogDirectory(qlog),
        secrets_log_file=key_log,  # type: ignore[arg-type]  # it has all that aioquic uses
    )


def check_pinned(certificate: x509.Certificate | None, hashes: Sequence[bytes]) -> None:
    """The rule of ``serverCertificateHashes`` (W3C WebTransport), or CertificateError."""
    fault = None
    now = datetime.datetime.now(datetime.UTC)
    if certificate is None:
        fault = "none", "the server showed none"
    elif (actual := certificate.fingerprint(SHA256())) not in hashes:
        expected = " or ".join(each.hex() for each in hashes)
        fault = "hash", f"its SHA-256 hash is {actual.hex()}, expected is {expected}"
    elif not isinstance(key := certificate.public_key(), ec.EllipticCurvePublicKey):
        kind = "RSA, " if isinstance(key, rsa.RSAPublicKey) else ""
        fault = "key", f"its key is {kind}not on an elliptic curve"
    elif now < certificate.not_valid_before_utc:
        fault = "not_yet_valid", "it is not valid yet"
    elif now > certificate.not_valid_after_utc:
        fault = "expired", "it has expired"
    elif (lifetime := lifetime_of(certificate)) > MAX_PINNED_LIFETIME:
        days = -(-lifetime // datetime.timedelta(days=1))
        fault = "lifetime", f"it is valid for {days} days, more than 14"
    if fault is not None:
        raise CertificateError(
            f"the server's certificate is not accepted: {fault[1]}", certificate_error=fault[0]
        )


def lifetime_of(certificate: x509.Certificate) -> datetime.timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


FAULTS = {
    "self-signed certificate": ("self_signed", "it is self-signed"),
    "unable to get local issuer certificate": ("unknown_issuer", "its issuer is unknown"),
    "self-signed certificate in certificate chain": ("unknown_issuer", "its issuer is unknown"),
    "Certificate is no longer valid": ("expired", "it has expired"),
    "certificate has expired": ("expired", "it has expired"),
    "Certificate is not valid yet": ("not_yet_valid", "it is not valid yet"),
    "certificate is not yet valid": ("not_yet_valid", "it is not valid yet"),
}
"""What aioquic and OpenSSL say, as a word and a text."""


def certificate_fault(reason: str, certificate: x509.Certificate | None) -> tuple[str, str] | None:
    """What a reason of aioquic's says of the server's certificate; None: it is about another."""
    if "subjectAltName" in reason or ("hostname" in reason and "match" in reason):
        return "name", f"it is not for this host name: {reason}"
    fault = FAULTS.get(reason)
    if fault is not None and fault[0] == "self_signed" and certificate is not None:
        return fault[
            0
        ], f"{fault[1]}, its SHA-256 hash is {certificate.fingerprint(SHA256()).hex()}"
    return fault
