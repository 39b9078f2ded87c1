"""A certificate, its key and its hash; an authority that signs others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat
from cryptography.x509.oid import NameOID

from pywebtransport.utils import certificate_hash, generate_self_signed_cert

PEM = Encoding.PEM


@dataclass(frozen=True)
class Certificate:
    certfile: str
    keyfile: str
    sha256: str


def make_certificate(directory: Path) -> Certificate:
    """Self-signed, for localhost and its addresses, good enough to be pinned by its hash."""
    certfile, keyfile = generate_self_signed_cert(
        hostname="localhost", output_dir=str(directory), days_valid=10, browser_compatible=True
    )
    return Certificate(certfile, keyfile, certificate_hash(path=certfile))


class Authority:
    """A root of its own, and what it has signed."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"root {directory.name}")])
        self._directory = directory
        root = self._sign(self._name, self._key.public_key(), ca=True)
        self.certfile = self._write("root.pem", root.public_bytes(PEM))

    def issue(self, name: str) -> Certificate:
        """A certificate for a client, or for a server on this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key.public_key(), ca=False)
        return Certificate(
            self._write(f"{name}.pem", certificate.public_bytes(PEM)),
            self._write(
                f"{name}.key",
                key.private_bytes(PEM, PrivateFormat.PKCS8, serialization.NoEncryption()),
            ),
            certificate.fingerprint(hashes.SHA256()).hex(),
        )

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self._name)
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            here = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, text: bytes) -> str:
        path = self._directory / name
        path.write_bytes(text)
        return str(path)
