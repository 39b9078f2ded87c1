"""What the supervisor and a worker say to each other, over a pair of Unix sockets.

The supervisor first says what the worker is (:class:`Assignment`) and hands it its sockets. The
worker says when it serves, or why it cannot; the supervisor says when it is to end. When one of
them is gone, the other sees the end of the channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from pywebtransport._engine.base import BoundSocket, WorkerPlace

__all__ = ["ENVIRONMENT_VARIABLE", "Assignment", "Channel", "inherited_channel"]

ENVIRONMENT_VARIABLE = "PYWEBTRANSPORT_WORKER"
"""Tells a new process that it is a worker: the channel's file descriptor and its parent's id."""
MAX_MESSAGE = 65536


@dataclass(frozen=True)
class Assignment:
    """What a worker is."""

    place: int
    """Counted from 0."""
    count: int
    """How many places there are."""
    workers: int
    """How many of them are in use, except during a restart."""
    secret: bytes
    sockets: tuple[tuple[int, ...], ...]
    """For each address the descriptors of its socket, its inbox, and everybody's outboxes."""

    def bound_sockets(self) -> list[BoundSocket]:
        """What to listen on; the descriptors belong to it."""
        return [
            BoundSocket(
                socket.socket(fileno=sock),
                WorkerPlace(self.place, self.count, self.secret, inbox, tuple(outboxes)),
            )
            for sock, inbox, *outboxes in self.sockets
        ]


class Channel:
    """One end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def assign(self, assignment: Assignment) -> None:
        """Tell a worker what it is, and give it its sockets."""
        words = {
            "place": assignment.place,
            "count": assignment.count,
            "workers": assignment.workers,
            "secret": assignment.secret.hex(),
            "addresses": len(assignment.sockets),
        }
        self._sock.sendall(json.dumps(words).encode())
        for descriptors in assignment.sockets:
            socket.send_fds(self._sock, [b"sockets"], descriptors)

    def assigned(self) -> Assignment:
        """What :meth:`assign` has told.

        Raises:
            EOFError: The supervisor is gone.
        """
        words = self.receive()
        sockets = []
        for _ in range(words["addresses"]):
            told, descriptors, _flags, _address = socket.recv_fds(self._sock, 16, MAX_DESCRIPTORS)
            if not told:
                raise EOFError("the supervisor is gone")
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            sockets.append(tuple(descriptors))
        secret = bytes.fromhex(words["secret"])
        return Assignment(words["place"], words["count"], words["workers"], secret, tuple(sockets))

    def send(self, **words: Any) -> None:
        """Say something; to nobody, if the other end is gone."""
        with contextlib.suppress(OSError):
            self._sock.send(json.dumps(words).encode())

    def receive(self) -> dict[str, Any]:
        """What the other end says next.

        Raises:
            EOFError: It is gone.
        """
        return _words(self._sock.recv(MAX_MESSAGE))

    async def next(self) -> dict[str, Any]:
        """As :meth:`receive`, without keeping others waiting."""
        self._sock.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            return _words(await loop.sock_recv(self._sock, MAX_MESSAGE))
        except OSError as error:
            raise EOFError("the other end is gone") from error

    def close(self) -> None:
        self._sock.close()


MAX_DESCRIPTORS = 2 + 256
"""For one address, with as many places as an octet can tell apart."""


def inherited_channel() -> Channel | None:
    """The channel to the supervisor, if it has started this process to be a worker.

    Processes that this one starts do not inherit it.
    """
    value = os.environ.pop(ENVIRONMENT_VARIABLE, "")
    descriptor, _, parent = value.partition(":")
    if not descriptor or parent != str(os.getppid()):
        return None
    sock = socket.socket(fileno=int(descriptor))
    sock.set_inheritable(False)
    return Channel(sock)


def _words(message: bytes) -> dict[str, Any]:
    if not message:
        raise EOFError("the other end is gone")
    words: dict[str, Any] = json.loads(message)
    return words
