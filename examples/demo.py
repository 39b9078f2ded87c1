"""A server process and a client over loopback: `make demo`.

The client sends this repository's own sources on streams of both kinds, checks the hash of what
comes back, measures round trips of streams and datagrams, and prints a table.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".rs", ".py", ".pyi", ".toml", ".md", ".js"}
AT_ONCE = 16
BULK = 64 << 20
ROUND_TRIPS = 2000


@dataclass
class Measurement:
    """One row of the table."""

    what: str
    count: int = 0
    size: int = 0
    seconds: float = 0.0
    round_trips: list[float] = field(default_factory=list)

    def row(self) -> str:
        speed = f"{self.size / self.seconds / 1e6:8.1f} MB/s" if self.size else ""
        trips = ""
        if len(self.round_trips) > 1:
            percentiles = quantiles(self.round_trips, n=100)
            trips = f"{percentiles[49] * 1e3:8.2f} {percentiles[98] * 1e3:8.2f}"
        size = f"{self.size / 1e6:8.2f} MB" if self.size else ""
        return f"{self.what:<32}{self.count:>6}{size:>13}{self.seconds:>9.2f}{speed:>15}  {trips}"


HEADER = f"{'what was sent':<32}{'count':>6}{'size':>13}{'seconds':>9}{'speed':>15}  " + (
    f"{'p50 ms':>8} {'p99 ms':>8}"
)


def sources() -> list[bytes]:
    """The files of the repository, without what was built or installed."""
    return [
        path.read_bytes()
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in SUFFIXES
        and path.is_file()
        and not any(
            part.startswith(".") or part in ("target", "dist")
            for part in path.relative_to(ROOT).parts
        )
    ]


@asynccontextmanager
async def server_process() -> AsyncIterator[tuple[str, str]]:
    """A server of its own process; yields its URL and the certificate to trust."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.demo_server", "--json", "--port", str(port)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        server = json.loads(line)
        yield server["url"], server["certfile"]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


@asynccontextmanager
async def connected(url: str, certfile: str) -> AsyncIterator[WebTransportSession]:
    async with WebTransportClient(config=ClientConfig(ca_certs=certfile)) as client:
        started = time.perf_counter()
        session = await client.connect(url=url)
        milliseconds = (time.perf_counter() - started) * 1e3
        print(f"session to {url} in {milliseconds:.1f} ms, certificate verified\n")
        yield session
        await session.close()


class Progress:
    """One line that is written over on a terminal; elsewhere one line a stage."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0

    def step(self, by: int = 1) -> None:
        self._done += by
        if sys.stdout.isatty():
            filled = 30 * self._done // self._total
            bar = "#" * filled + "." * (30 - filled)
            print(f"\r{self._what:<32}[{bar}] {100 * self._done // self._total:>3} %", end="")
        if self._done == self._total:
            print("" if sys.stdout.isatty() else f"{self._what:<32}done", flush=True)


async def in_groups(
    action: Callable[[bytes], Awaitable[None]], items: Iterable[bytes], progress: Progress
) -> None:
    """At most `AT_ONCE` at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: bytes) -> None:
        async with gate:
            await action(item)
            progress.step()

    async with asyncio.TaskGroup() as tasks:
        for item in items:
            tasks.create_task(one(item))


def check(data: bytes, expected: bytes) -> None:
    if hashlib.sha256(data).digest() != expected:
        raise SystemExit("a hash differs: what came back is not what was sent")


async def send_bidirectional(session: WebTransportSession, files: list[bytes]) -> Measurement:
    """Each file on a stream of its own, and back on the same stream."""
    row = Measurement("files, bidirectional streams", len(files), sum(map(len, files)))

    async def echo(data: bytes) -> None:
        started = time.perf_counter()
        stream = await session.create_bidirectional_stream()
        _, received = await asyncio.gather(stream.write_all(data=data), stream.read_all())
        check(received, hashlib.sha256(data).digest())
        row.round_trips.append(time.perf_counter() - started)

    started = time.perf_counter()
    await in_groups(echo, files, Progress(row.what, len(files)))
    row.seconds = time.perf_counter() - started
    return row


async def send_unidirectional(session: WebTransportSession, files: list[bytes]) -> Measurement:
    """Each file on a stream of its own; the server answers with its hash on one that it opens."""
    row = Measurement("files, unidirectional streams", len(files), sum(map(len, files)))
    expected = sorted(hashlib.sha256(data).digest() for data in files)

    async def send(data: bytes) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=data)

    async def receive() -> list[bytes]:
        digests: list[bytes] = []
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportReceiveStream)
            digests.append(await stream.read_all())
            if len(digests) == len(files):
                break
        return digests

    started = time.perf_counter()
    answers = asyncio.create_task(receive())
    await in_groups(send, files, Progress(row.what, len(files)))
    if sorted(await answers) != expected:
        raise SystemExit("a hash differs: the server did not receive what was sent")
    row.seconds = time.perf_counter() - started
    return row


async def send_bulk(session: WebTransportSession, files: list[bytes]) -> Measurement:
    """One long stream, and back."""
    joined = b"".join(files)
    data = (joined * (BULK // len(joined) + 1))[:BULK]
    row = Measurement("one stream, there and back", 1, len(data))
    progress = Progress(row.what, len(data))
    stream = await session.create_bidirectional_stream()

    async def receive() -> None:
        received = hashlib.sha256()
        while chunk := await stream.read(size=65536):
            received.update(chunk)
            progress.step(len(chunk))
        if received.digest() != hashlib.sha256(data).digest():
            raise SystemExit("a hash differs: what came back is not what was sent")

    started = time.perf_counter()
    await asyncio.gather(stream.write_all(data=data, chunk_size=65536), receive())
    row.seconds = time.perf_counter() - started
    return row


async def ping_stream(session: WebTransportSession) -> Measurement:
    row = Measurement("32 bytes on a stream", ROUND_TRIPS)
    progress = Progress(row.what, ROUND_TRIPS)
    stream = await session.create_bidirectional_stream()
    for i in range(ROUND_TRIPS):
        started = time.perf_counter()
        await stream.write(data=i.to_bytes(32, "big"))
        assert await stream.readexactly(n=32) == i.to_bytes(32, "big")
        row.round_trips.append(time.perf_counter() - started)
        progress.step()
    await stream.close()
    row.seconds = sum(row.round_trips)
    return row


async def ping_datagrams(session: WebTransportSession) -> Measurement:
    row = Measurement("32 bytes in a datagram", ROUND_TRIPS)
    progress = Progress(row.what, ROUND_TRIPS)
    transport = await session.create_datagram_transport()
    for i in range(ROUND_TRIPS):
        started = time.perf_counter()
        await transport.send(data=i.to_bytes(32, "big"))
        assert await transport.receive(timeout=5) == i.to_bytes(32, "big")
        row.round_trips.append(time.perf_counter() - started)
        progress.step()
    row.seconds = sum(row.round_trips)
    return row


async def main() -> None:
    files = sources()
    async with server_process() as (url, certfile), connected(url, certfile) as session:
        rows = [
            await send_bidirectional(session, files),
            await send_unidirectional(session, files),
            await send_bulk(session, files),
            await ping_stream(session),
            await ping_datagrams(session),
        ]
    print(f"\n{HEADER}\n{'-' * len(HEADER)}")
    for row in rows:
        print(row.row().rstrip())
    print("\nEvery hash matched. p50 and p99 are round trips, a whole file's for files.")


if __name__ == "__main__":
    asyncio.run(main())
