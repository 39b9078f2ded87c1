"""Who answers at a place while no worker is there."""

from __future__ import annotations

import asyncio
import os

from pywebtransport._engine.base import BoundSocket, WorkerPlace
from pywebtransport._engine.native_reactor import Reactor
from pywebtransport.server.workers.port import Port

__all__ = ["Caretaker"]


class Caretaker:
    """Tells the clients of a worker that has died so, by stateless resets (RFC 9000 §10.3).

    It knows no connection, but the secret from which the workers' reset tokens are made. Without it
    clients would wait for the next worker, or for their idle timeout.
    """

    def __init__(self, port: Port, place: int, secret: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._reactors: list[Reactor] = []
        for group in port.groups:
            inbox, *outboxes = map(os.dup, group.given_to(place)[1:])
            at = WorkerPlace(place, port.count, secret, inbox, tuple(outboxes))
            bound = BoundSocket(group.sockets[place].dup(), at)
            self._reactors.append(Reactor(loop=loop, address="", bound=bound))

    def leave(self) -> None:
        """From now on the packets are a worker's."""
        for reactor in self._reactors:
            reactor.close()
