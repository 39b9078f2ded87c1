"""Helpers for datagrams."""

from __future__ import annotations

import hashlib

__all__ = ["calculate_checksum"]


def calculate_checksum(*, data: bytes, algorithm: str = "sha256") -> str:
    """The digest of ``data`` in hexadecimal.

    Raises:
        ValueError: ``algorithm`` is none that :mod:`hashlib` has everywhere.
    """
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake_"):
        raise ValueError(f"unsupported hash algorithm: {algorithm!r}")
    return hashlib.new(algorithm, data).hexdigest()
