"""What is known to have hurt an HTTP/3, WebTransport or QUIC endpoint; each has a test here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])

VECTORS: dict[str, str] = {
    # Advisories.
    "CVE-2026-21434": "CLOSE with a text far above 1024 bytes (webtransport-go)",
    "CVE-2026-21438": "streams opened and closed without end (webtransport-go)",
    "GHSA-px4r-g4p3-hhqv": "a close while there is no credit on CONNECT (webtransport-go)",
    "CVE-2026-57497": "an unknown capsule with a large body (webtransport-go)",
    "CVE-2025-64702": "a small HEADERS that decodes to a huge one (quic-go)",
    "CVE-2026-40898": "the same in trailers (quic-go)",
    "CVE-2023-49295": "PATH_CHALLENGE while answers cannot leave (quic-go)",
    "CVE-2024-22189": "NEW_CONNECTION_ID with retire-prior-to (quic-go)",
    "CVE-2024-1410": "the same without end (quiche)",
    "CVE-2026-31812": "varints cut inside transport parameters (quinn)",
    "CVE-2024-45311": "Retry, and the first Initial again (quinn)",
    "CVE-2025-54939": "Initials coalesced with garbage before the handshake (lsquic)",
    "CVE-2025-4820": "ACKs for packets that were never sent (quiche)",
    "CVE-2026-14456": "Initials faster than they are accepted (OpenSSL)",
    "CVE-2026-11352": "zero-length UDP datagrams (curl)",
    "aioquic-501": "CRYPTO at far offsets (aioquic, picoquic 1745, xquic 811)",
    "aioquic-549": "so many ACK ranges that ACK frames do not fit (aioquic)",
    "CVE-2023-44487": "rapid reset (HTTP/2)",
    "CVE-2024-53259": "a forged ICMP packet-too-big (quic-go)",
    "CVE-2025-59530": "HANDSHAKE_DONE before the handshake (quic-go)",
    "CVE-2025-4821": "the congestion window grown by false ACKs (quiche)",
    "CVE-2025-7054": "a loop of retired connection ids (quiche)",
    # Vectors that need no advisory.
    "never-finished headers": "a HEADERS frame a byte at a time",
    "one-byte DATA": "capsules in DATA frames of one byte",
    "empty DATA": "DATA frames of no bytes",
    "GREASE": "frames and streams of reserved types",
    "datagram flood": "datagrams faster than they are read",
    "idle sessions": "sessions that are opened and never used",
    "no request": "connections that never ask for a session",
    "withheld credit": "writes to a peer that gives no credit",
    "stream gaps": "one byte of each two of a stream",
    "early data": "streams and datagrams of sessions that are never established",
    # What reviews of this library found.
    "refused streams": "nothing is kept of a stream that was refused (core 1, 2)",
    "session end": "what ending a session costs does not depend on other sessions (core 3)",
    "GOAWAY flood": "a GOAWAY that changes nothing costs nothing (core 3)",
    "unanswered requests": "what waits for the application's answer is bounded (core 4)",
    "small payloads": "what is kept is as large as what is counted (native 1)",
    "port 0": "packets from a port that cannot be answered (native 11)",
}

TESTS: dict[str, list[str]] = defaultdict(list)


def vector(*names: str) -> Callable[[Test], Test]:
    """The test that holds these back."""

    def register(test: Test) -> Test:
        for name in names:
            assert name in VECTORS, name
            TESTS[name].append(f"{test.__module__}.{test.__name__}")
        return test

    return register
