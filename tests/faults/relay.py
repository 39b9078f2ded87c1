"""A UDP relay that loses, delays, reorders, duplicates and damages packets, from a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

Address = tuple[str, int]


@dataclass(kw_only=True)
class Path:
    """What the relay does to each packet, in both directions."""

    loss: float = 0.0
    """Share of packets that vanish."""
    delay: float = 0.0
    """Seconds, one way."""
    jitter: float = 0.0
    """Seconds added at random; larger than the packet spacing means reordering."""
    duplicate: float = 0.0
    """Share of packets that arrive twice."""
    damage: float = 0.0
    """Share of packets with one byte changed."""
    seed: int = 1


class Relay:
    """Sits between clients and one server; each client gets a socket of its own behind it."""

    def __init__(self, server: Address, path: Path) -> None:
        self.path = path
        self.random = random.Random(path.seed)
        self.server = server
        self.upstream: dict[Address, asyncio.DatagramTransport] = {}
        self.counts = {"forwarded": 0, "lost": 0, "duplicated": 0, "damaged": 0, "retries": 0}
        self.blackhole = False
        self.front: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> Address:
        assert self.front is not None
        host, port = self.front.get_extra_info("sockname")[:2]
        return host, port

    def forward(self, transport: asyncio.DatagramTransport, data: bytes, to: Address) -> None:
        path = self.path
        # RFC 9000 §17.2.5: a long header of type 3.
        self.counts["retries"] += data[:1] >= b"\xf0"
        if self.blackhole or self.random.random() < path.loss:
            self.counts["lost"] += 1
            return
        if data and self.random.random() < path.damage:
            self.counts["damaged"] += 1
            at = self.random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        copies = 1
        if self.random.random() < path.duplicate:
            self.counts["duplicated"] += 1
            copies = 2
        loop = asyncio.get_running_loop()
        for _ in range(copies):
            self.counts["forwarded"] += 1
            delay = path.delay + self.random.random() * path.jitter
            if delay:
                loop.call_later(delay, self.deliver, transport, data, to)
            else:
                transport.sendto(data, to)

    @staticmethod
    def deliver(transport: asyncio.DatagramTransport, data: bytes, to: Address) -> None:
        if not transport.is_closing():
            transport.sendto(data, to)

    async def from_client(self, data: bytes, client: Address) -> None:
        if client not in self.upstream:
            relay = self

            class Back(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, addr: Address) -> None:
                    if relay.front is not None and not relay.front.is_closing():
                        relay.forward(relay.front, data, client)

            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_datagram_endpoint(Back, local_addr=(self.server[0], 0))
            # Another packet of the same client may have been here while this one waited.
            if client in self.upstream:
                transport.close()
            else:
                self.upstream[client] = transport
        self.forward(self.upstream[client], data, self.server)

    def rebind(self) -> None:
        """What a NAT does when it forgets: the server sees every client at a new address."""
        for transport in self.upstream.values():
            transport.close()
        self.upstream.clear()

    def close(self) -> None:
        self.rebind()
        if self.front is not None:
            self.front.close()


@asynccontextmanager
async def relay_to(server: Address, path: Path) -> AsyncIterator[Relay]:
    """A running relay in front of ``server``."""
    relay = Relay(server, path)
    tasks: set[asyncio.Task[None]] = set()

    class Front(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Address) -> None:
            task = asyncio.ensure_future(relay.from_client(data, addr))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    loop = asyncio.get_running_loop()
    relay.front, _ = await loop.create_datagram_endpoint(Front, local_addr=(server[0], 0))
    try:
        yield relay
    finally:
        relay.close()
        for task in list(tasks):
            task.cancel()
