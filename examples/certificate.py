"""A certificate for an example: one that a browser accepts by its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pywebtransport.utils import certificate_hash, generate_self_signed_cert


@dataclass(frozen=True)
class Certificate:
    certfile: str
    keyfile: str
    sha256: str
    """Of the certificate, in hexadecimal: what ``serverCertificateHashes`` takes."""


def make_certificate(directory: Path) -> Certificate:
    """For localhost, 127.0.0.1 and ::1: ECDSA with P-256, valid for 14 days."""
    certfile, keyfile = generate_self_signed_cert(
        hostname="localhost", output_dir=str(directory), browser_compatible=True
    )
    return Certificate(certfile, keyfile, certificate_hash(path=certfile))
