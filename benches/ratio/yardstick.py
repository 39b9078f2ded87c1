"""Fixed pieces of work, of the kinds that a connection is made of.

Packets through the kernel, hashes of them, and calls and containers of Python. `alone` does many of
them without a pause, as bulk data does; `in_turns` a few at a time in two processes that wait for
each other, as requests do: on a busy machine what wakes up finds its caches cold.

All have one thread. The CPU time of a peer with several is half as much again from one moment to
the next when the machine is busy.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from typing import Self

from benches.peers.process import cpu_ns

__all__ = ["Yardstick"]

PACKET, BLOCK = bytes(1_200), bytes(16_384)
ALONE, TURNS = 1_200, 150
"""How many packets. Alone or in turns, each goes with the same work."""


def work() -> None:
    hashlib.sha256(BLOCK).digest()
    entries: dict[int, tuple[int, int]] = {}
    for number in range(60):
        entries[number] = divmod(number, 7)


def bound() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    return one


class Yardstick:
    def __init__(self) -> None:
        self._socket = bound()
        self._other = subprocess.Popen(
            [sys.executable, "-m", "benches.ratio.yardstick", str(self._socket.getsockname()[1])]
        )
        _, self._address = self._socket.recvfrom(2_048)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._other.kill()
        self._other.wait()
        self._socket.close()

    def alone(self) -> float:
        """CPU time in milliseconds."""
        begin = time.process_time_ns()
        own = self._socket.getsockname()
        for _ in range(ALONE):
            self._socket.sendto(PACKET, own)
            self._socket.recv(2_048)
            work()
        return (time.process_time_ns() - begin) / 1e6

    def in_turns(self) -> float:
        """CPU time of both processes in milliseconds."""
        begin = time.process_time_ns() + cpu_ns(self._other.pid)
        for _ in range(TURNS):
            self._socket.sendto(PACKET, self._address)
            self._socket.recv(2_048)
            work()
        return (time.process_time_ns() + cpu_ns(self._other.pid) - begin) / 1e6


def answer(port: int) -> None:
    """The other process: answers each packet, until it is killed."""
    with bound() as one:
        one.connect(("127.0.0.1", port))
        one.send(PACKET)
        while True:
            one.recv(2_048)
            work()
            one.send(PACKET)


if __name__ == "__main__":
    answer(int(sys.argv[1]))
