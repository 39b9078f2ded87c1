"""A fixed piece of work, of the kinds that a connection is made of.

Packets through the kernel, hashes of them, and calls and containers of Python, about a third each.
It has one thread and waits for nobody, so its CPU time says what the machine makes of such work at
this moment. That of a peer does not: with threads it is half as much again from one moment to the
next when the machine is busy.
"""

from __future__ import annotations

import hashlib
import socket
import time
from typing import Self

__all__ = ["Yardstick"]

PACKETS, PACKET = 1_500, bytes(1_200)
HASHES, BLOCK = 600, bytes(16_384)
CALLS = 60_000


class Yardstick:
    def __init__(self) -> None:
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind(("127.0.0.1", 0))
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender.connect(self._receiver.getsockname())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._receiver.close()
        self._sender.close()

    def milliseconds(self) -> float:
        """CPU time of doing it once."""
        begin = time.process_time_ns()
        for _ in range(PACKETS):
            self._sender.send(PACKET)
            self._receiver.recv(2_048)
        for _ in range(HASHES):
            hashlib.sha256(BLOCK).digest()
        entries: dict[int, tuple[int, int]] = {}
        for number in range(CALLS):
            entries[number % 1_000] = divmod(number, 7)
        return (time.process_time_ns() - begin) / 1e6
