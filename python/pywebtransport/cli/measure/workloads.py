"""Each workload runs for a while against a server and gives its figures."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from pywebtransport.cli.measure import HEAD, PROTOCOL
from pywebtransport.cli.progress import Progress
from pywebtransport.cli.visitor import Visitor, open_session
from pywebtransport.client import WebTransportClient
from pywebtransport.exceptions import WebTransportError
from pywebtransport.session import WebTransportSession

__all__ = ["WORKLOADS", "Bench", "Figures", "measure", "suitable"]

CHUNK = 64 * 1024
REQUEST = 100
"""Bytes of a request, and of its answer."""
ENDLESS = 1 << 60
"""Bytes to ask for when time is the limit."""
IN_FLIGHT = 64
"""Datagrams of a client that are under way at once."""
LOST_AFTER = 0.25
"""Seconds without any echo after which all that is under way is taken for lost."""
PING = 100
"""Bytes of a datagram that is waited for."""
NUMBER = 8
TICK = 0.1
MAX_SAMPLES = 1_000_000


@dataclass
class Figures:
    """What came of one workload. Seconds and bytes."""

    name: str
    text: str
    """What was done, in words."""
    seconds: float = 0.0
    count: int = 0
    """Requests, connections or datagrams that were answered."""
    bytes: int = 0
    """Payload in the direction of interest."""
    lost: int | None = None
    """Datagrams that did not come back; None: none were sent."""
    times: list[float] = field(default_factory=list, repr=False)
    """How long each took."""
    fault: str = ""
    """Why there are no figures."""

    @property
    def rate(self) -> float:
        """How many in a second."""
        return self.count / self.seconds if self.seconds else 0.0

    @property
    def throughput(self) -> float:
        """Bytes in a second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def loss(self) -> float | None:
        """A share of all."""
        if self.lost is None:
            return None
        total = self.count + self.lost
        return self.lost / total if total else 0.0

    def percentile(self, share: float) -> float | None:
        """The time that so many (a share from 0 to 1) stayed within; None without times."""
        if not self.times:
            return None
        times = sorted(self.times)
        return times[min(len(times) - 1, int(share * len(times)))]

    def to_dict(self) -> dict[str, Any]:
        """Figures for JSON; what a workload does not have is None."""
        return {
            "name": self.name,
            "text": self.text,
            "seconds": self.seconds,
            "count": self.count or None,
            "per_second": self.rate or None,
            "bytes": self.bytes or None,
            "bytes_per_second": self.throughput or None,
            "p50": self.percentile(0.5),
            "p90": self.percentile(0.9),
            "p99": self.percentile(0.99),
            "loss": self.loss,
            "fault": self.fault or None,
        }


@dataclass(frozen=True)
class Bench:
    """What is measured, and how."""

    visitor: Visitor
    seconds: float = 3.0
    """Of each workload."""
    at_once: int = 32
    """Requests, and connections, that are under way at once where it is about that."""


async def suitable(bench: Bench) -> list[str]:
    """The names of the workloads that the server can do."""
    async with _client(bench) as client:
        session = await open_session(client, bench.visitor)
        is_full = session.wt_protocol == PROTOCOL
        await session.close()
    return [name for name, each in WORKLOADS.items() if each.is_full in (None, is_full)]


Run = Callable[[Bench, WebTransportSession, Figures], Awaitable[None]]


async def measure(bench: Bench, names: list[str]) -> AsyncIterator[Figures]:
    """The figures of each workload, as soon as they are known.

    A server that is not there, or refuses, ends the command.
    """
    for name in names:
        workload = WORKLOADS[name]
        figures = Figures(name, workload.text.format(at_once=bench.at_once, request=REQUEST))
        async with _client(bench) as client:
            session = await open_session(client, bench.visitor)
            is_full = session.wt_protocol == PROTOCOL
            if workload.is_full is not None and workload.is_full != is_full:
                figures.fault = (
                    "the server does not echo this: it answers as `bench --serve` does"
                    if is_full
                    else "the server echoes only; one of `pywebtransport bench --serve` does this"
                )
            else:
                await _run(bench, workload, session, figures)
            await session.close()
        yield figures


async def _run(
    bench: Bench, workload: Workload, session: WebTransportSession, figures: Figures
) -> None:
    limit = bench.seconds + max(10.0, bench.seconds)
    with Progress(figures.name, round(bench.seconds / TICK), is_bytes=False) as progress:
        ticking = asyncio.create_task(_tick(progress))
        started = time.perf_counter()
        try:
            async with asyncio.timeout(limit):
                await workload.run(bench, session, figures)
        except TimeoutError:
            figures.fault = f"the server did not answer within {limit:g} s"
        except WebTransportError as error:
            figures.fault = error.message
        finally:
            figures.seconds = figures.seconds or time.perf_counter() - started
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking


async def _tick(progress: Progress) -> None:
    while True:
        await asyncio.sleep(TICK)
        progress.advance(1)


def _client(bench: Bench) -> WebTransportClient:
    visitor = bench.visitor
    protocols = [*visitor.protocols, PROTOCOL]
    return WebTransportClient(config=visitor.config(wt_available_protocols=protocols))


# the workloads


async def _upload(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    """The time ends when the server has read everything and says so."""
    stream = await session.create_bidirectional_stream()
    chunk = bytes(CHUNK)
    started = time.perf_counter()
    await stream.write(bytes(HEAD))
    while time.perf_counter() - started < bench.seconds:
        await stream.write(chunk)
        figures.bytes += CHUNK
    await stream.write(b"", end_stream=True)
    await stream.read_all()
    figures.seconds = time.perf_counter() - started


async def _download(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    stream = await session.create_bidirectional_stream()
    started = time.perf_counter()
    await stream.write(ENDLESS.to_bytes(HEAD), end_stream=True)
    while time.perf_counter() - started < bench.seconds:
        figures.bytes += len(await stream.read(CHUNK))
    figures.seconds = time.perf_counter() - started
    await stream.stop_receiving()


async def _echo(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    """For servers without the protocol: all that is sent comes back."""
    stream = await session.create_bidirectional_stream()
    started = time.perf_counter()

    async def send() -> None:
        chunk = bytes(CHUNK)
        while time.perf_counter() - started < bench.seconds:
            await stream.write(chunk)
        await stream.write(b"", end_stream=True)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        while data := await stream.read(CHUNK):
            figures.bytes += len(data)
    figures.seconds = time.perf_counter() - started


async def _request(session: WebTransportSession) -> None:
    """As many bytes back as there are behind the head; an echo sends the head back, too."""
    stream = await session.create_bidirectional_stream()
    await stream.write(REQUEST.to_bytes(HEAD) + bytes(REQUEST), end_stream=True)
    if len(await stream.read_all()) < REQUEST:
        raise WebTransportError("the answer is too short: this server does not echo")


async def _repeat(
    bench: Bench, figures: Figures, once: Callable[[], Awaitable[None]], workers: int
) -> None:
    """Do it over and over, by so many at once, until the time is over."""
    started = time.perf_counter()
    end = started + bench.seconds

    async def work() -> None:
        while (begun := time.perf_counter()) < end:
            await once()
            figures.count += 1
            if len(figures.times) < MAX_SAMPLES:
                figures.times.append(time.perf_counter() - begun)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(workers):
                tasks.create_task(work())
    except* WebTransportError as errors:
        raise errors.exceptions[0] from None
    figures.seconds = time.perf_counter() - started


async def _requests(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    await _repeat(bench, figures, lambda: _request(session), 1)


async def _requests_at_once(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    await _repeat(bench, figures, lambda: _request(session), bench.at_once)


async def _connections(bench: Bench, _session: WebTransportSession, figures: Figures) -> None:
    """A handshake and a session each, closed again."""
    async with _client(bench) as client:

        async def connect() -> None:
            session = await client.connect(bench.visitor.url)
            await session.close()

        await _repeat(bench, figures, connect, bench.at_once)


async def _datagram_echo(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    await _exchange(bench, session, figures, PING, 1)


async def _datagrams(bench: Bench, session: WebTransportSession, figures: Figures) -> None:
    transport = await session.create_datagram_transport()
    await _exchange(bench, session, figures, transport.max_datagram_size, IN_FLIGHT)


async def _exchange(
    bench: Bench, session: WebTransportSession, figures: Figures, size: int, window: int
) -> None:
    """Keep so many datagrams under way; each has a number, by which its echo is known."""
    transport = await session.create_datagram_transport()
    if transport.max_datagram_size < NUMBER:
        raise WebTransportError("the server takes no datagrams")
    filling = bytes(min(size, transport.max_datagram_size) - NUMBER)
    under_way: dict[int, float] = {}
    figures.lost = 0
    number = 0
    started = time.perf_counter()
    end = started + bench.seconds
    while (now := time.perf_counter()) < end or under_way:
        while now < end and len(under_way) < window:
            under_way[number] = time.perf_counter()
            await transport.send(number.to_bytes(NUMBER) + filling)
            number += 1
        try:
            echo = await transport.receive(timeout=LOST_AFTER)
        except TimeoutError:
            figures.lost += len(under_way)
            under_way.clear()
            continue
        sent = under_way.pop(int.from_bytes(echo[:NUMBER]), None)
        if sent is None:
            continue  # it was taken for lost, or is none of ours
        figures.count += 1
        if window > 1:
            figures.bytes += len(echo)
        if len(figures.times) < MAX_SAMPLES:
            figures.times.append(time.perf_counter() - sent)
    figures.seconds = time.perf_counter() - started
    if not figures.count:
        raise WebTransportError("no datagram came back: this server does not echo them")


@dataclass(frozen=True)
class Workload:
    """How to run it, and what it is in words."""

    run: Run
    text: str
    is_full: bool | None = None
    """True: the server must speak the protocol; False: it must echo; None: either will do."""


WORKLOADS = {
    "upload": Workload(_upload, "one stream to the server", is_full=True),
    "download": Workload(_download, "one stream from the server", is_full=True),
    "echo": Workload(_echo, "one stream there and back", is_full=False),
    "requests": Workload(
        _requests, "{request} bytes there and back on a new stream, one after another"
    ),
    "requests-at-once": Workload(_requests_at_once, "the same, {at_once} at once"),
    "connections": Workload(_connections, "handshake, session, close; {at_once} at once"),
    "datagram-echo": Workload(_datagram_echo, "one datagram there and back, one after another"),
    "datagrams": Workload(
        _datagrams, f"full datagrams there and back, {IN_FLIGHT} under way at once"
    ),
}
"""By name, in the order in which they run."""
