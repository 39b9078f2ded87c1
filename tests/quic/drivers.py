"""The same exchange over a wire in memory, asyncio, trio, and plain blocking sockets."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import select
import socket
import time
from collections.abc import Callable
from typing import Any

CLIENT, SERVER = ("127.0.0.1", 1111), ("127.0.0.1", 4433)


def name_of(event: Any) -> str:
    return type(event).__name__


class Wire:
    """Two connections, a latency, and a clock that only this class moves."""

    def __init__(
        self,
        client: Any,
        make_server: Callable[[bytes], Any],
        *,
        latency: float = 0.01,
        lose: Callable[[int], bool] = lambda number: False,
    ) -> None:
        self.client = client
        self.server: Any = None
        self.make_server = make_server
        self.latency, self.lose = latency, lose
        self.now = 1000.0
        self.flights: list[tuple[float, int, bool, bytes]] = []
        self.count = itertools.count()
        self.client_events: list[Any] = []
        self.server_events: list[Any] = []
        client.connect(SERVER, self.now)

    def exchange(self) -> bool:
        """Take events and packets of both; whether anything came."""
        progress = False
        for end, events, to_server in (
            (self.client, self.client_events, True),
            (self.server, self.server_events, False),
        ):
            if end is None:
                continue
            while (event := end.next_event()) is not None:
                events.append(event)
                progress = True
            for data, _ in end.datagrams_to_send(self.now):
                number = next(self.count)
                progress = True
                if not self.lose(number):
                    heapq.heappush(self.flights, (self.now + self.latency, number, to_server, data))
        return progress

    def run_until(self, done: Callable[[], bool], limit: float = 60.0) -> None:
        """Let time pass, one packet or deadline at a time, until ``done()``."""
        end = self.now + limit
        while True:
            while self.exchange():
                pass
            if done():
                return
            timers = [c.get_timer() for c in (self.client, self.server) if c is not None]
            moments = [t for t in timers if t is not None] + [f[0] for f in self.flights[:1]]
            assert moments, "nothing left to wait for"
            assert min(moments) <= end, f"not done after {limit} s: {self.client_events}"
            # A little more than asked for, as with any real clock: aioquic computes its
            # deadlines twice, with different rounding.
            self.now = max(self.now, min(moments)) + 1e-6
            while self.flights and self.flights[0][0] <= self.now:
                _, _, to_server, data = heapq.heappop(self.flights)
                if to_server:
                    if self.server is None:
                        self.server = self.make_server(data)
                    self.server.receive_datagram(data, CLIENT, self.now)
                else:
                    self.client.receive_datagram(data, SERVER, self.now)
            for connection in (self.client, self.server):
                timer = connection.get_timer() if connection is not None else None
                if timer is not None and timer <= self.now:
                    connection.handle_timer(self.now)

    def stream_data(self, events: list[Any], stream_id: int) -> tuple[bytes, bool]:
        parts = [
            e for e in events if name_of(e) == "StreamDataReceived" and e.stream_id == stream_id
        ]
        return b"".join(e.data for e in parts), any(e.end_stream for e in parts)


class Echo:
    """What both ends of the socket drivers do with events; knows nothing of sockets."""

    def __init__(self, connection: Any, message: bytes | None = None) -> None:
        self.connection, self.message = connection, message
        self.received = bytearray()
        self.is_done = False

    def take_events(self) -> None:
        while (event := self.connection.next_event()) is not None:
            match name_of(event):
                case "HandshakeCompleted" if self.message is not None:
                    stream_id = self.connection.get_next_available_stream_id()
                    self.connection.send_stream_data(stream_id, self.message, True)
                case "StreamDataReceived" if self.message is None:
                    self.connection.send_stream_data(event.stream_id, event.data, event.end_stream)
                case "StreamDataReceived":
                    self.received += event.data
                    if event.end_stream:
                        self.connection.close(error_code=0x100, reason_phrase="done")
                        self.is_done = True
                case "ConnectionTerminated":
                    self.is_done = True


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def blocking_loop(client: Any, server: Any, message: bytes) -> bytes:
    """Both ends in one thread on ``select``."""
    near, far = _bound(), _bound()
    ends = {near: Echo(client, message), far: Echo(server)}
    client.connect(far.getsockname(), time.monotonic())
    try:
        while not all(echo.is_done for echo in ends.values()):
            for sock, echo in ends.items():
                echo.take_events()
                for data, addr in echo.connection.datagrams_to_send(time.monotonic()):
                    sock.sendto(data, addr)
            timers = [echo.connection.get_timer() for echo in ends.values()]
            deadline = min((t for t in timers if t is not None), default=time.monotonic() + 5)
            wait = max(0.0, deadline - time.monotonic())
            for sock in select.select(list(ends), [], [], wait)[0]:
                data, addr = sock.recvfrom(65_536)
                ends[sock].connection.receive_datagram(data, addr, time.monotonic())
            for echo in ends.values():
                echo.connection.handle_timer(time.monotonic())
        return bytes(ends[near].received)
    finally:
        near.close()
        far.close()


class AsyncioDriver(asyncio.DatagramProtocol):
    """One end on asyncio."""

    def __init__(self, echo: Echo) -> None:
        self.echo = echo
        self.loop = asyncio.get_running_loop()
        self.done = self.loop.create_future()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.echo.connection.receive_datagram(data, addr, self.loop.time())
        self.drain()

    def fire(self) -> None:
        self.echo.connection.handle_timer(self.loop.time())
        self.drain()

    def drain(self) -> None:
        self.echo.take_events()
        for data, addr in self.echo.connection.datagrams_to_send(self.loop.time()):
            self.transport.sendto(data, addr)
        if self.timer is not None:
            self.timer.cancel()
        if (at := self.echo.connection.get_timer()) is not None:
            self.timer = self.loop.call_at(at, self.fire)
        if self.echo.is_done and not self.done.done():
            self.done.set_result(None)


async def on_asyncio(client: Any, server: Any, message: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    far = AsyncioDriver(Echo(server))
    near = AsyncioDriver(Echo(client, message))
    for driver in (far, near):
        await loop.create_datagram_endpoint(lambda d=driver: d, local_addr=("127.0.0.1", 0))
    client.connect(far.transport.get_extra_info("sockname"), loop.time())
    near.drain()
    try:
        await asyncio.gather(near.done, far.done)
        return bytes(near.echo.received)
    finally:
        for driver in (near, far):
            if driver.timer is not None:
                driver.timer.cancel()
            driver.transport.close()


async def on_trio(client: Any, server: Any, message: bytes) -> bytes:
    import trio

    async def drive(sock: Any, echo: Echo) -> None:
        while not echo.is_done:
            echo.take_events()
            for data, addr in echo.connection.datagrams_to_send(trio.current_time()):
                await sock.sendto(data, addr)
            at = echo.connection.get_timer()
            with trio.move_on_at(at if at is not None else float("inf")):
                data, addr = await sock.recvfrom(65_536)
                echo.connection.receive_datagram(data, addr, trio.current_time())
            echo.connection.handle_timer(trio.current_time())
        for data, addr in echo.connection.datagrams_to_send(trio.current_time()):
            await sock.sendto(data, addr)

    near_sock, far_sock = trio.socket.socket(type=2), trio.socket.socket(type=2)
    with near_sock, far_sock:
        for sock in (near_sock, far_sock):
            await sock.bind(("127.0.0.1", 0))
        near, far = Echo(client, message), Echo(server)
        client.connect(far_sock.getsockname(), trio.current_time())
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drive, near_sock, near)
                nursery.start_soon(drive, far_sock, far)
        return bytes(near.received)
