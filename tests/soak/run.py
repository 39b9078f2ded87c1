"""A server under churn, resets, cancelled calls, killed clients and loss, for as long as asked.

    python -m tests.soak.run [--minutes 20] [--engine native] [--engine aioquic]

What it proves: every byte that came back is the one that was sent, memory does not grow once it
is warm, and when the clients are gone nothing is left of them. Prints a line every ten seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.session import WebTransportSession
from tests.behaviour.process import Process, resident, server_process
from tests.faults.relay import Path, relay_to
from tests.security.target import Target
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate, make_certificate
from tests.support.raw_peer import raw_client

MIB = 1 << 20
LOSS = 0.02
IDLE_TIMEOUT = 5.0
"""Of the server, so that it forgets killed clients while the soak goes on."""
WARM = 0.5
"""Share of the time in which memory may still grow."""
ALLOWED_GROWTH = 10 * MIB
"""Between the medians of the first and the last third of the rest: what an allocator may move."""
REPORT_INTERVAL = 10.0
WORKERS = 3
"""Of each kind."""


class Soak:
    def __init__(self, engine: str, certificate: Certificate, process: Process, seed: int) -> None:
        self.engine = engine
        self.certificate = certificate
        self.process = process
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.samples: list[tuple[int, int]] = []
        """Resident bytes of the server and of this process."""
        self.is_over = asyncio.Event()

    @property
    def port(self) -> int:
        return int(self.process.url.rsplit(":", 1)[1])

    @asynccontextmanager
    async def session(self) -> AsyncIterator[WebTransportSession]:
        """A session of its own connection, over a path that loses packets."""
        config = ClientConfig(
            engine=self.engine, ca_certs=self.certificate.certfile, close_timeout=1
        )
        path = Path(loss=LOSS, seed=self.random.randrange(1 << 30))
        async with (
            relay_to(("127.0.0.1", self.port), path) as relay,
            WebTransportClient(config=config) as client,
        ):
            url = f"https://127.0.0.1:{relay.address[1]}/echo"
            yield await client.connect(url=url, timeout=30)

    async def exchange(self, session: WebTransportSession, size: int) -> None:
        data = self.random.randbytes(size)
        stream = await session.create_bidirectional_stream()
        reading = asyncio.ensure_future(stream.read_all())
        await stream.write_all(data=data)
        answer = await reading
        assert hashlib.sha256(answer).digest() == hashlib.sha256(data).digest(), "other bytes"
        self.done["exchanges"] += 1
        self.done["bytes"] += 2 * size

    # What clients do, again and again.

    async def churn(self) -> None:
        async with self.session() as session:
            sizes = [self.random.randrange(1, 200_000) for _ in range(5)]
            await asyncio.gather(*(self.exchange(session, size) for size in sizes))
            for _ in range(10):
                await session.send_datagram(data=b"x" * 500)
        self.done["sessions"] += 1

    async def reset(self) -> None:
        async with self.session() as session:
            for _ in range(20):
                stream = await session.create_bidirectional_stream()
                await stream.write(data=self.random.randbytes(self.random.randrange(1, 50_000)))
                await self.random.choice([stream.reset, stream.stop_receiving, stream.abort])()
                await stream.abort()
                self.done["resets"] += 1
            await self.exchange(session, 10_000)

    async def cancel(self) -> None:
        async with self.session() as session:
            for _ in range(10):
                task = asyncio.ensure_future(self.exchange(session, 300_000))
                await asyncio.wait([task], timeout=self.random.random() * 0.05)
                if not task.done():
                    task.cancel()
                    self.done["cancelled"] += 1
                await asyncio.wait([task])
                if not task.cancelled():
                    task.result()
            await self.exchange(session, 10_000)

    async def kill(self) -> None:
        """A client that is gone in the middle of everything, without a word."""
        async with raw_client(self.port) as peer:
            control = peer.open(unidirectional=True)
            peer.send(control, h3.control_stream(h3.SETTINGS_OF["02"]))
            session = peer.open()
            peer.send(session, h3.connect_frame(path="/echo"))
            await peer.response(session)
            for _ in range(10):
                peer.send(peer.open(), h3.bidi_header(session) + bytes(5_000))
            await peer.round_trip()
            peer.vanish()
        self.done["killed"] += 1

    async def again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        while not self.is_over.is_set():
            await work()

    async def watch(self, minutes: float) -> None:
        started = told = time.monotonic()
        end = started + 60 * minutes
        while (now := time.monotonic()) < end:
            self.samples.append((self.process.resident(), resident(os.getpid())))
            if now - told >= REPORT_INTERVAL:
                told = now
                self.tell(now - started)
            await asyncio.sleep(1)
        self.is_over.set()

    def tell(self, seconds: float) -> None:
        server, client = self.samples[-1]
        done = ", ".join(f"{count:,} {name}" for name, count in sorted(self.done.items()))
        print(
            f"{self.engine} {seconds:5.0f} s: server {server / MIB:.1f} MiB,"
            f" client {client / MIB:.1f} MiB; {done}",
            flush=True,
        )

    def check_memory(self) -> None:
        warm = self.samples[int(len(self.samples) * WARM) :]
        third = max(1, len(warm) // 3)
        for name, side in (("server", 0), ("client", 1)):
            first, last = (
                statistics.median(sample[side] for sample in part)
                for part in (warm[:third], warm[-third:])
            )
            print(
                f"{self.engine}: {name}: {first / MIB:.1f} MiB when warm, {last / MIB:.1f} MiB"
                f" at the end ({(last - first) / MIB:+.1f})"
            )
            assert last - first <= ALLOWED_GROWTH, f"the {name} grows"


async def soak(engine: str, minutes: float, seed: int) -> None:
    print(f"{engine}: {minutes:g} minutes, seed {seed}, {LOSS:.0%} loss")
    loop = asyncio.get_running_loop()
    tasks_before = asyncio.all_tasks()
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(FilePath(folder))
        async with (
            server_process(
                engine, certificate, connection_idle_timeout=IDLE_TIMEOUT, close_timeout=1
            ) as process,
            WebTransportClient(
                config=ClientConfig(engine="native", ca_certs=certificate.certfile)
            ) as observer,
        ):
            target = Target(engine, process, observer)
            await target.probe()
            before = await target.report()
            work = Soak(engine, certificate, process, seed)
            loop.set_debug(False)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(WORKERS):
                    for kind in (work.churn, work.reset, work.cancel, work.kill):
                        tasks.create_task(work.again_and_again(kind))
                tasks.create_task(work.watch(minutes))
            work.check_memory()
            await asyncio.sleep(2 * IDLE_TIMEOUT)
            after = await target.settles(before)
            print(f"{engine}: nothing is left over: {after}")
    left: Any = asyncio.all_tasks() - tasks_before
    assert not left, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="for all engines together")
    parser.add_argument("--engine", action="append", choices=["native", "aioquic"])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    engines = given.engine or ["native", "aioquic"]
    for engine in engines:
        try:
            asyncio.run(soak(engine, given.minutes / len(engines), given.seed))
        except* (AssertionError, WebTransportError, TimeoutError) as failures:
            for failure in failures.exceptions:
                print(f"{engine}: {failure!r}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
