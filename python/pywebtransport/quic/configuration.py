"""How a sans-I/O QUIC connection is set up."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

__all__ = ["QuicConfiguration"]


@dataclass(kw_only=True)
class QuicConfiguration:
    """Settings of one :class:`~pywebtransport.quic.QuicConnection`.

    The field names are aioquic's. Windows are what the peer may have outstanding, unread.
    """

    alpn_protocols: list[str] | None = None
    """Application protocols in order of preference; None: ``["h3"]``."""
    cafile: str | None = None
    """PEM file of trusted roots; None: the system's."""
    certificate: bytes | None = None
    """PEM chain, leaf first; set by :meth:`load_cert_chain`."""
    congestion_control_algorithm: str = "cubic"
    """``"cubic"``, ``"reno"`` or ``"bbr"``."""
    idle_timeout: float = 60.0
    """Seconds of silence that end the connection; 0: never."""
    is_client: bool = True
    """The side of the connection."""
    max_data: int = 16 * 1024 * 1024
    """Connection window in bytes."""
    max_datagram_frame_size: int | None = None
    """Not None: DATAGRAM frames are accepted, of up to 65,535 bytes (RFC 9221)."""
    max_stream_data: int = 2_500_000
    """Stream window in bytes."""
    max_streams: int = 128
    """Concurrent streams the peer may open, of each kind."""
    private_key: bytes | None = field(default=None, repr=False)
    """PEM key; set by :meth:`load_cert_chain`."""
    secrets_log_file: str | None = None
    """Where TLS secrets are appended, in the NSS key log format."""
    server_certificate_hashes: list[bytes] = field(default_factory=list)
    """Client: SHA-256 of acceptable leaf certificates, instead of the chain and the name."""
    server_name: str | None = None
    """Client: the name to verify and to send as SNI; None: ``"localhost"``."""
    verify_mode: ssl.VerifyMode | None = None
    """Whether the peer's certificate is checked; None: by clients only."""

    def load_cert_chain(
        self, certfile: str | PathLike[str], keyfile: str | PathLike[str] | None = None
    ) -> None:
        """Read a PEM certificate chain and its unencrypted private key.

        ``keyfile`` None: the key is in ``certfile`` too. Raises OSError.
        """
        self.certificate = Path(certfile).read_bytes()
        self.private_key = Path(keyfile or certfile).read_bytes()

    def load_verify_locations(self, cafile: str | PathLike[str]) -> None:
        """Trust the PEM certificates in ``cafile`` instead of the system's."""
        self.cafile = str(cafile)
