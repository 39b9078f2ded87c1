"""A server process that is attacked, and what the attack may cost it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from tests.behaviour.process import Process, server_process
from tests.behaviour.site import within
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import RawPeer, raw_client

KIB, MIB = 1 << 10, 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
STALL = 2.0
"""Seconds in which an honest client is answered, whatever goes on; other tests may run beside."""
PROBE_INTERVAL = 0.05


class Target:
    """The server, and an honest client of it."""

    def __init__(self, engine: str, process: Process, client: WebTransportClient) -> None:
        self.engine = engine
        self.process = process
        self._client = client
        self._honest: WebTransportSession | None = None

    @property
    def port(self) -> int:
        return int(self.process.url.rsplit(":", 1)[1])

    def cpu(self) -> float:
        """Seconds of processor time that the server has used."""
        stat = Path(f"/proc/{self.process.process.pid}/stat").read_text()
        times = stat.rsplit(")", 1)[1].split()
        return (int(times[11]) + int(times[12])) / TICKS

    async def session(self, path: str) -> WebTransportSession:
        return await within(self._client.connect(url=f"{self.process.url}{path}"))

    async def report(self) -> dict[str, int]:
        """How much there is of everything that grows with use, this session left out."""
        session = await self.session("/report")
        stream = await within(session.accept_unidirectional_stream())
        sizes: dict[str, int] = json.loads(await within(stream.read_all()))
        await session.close()
        if session.connection is not None:
            await within(session.connection.wait_closed())
        return sizes

    async def settles(self, before: dict[str, int]) -> dict[str, int]:
        """The report, once nothing is more than before; connections take a moment to go."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 10
        while True:
            now = await self.report()
            more = {name: (before[name], n) for name, n in now.items() if n > before[name]}
            if not more:
                return now
            assert loop.time() < end, f"left over, before and after: {more}"
            await asyncio.sleep(0.1)

    async def probe(self) -> float:
        """How long an echo takes."""
        if self._honest is None:
            self._honest = await self.session("/echo")
        started = time.monotonic()
        stream = await self._honest.create_bidirectional_stream()
        await stream.write_all(data=b"probe")
        assert await stream.read_all() == b"probe"
        return time.monotonic() - started

    @asynccontextmanager
    async def bounded(
        self, *, memory: int, cpu: float, stall: float = STALL
    ) -> AsyncIterator[None]:
        """The block costs the server at most this: bytes at any moment, seconds of its processor,
        seconds that an honest client waits."""
        await within(self.probe())
        resident, spent = self.process.resident(), self.cpu()
        peak, slowest = resident, 0.0

        async def watch() -> None:
            nonlocal peak, slowest
            while True:
                async with asyncio.timeout(5 * stall):
                    slowest = max(slowest, await self.probe())
                peak = max(peak, self.process.resident())
                await asyncio.sleep(PROBE_INTERVAL)

        watching = asyncio.create_task(watch())
        try:
            yield
            if watching.done():
                watching.result()
            await within(self.probe(), 5 * stall)
        finally:
            watching.cancel()
            await asyncio.wait([watching])
        peak, spent = max(peak, self.process.resident()), self.cpu() - spent
        print(
            f"{self.engine}: {(peak - resident) / MIB:.1f} of {memory / MIB:.1f} MiB,"
            f" {spent:.2f} of {cpu:.1f} s, slowest echo {slowest:.3f} s"
        )
        assert peak - resident <= memory, f"{(peak - resident) / MIB:.1f} MiB more"
        assert spent <= cpu, f"{spent:.2f} s of processor time"
        assert slowest <= stall, f"an echo took {slowest:.2f} s"

    @asynccontextmanager
    async def attacker(self, draft: str = "02", **options: Any) -> AsyncIterator[Attacker]:
        """A raw client that has sent its SETTINGS."""
        async with raw_client(self.port, **options) as peer:
            control = peer.open(unidirectional=True)
            peer.send(control, h3.control_stream(h3.SETTINGS_OF[draft]))
            yield Attacker(peer, control)


class Attacker:
    def __init__(self, peer: RawPeer, control: int) -> None:
        self.peer = peer
        self.control = control

    async def session(self, path: str = "/silent") -> int:
        session = self.peer.open()
        self.peer.send(session, h3.connect_frame(path=path))
        assert (await self.peer.response(session))[":status"] == "200"
        return session

    def bidi(self, data: bytes, fin: bool = False) -> int:
        stream = self.peer.open()
        self.peer.send(stream, data, fin)
        return stream

    def uni(self, data: bytes, fin: bool = False) -> int:
        stream = self.peer.open(unidirectional=True)
        self.peer.send(stream, data, fin)
        return stream

    async def taken(self, *streams: int) -> bool:
        """The server's QUIC has acknowledged every byte of them; False: it has closed instead."""
        peer = self.peer
        await peer.until(lambda: peer.closed or all(map(peer.is_delivered, streams)), 30)
        return peer.closed is None

    async def pause(self) -> bool:
        """Let the server take what was sent; whether it still wants to hear more."""
        await self.peer.round_trip()
        return self.peer.closed is None


@asynccontextmanager
async def target_of(engine: str, certificate: Certificate, **options: Any) -> AsyncIterator[Target]:
    config = ClientConfig(engine="native", ca_certs=certificate.certfile)
    async with (
        server_process(engine, certificate, **options) as process,
        WebTransportClient(config=config) as client,
    ):
        target = Target(engine, process, client)
        # From now on its session is part of every report.
        await target.probe()
        yield target
