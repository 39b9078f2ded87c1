"""The native engine's endpoints on an event loop: who calls whom, and which sockets there are."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from pywebtransport._engine.base import (
    BoundSocket,
    CloseInfo,
    EngineClosed,
    EngineConnection,
    EngineStats,
    SessionRefused,
    SessionRequest,
    StreamFinished,
)
from pywebtransport._engine.rules import connect_error
from pywebtransport._native import Endpoint, EndpointConnection, EndpointSeam, EndpointServer
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import datagram_too_large, no_datagrams, wrong_thread

if TYPE_CHECKING:
    from pywebtransport.types import Address

__all__ = ["IDLE_SOCKET_TIMEOUT", "ClientSockets", "NativeConnection", "Reactor"]

IDLE_SOCKET_TIMEOUT = 1.0
"""How long a client socket without connections waits for the next one."""

SEAM = EndpointSeam(
    close_info=CloseInfo,
    session_request=SessionRequest,
    stats=EngineStats,
    closed=EngineClosed,
    stream_finished=StreamFinished,
    session_refused=SessionRefused,
    datagram_too_large=datagram_too_large,
    no_datagrams=no_datagrams,
    wrong_thread=wrong_thread,
)
"""What crosses between Rust and the facade besides numbers, texts and bytes."""

logger = logging.getLogger(__name__)


class NativeConnection(EndpointConnection):
    """``EngineConnection``, nearly all of it in Rust."""

    __slots__ = ("_gone", "_on_lost", "_peer", "_ready")

    def __init__(self) -> None:
        self._ready: asyncio.Future[None] | None = None
        self._gone: list[asyncio.Future[None]] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._peer: Address = ("", 0)

    def connected(self) -> None:
        """The endpoint says: the handshake is complete."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def lost(
        self, code: int, reason: str, by: str, kind: str, fault: tuple[str, str] | None
    ) -> None:
        """The endpoint says, once: the connection is gone, and the sink has been told."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(connect_error(self._peer, code, reason, by, kind, fault))
        waiters, self._gone = self._gone, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()

    async def wait_closed(self) -> None:
        if not self.is_closed:
            waiter = asyncio.get_running_loop().create_future()
            if self._gone is None:
                self._gone = []
            self._gone.append(waiter)
            await waiter

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the connection is gone."""
        self._on_lost = callback

    async def wait_connected(self, peer: Address, timeout: float | None) -> None:
        """Client: until the handshake is complete; raises what ended it.

        Raises the built-in TimeoutError when that takes ``timeout`` seconds.
        """
        loop = asyncio.get_running_loop()
        self._peer = peer
        self._ready = ready = loop.create_future()
        # For one future a timer costs a fraction of ``asyncio.timeout``.
        timer = None if timeout is None else loop.call_later(timeout, expire, ready)
        try:
            await ready
        finally:
            if timer is not None:
                timer.cancel()
            # Its exception knows this frame and this object.
            self._ready = None
            del ready


def expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


class Reactor:
    """One endpoint on one event loop."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        address: str,
        port: int = 0,
        bound: BoundSocket | None = None,
        server: EndpointServer | None = None,
        on_connection: Callable[[EngineConnection], None] | None = None,
    ) -> None:
        # A strong reference would keep the loop alive through the registry of client sockets.
        self._loop = weakref.ref(loop)
        self._on_connection = on_connection
        self._timer: asyncio.TimerHandle | None = None
        self.endpoint = Endpoint(
            host=address,
            port=port,
            hooks=self,
            seam=SEAM,
            server=server,
            fileno=None if bound is None else bound.sock.detach(),
            place=None if bound is None else bound.place,
        )
        self._fileno = self.endpoint.fileno()
        self.is_closed = False
        loop.add_reader(self._fileno, self.endpoint.on_readable)
        # There is none on Windows, where there are no workers either.
        has_inbox = bound is not None and bound.place is not None
        self._inbox = self.endpoint.inbox_fileno() if has_inbox else None
        if self._inbox is not None:
            loop.add_reader(self._inbox, self.endpoint.on_handed_on)

    # called by the endpoint

    def schedule_flush(self) -> None:
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon(self.endpoint.flush)

    def arm_timer(self, delay: float) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(delay, self.endpoint.on_timer)

    def watch_writable(self, on: bool) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        if on:
            loop.add_writer(self._fileno, self.endpoint.flush)
        else:
            loop.remove_writer(self._fileno)

    def watch_again(self) -> None:
        # uvloop closes its handle of a socket that had an error, right after this callback.
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            loop.call_soon(self._watch)

    def _watch(self) -> None:
        loop = self._loop()
        if loop is not None and not self.is_closed:
            loop.remove_reader(self._fileno)
            loop.add_reader(self._fileno, self.endpoint.on_readable)

    def is_running_here(self) -> bool:
        """Also what is left of a closed loop may be called, by whoever tidies up."""
        loop = self._loop()
        return loop is None or loop.is_closed() or asyncio._get_running_loop() is loop

    new_connection = NativeConnection

    def accepted(self, connection: NativeConnection) -> None:
        if self._on_connection is not None:
            self._on_connection(connection)

    def failed(self, connection: NativeConnection, error: BaseException) -> None:
        logger.error("a notification was not taken, its connection ends", exc_info=error)
        connection.close(code=ErrorCodes.H3_INTERNAL_ERROR, reason="internal error")

    # called by the engine

    async def drain(self) -> None:
        """Until every connection has been told closed and the last packets were sent."""
        while waiting := self.endpoint.open_connections():
            await asyncio.gather(*(connection.wait_closed() for connection in waiting))
        self.endpoint.flush()

    def close(self) -> None:
        """End what connections there still are, at once, and release the socket."""
        if self.is_closed:
            return
        self.is_closed = True
        loop = self._loop()
        is_alive = loop is not None and not loop.is_closed()
        if loop is not None and is_alive:
            loop.remove_reader(self._fileno)
            loop.remove_writer(self._fileno)
            if self._inbox is not None:
                loop.remove_reader(self._inbox)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # On a loop that is closed nobody waits for anything.
        self.endpoint.close(tell=is_alive)


class ClientSockets:
    """The sockets that the client connections of one event loop share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._reactors: dict[int, Reactor] = {}
        self._users: dict[int, int] = {}
        self._idle_since: dict[int, float] = {}
        self._watched: set[int] = set()
        """Sockets that a timer will look at."""

    def use(self, version: int) -> Reactor:
        """The socket for IPv4 or IPv6, for one more connection."""
        loop = self._loop()
        assert loop is not None, "called on that loop"
        reactor = self._reactors.get(version)
        if reactor is None or reactor.is_closed:
            reactor = Reactor(loop=loop, address="0.0.0.0" if version == 4 else "::")
            self._reactors[version] = reactor
        self._users[version] = self._users.get(version, 0) + 1
        return reactor

    def leave(self, version: int) -> None:
        """One connection less."""
        self._users[version] -= 1
        loop = self._loop()
        if self._users[version] == 0 and loop is not None and not loop.is_closed():
            self._idle_since[version] = loop.time()
            # One timer, however many connections come and go while it runs.
            if version not in self._watched:
                self._watched.add(version)
                loop.call_later(IDLE_SOCKET_TIMEOUT, self._close_unused, loop, version)

    def close(self) -> None:
        """Release the sockets of a loop that is closed."""
        while self._reactors:
            self._reactors.popitem()[1].close()

    def _close_unused(self, loop: asyncio.AbstractEventLoop, version: int) -> None:
        self._watched.discard(version)
        if self._users[version] or version not in self._reactors:
            return
        rest = self._idle_since[version] + IDLE_SOCKET_TIMEOUT - loop.time()
        if rest > 0:
            self._watched.add(version)
            loop.call_later(rest, self._close_unused, loop, version)
        else:
            self._reactors.pop(version).close()
