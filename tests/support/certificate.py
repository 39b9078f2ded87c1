"""One certificate, its key, and its hash."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pywebtransport.utils import certificate_hash, generate_self_signed_cert


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
