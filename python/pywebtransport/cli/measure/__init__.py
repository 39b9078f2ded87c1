"""What ``pywebtransport bench`` measures, and what its client and its server say to each other.

A client offers the application protocol :data:`PROTOCOL`. A server that chooses it answers each
bidirectional stream so: the first :data:`HEAD` bytes are a number, big-endian; the rest is read to
its end; then so many bytes are sent, and the end. Datagrams it sends back as they are.

A server that does not choose it is taken for one that echoes streams and datagrams.
"""

from __future__ import annotations

__all__ = ["HEAD", "PROTOCOL"]

PROTOCOL = "pywebtransport-bench"
HEAD = 8
