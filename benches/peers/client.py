"""``python client.py API PORT SERVER_PID WORKLOAD...``: prints one JSON object of figures."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import adapters

MB = int(os.environ.get("MB", "256"))
IDLE = int(os.environ.get("IDLE", "500"))
FAN_CLIENTS, FAN_ROUNDS = 100, 2_000
WORKLOAD_TIMEOUT = 120.0

now = time.perf_counter
Result = dict[str, float]


def resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


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


async def run_handshake(api: Any, port: int, pid: int) -> Result:
    samples = []
    start = now()
    async with api.client() as client:
        for _ in range(200):
            begin = now()
            session = await client.connect(port)
            samples.append((now() - begin) * 1e3)
            await session.close()
        elapsed = now() - start
    return {"handshake_p50_ms": percentile(samples, 0.5), "connections_s": 200 / elapsed}


async def run_rr(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        for _ in range(100):
            await echo(session, 64)
        samples = []
        for _ in range(1000):
            begin = now()
            await echo(session, 64)
            samples.append((now() - begin) * 1e3)
        await session.close()
    return {"rr_p50_ms": percentile(samples, 0.5), "rr_p99_ms": percentile(samples, 0.99)}


async def run_rr32(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        await echo(session, 64)
        count = int(os.environ.get("RR32", "20000"))
        turns = iter(range(count))

        async def worker() -> None:
            for _ in turns:
                await echo(session, 64)

        start = now()
        await asyncio.gather(*(worker() for _ in range(32)))
        elapsed = now() - start
        await session.close()
    return {"rr32_s": count / elapsed}


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
        await asyncio.gather(*(upload(session, 65_536) for _ in range(1000)))
        elapsed = now() - start
        await session.close()
    return {"streams1000_MBs": 1000 * 65_536 / (1 << 20) / elapsed}


async def run_datagram_rtt(api: Any, port: int, pid: int) -> Result:
    async with api.client() as client:
        session = await client.connect(port)
        message = b"e" + b"x" * 63
        samples = []
        for _ in range(1100):
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
        while now() - start < 4:
            for _ in range(32):
                try:
                    await session.send_datagram(message)
                    sent += 1
                except Exception:  # the library's own "queue full"
                    refused += 1
            await asyncio.sleep(0)
        elapsed = now() - start
        counts = [await datagram_count(session)]
        while len(counts) < 2 or counts[-1] != counts[-2]:  # until nothing more arrives
            await asyncio.sleep(0.2)
            counts.append(await datagram_count(session))
        await session.close()
    delivered = counts[-1]
    return {
        "datagrams_sent_s": sent / elapsed,
        "datagrams_refused_s": refused / elapsed,
        "datagrams_s": delivered / elapsed,
        "datagram_loss": max(0.0, 1 - delivered / (sent + 1)),
    }


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
