"""One datagram in a queue."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pywebtransport.datagram.utils import calculate_checksum

__all__ = ["DatagramMessage"]

CHECKSUM_DIGITS = 8


@dataclass(kw_only=True)
class DatagramMessage:
    """A payload and what is known about it; ``ttl`` and ``age`` are in seconds.

    ``checksum`` is the first 8 hexadecimal digits of the payload's SHA-256.
    """

    data: bytes
    timestamp: float = field(default_factory=time.time)
    size: int = field(init=False)
    checksum: str | None = None
    sequence: int | None = None
    priority: int = 0
    ttl: float | None = None

    def __post_init__(self) -> None:
        self.size = len(self.data)
        if self.checksum is None:
            self.checksum = calculate_checksum(data=self.data)[:CHECKSUM_DIGITS]

    @property
    def age(self) -> float:
        """Seconds since it was made or arrived."""
        return time.time() - self.timestamp

    @property
    def is_expired(self) -> bool:
        """Whether it is older than its ``ttl``."""
        return self.ttl is not None and self.age > self.ttl

    def to_dict(self) -> dict[str, Any]:
        """Everything but the payload."""
        return {
            "size": self.size,
            "timestamp": self.timestamp,
            "age": self.age,
            "checksum": self.checksum,
            "sequence": self.sequence,
            "priority": self.priority,
            "ttl": self.ttl,
            "is_expired": self.is_expired,
        }
