"""One certificate, and sans-I/O connections of every kind that has aioquic's shape."""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

KINDS = {"native": "pywebtransport", "aioquic": "aioquic", "qh3": "qh3"}

Make = Callable[..., Any]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed P-256 pair for localhost: (certificate, key)."""
    folder = tmp_path_factory.mktemp("quic")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certfile, keyfile


@pytest.fixture
def make(certificate: tuple[Path, Path]) -> Make:
    """``make(kind, is_client, first_packet, **configuration)``: a connection of that kind.

    Servers of aioquic and qh3 want to know the id that the client's first packet chose
    (RFC 9000 §17.2).
    """

    def build(kind: str, is_client: bool, first_packet: bytes = b"", **options: Any) -> Any:
        package = KINDS[kind]
        configuration_class = importlib.import_module(f"{package}.quic.configuration")
        connection_class = importlib.import_module(f"{package}.quic.connection")
        configuration = configuration_class.QuicConfiguration(
            is_client=is_client,
            alpn_protocols=["h3"],
            max_datagram_frame_size=65_535,
            **({"server_name": "localhost"} if is_client else {}),
            **options,
        )
        if is_client:
            configuration.load_verify_locations(str(certificate[0]))
        else:
            configuration.load_cert_chain(*map(str, certificate))
        chosen = first_packet[6 : 6 + first_packet[5]] if first_packet else None
        return connection_class.QuicConnection(
            configuration=configuration, original_destination_connection_id=chosen
        )

    return build
