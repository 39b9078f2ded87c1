"""``python client.py API PORT SERVER_PID WORKLOAD...``: prints one JSON object of figures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import adapters
from process import resident_kb

now = time.perf_counter
Result = dict[str, float]


def setting(name: str, default: int) -> int:
    """A size; run.py sets smaller ones in the environment for slow contenders."""
    return int(os.environ.get(name, default))


MB = setting("MB", 256)
IDLE = setting("IDLE", 500)
CONNECTIONS = setting("CONNECTIONS", 200)
REQUESTS = setting("REQUESTS", 1_000)
REQUESTS_AT_ONCE = setting("RR32", 20_000)
UPLOADS = setting("UPLOADS", 1_000)
DATAGRAM_SECONDS = setting("DATAGRAM_MS", 4_000) / 1_000
DATAGRAM_BATCH = 128
FAN_CLIENTS, FAN_ROUNDS = 100, setting("FAN", 2_000)
WORKLOAD_TIMEOUT = 120.0


def percentile(samples: list[float], share: float) -> float:
    return sorted(samples)[int(len(samples) * share)]


async def operation(session: Any, op: bytes, argument: int = 0, fin: bool = True) -> Any:
    stream = await session.open_bidi()
    await stream.write(op + struct.pack("!Q", argument), fin=fin)
    return stream


async def echo(session: Any, size: int) -> None:
    stream = await session.open_bidi()
    await stream.write(b"E" + bytes(8) + b"x" * size, fin=True)
    answer = await stream.read_all()
    assert len(answer) == size, (len(answer), size)


async def round_trips(session: Any) -> list[float]:
    """Milliseconds of a thousand requests of 64 bytes, or of eight seconds of them."""
    samples: list[float] = []
    start = now()
    while len(samples) < REQUESTS and now() - start < 8:
        begin = now()
        await echo(session, 64)
        samples.append((now() - begin) * 1e3)
    return samples


async def upload(session: Any, total: int, chunk: int = 65_536) -> None:
    stream = await operation(session, b"U", fin=False)
    data = b"x" * chunk
    left = total
    while left:
        size = min(left, chunk)
        left -= size
        await stream.write(data if size == chunk else data[:size], fin=left == 0)
    (received,) = struct.unpack("!Q", await stream.readexactly(8))
    assert received == total, (received, total)


async def download(session: Any, total: int) -> None:
    stream = await operation(session, b"D", total)
    size = 0
    while data := await stream.read(65_536):
        size += len(data)
    assert size == total, (size, total)


async def datagram_count(session: Any) -> int:
    stream = await operation(session, b"C")
    return struct.unpack("!Q", await stream.readexactly(8))[0]


async def all_datagrams(session: Any) -> int:
    """How many arrived, when no more do."""
    counts = [await datagram_count(session)]
    while len(counts) < 2 or counts[-1] != counts[-2]:
        await asyncio.sleep(0.2)
        counts.append(await datagram_count(session))
    return counts[-1]


async def run_handshake(api: Any, port: int, pid: int) -> Result:
    samples = []
    start = now()
    async with api.client() as client:
        for _ in range(CONNECTIONS):
            begin = now()
            session = await client.connect(port)
            samples.append((now() - begin) * 1e3)
            await session.close()
        elapsed = now() - start
    return {"handshake_p50_ms": percentile(samples, 0.5), "connections_s": CONNECTIONS / elapsed}


async def run_rr(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        for _ in range(100):
            await echo(session, 64)
        samples = await round_trips(session)
        await session.close()
    return {"rr_p50_ms": percentile(samples, 0.5), "rr_p99_ms": percentile(samples, 0.99)}


async def run_rr32(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        await echo(session, 64)
        turns = iter(range(REQUESTS_AT_ONCE))

        async def worker() -> None:
            for _ in turns:
                await echo(session, 64)

        start = now()
        await asyncio.gather(*(worker() for _ in range(32)))
        elapsed = now() - start
        await session.close()
    return {"rr32_s": REQUESTS_AT_ONCE / elapsed}


async def run_upload(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        await upload(session, 1 << 20)
        start = now()
        await upload(session, MB << 20)
        elapsed = now() - start
        await session.close()
    return {"upload_MBs": MB / elapsed}


async def run_download(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        await download(session, 1 << 20)
        start = now()
        await download(session, MB << 20)
        elapsed = now() - start
        await session.close()
    return {"download_MBs": MB / elapsed}


async def run_streams1000(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        await echo(session, 64)
        start = now()
        await asyncio.gather(*(upload(session, 65_536) for _ in range(UPLOADS)))
        elapsed = now() - start
        await session.close()
    return {"streams1000_MBs": UPLOADS * 65_536 / (1 << 20) / elapsed}


async def run_datagram_rtt(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        message = b"e" + b"x" * 63
        samples = []
        for _ in range(100 + REQUESTS):
            begin = now()
            await session.send_datagram(message)
            await asyncio.wait_for(session.receive_datagram(), 5)
            samples.append((now() - begin) * 1e3)
        await session.close()
    samples = samples[100:]
    return {
        "datagram_p50_ms": percentile(samples, 0.5),
        "datagram_p99_ms": percentile(samples, 0.99),
    }


async def run_datagram_rate(api: Any, port: int, pid: int) -> Result:
    """Delivered datagrams per second over a fixed time, the sender yielding to its loop."""
    async with api.client() as client:
        session = await client.connect(port)
        message = b"s" + b"x" * 63
        await session.send_datagram(message)
        await echo(session, 64)
        start = now()
        sent = refused = 0
        while now() - start < DATAGRAM_SECONDS:
            for _ in range(32):
                try:
                    await session.send_datagram(message)
                    sent += 1
                except Exception:  # the library's own "queue full"
                    refused += 1
            await asyncio.sleep(0)
        elapsed = now() - start
        delivered = await all_datagrams(session)
        await session.close()
    return {
        "datagrams_sent_s": sent / elapsed,
        "datagrams_refused_s": refused / elapsed,
        "datagrams_s": delivered / elapsed,
        "datagram_loss": max(0.0, 1 - delivered / (sent + 1)),
    }


async def run_datagram_batch(api: Any, port: int, pid: int) -> Result:
    """The same, with one call for many datagrams at either end."""
    async with api.client() as client:
        session = await client.connect(port)
        batch = [b"s" + b"x" * 63] * DATAGRAM_BATCH
        await session.send_datagrams(batch[:1])
        await echo(session, 64)
        start = now()
        while now() - start < DATAGRAM_SECONDS:
            await session.send_datagrams(batch)
            await asyncio.sleep(0)
        elapsed = now() - start
        delivered = await all_datagrams(session)
        await session.close()
    return {"datagram_batch_s": delivered / elapsed}


async def beside(session: Any, load: Callable[[Any, asyncio.Event], Awaitable[None]]) -> Result:
    """Requests of 64 bytes while ``load`` runs on the same session, until it is told to stop."""
    await echo(session, 64)
    stop = asyncio.Event()
    task = asyncio.ensure_future(load(session, stop))
    await asyncio.sleep(0.3)  # to its full rate
    samples = await round_trips(session)
    stop.set()
    await task
    return {"p50_ms": percentile(samples, 0.5), "p99_ms": percentile(samples, 0.99)}


async def upload_until(session: Any, stop: asyncio.Event) -> None:
    stream = await operation(session, b"U", fin=False)
    data = b"x" * 65_536
    while not stop.is_set():
        await stream.write(data)
    await stream.write(b"x", fin=True)
    await stream.readexactly(8)


async def datagrams_until(session: Any, stop: asyncio.Event) -> None:
    message = b"s" + b"x" * 63
    while not stop.is_set():
        for _ in range(32):
            with contextlib.suppress(Exception):  # the library's own "queue full"
                await session.send_datagram(message)
        await asyncio.sleep(0)


async def run_rr_beside_upload(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        figures = await beside(session, upload_until)
        await session.close()
    return {f"rr_upload_{name}": figure for name, figure in figures.items()}


async def run_rr_beside_datagrams(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        figures = await beside(session, datagrams_until)
        await session.close()
    return {f"rr_datagrams_{name}": figure for name, figure in figures.items()}


async def run_fan_out(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        sessions = [await client.connect(port) for _ in range(FAN_CLIENTS)]
        streams = []
        for session in sessions:
            stream = await operation(session, b"S", fin=False)
            assert await stream.readexactly(1) == b"+"
            streams.append(stream)

        async def receive(stream: Any) -> None:
            size = 0
            while data := await stream.read(65_536):
                size += len(data)
            assert size == 64 * FAN_ROUNDS, size

        start = now()
        await operation(sessions[0], b"F", FAN_ROUNDS)
        await asyncio.gather(*(receive(stream) for stream in streams))
        elapsed = now() - start
        for session in sessions:
            await session.close()
    return {"fan_out_s": FAN_CLIENTS * FAN_ROUNDS / elapsed}


async def run_idle(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        sessions = [await client.connect(port) for _ in range(20)]
        before = resident_kb(pid)
        sessions += [await client.connect(port) for _ in range(IDLE)]
        await asyncio.sleep(1)  # let handshake buffers go
        after = resident_kb(pid)
        for session in sessions:
            await session.close()
    return {"idle_KB": (after - before) / IDLE}


WORKLOADS: dict[str, Callable[[Any, int, int], Awaitable[Result]]] = {
    "handshake": run_handshake,
    "rr": run_rr,
    "rr32": run_rr32,
    "upload": run_upload,
    "download": run_download,
    "streams1000": run_streams1000,
    "datagram_rtt": run_datagram_rtt,
    "datagram_rate": run_datagram_rate,
    "datagram_batch": run_datagram_batch,
    "rr_beside_upload": run_rr_beside_upload,
    "rr_beside_datagrams": run_rr_beside_datagrams,
    "fan_out": run_fan_out,
    "idle": run_idle,
}


async def main(name: str, port: int, pid: int, wanted: list[str]) -> None:
    api = adapters.load(name)
    result: dict[str, Any] = {"version": api.version}
    for workload in wanted:
        try:
            result |= await asyncio.wait_for(WORKLOADS[workload](api, port, pid), WORKLOAD_TIMEOUT)
        except Exception as error:
            result[workload + "_failed"] = f"{type(error).__name__}: {error}"[:200]
    print(json.dumps(result))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if os.environ.get("UVLOOP") == "1":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
