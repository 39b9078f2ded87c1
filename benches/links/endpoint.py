"""One end of a link: ``python endpoint.py API server PORT CERT KEY`` and
``python endpoint.py API client PORT WORKLOAD COUNT``.

A client prints one JSON object. Workloads: ``upload``, over COUNT streams at once for a fixed time;
``requests``, COUNT of 64 bytes one after the other.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "peers"))
import adapters

CHUNK = b"x" * 65_536
WARM_UP, MEASURED = 1.5, 3.0
"""Seconds of an upload that are not counted, and that are."""

now = time.perf_counter


async def count(stream: Any) -> None:
    """How many bytes of an endless upload came in the time that counts."""
    begin = now() + WARM_UP
    end, size = begin + MEASURED, 0
    while (moment := now()) < end and (data := await stream.read(65_536)):
        size += len(data) if moment >= begin else 0
    await stream.write(struct.pack("!Q", size), fin=True)


async def answer(stream: Any) -> None:
    if await stream.readexactly(1) == b"U":
        await count(stream)
    else:
        await stream.write(await stream.read_all(), fin=True)


async def serve(session: Any) -> None:
    tasks: set[asyncio.Task[None]] = set()
    async for stream in session.incoming():
        task = asyncio.create_task(answer(stream))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def upload(session: Any) -> int:
    stream = await session.open_bidi()
    await stream.write(b"U")

    async def feed() -> None:
        while True:
            await stream.write(CHUNK)

    feeding = asyncio.create_task(feed())
    try:
        return int(struct.unpack("!Q", await stream.readexactly(8))[0])
    finally:
        feeding.cancel()


async def request(session: Any) -> float:
    begin = now()
    stream = await session.open_bidi()
    await stream.write(b"E" + b"x" * 64, fin=True)
    assert len(await stream.read_all()) == 64
    return (now() - begin) * 1e3


async def measure(session: Any, workload: str, number: int) -> dict[str, Any]:
    if workload == "upload":
        sizes = await asyncio.gather(*(upload(session) for _ in range(number)))
        return {"MB_s": sum(sizes) / MEASURED / 1e6}
    await request(session)
    times = sorted([await request(session) for _ in range(number)])
    return {"p50_ms": times[number // 2], "p99_ms": times[number * 99 // 100], "times_ms": times}


async def run_client(api: Any, port: int, workload: str, number: int) -> None:
    async with api.client() as client:
        result = await measure(await client.connect(port), workload, number)
        print(json.dumps(result), flush=True)
        # The link may have megabytes to carry that nobody waits for.
        os._exit(0)


def main() -> None:
    logging.disable(logging.CRITICAL)
    api, role, port, *rest = sys.argv[1:]
    if os.environ.get("UVLOOP") == "1":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    adapter = adapters.load(api)
    adapter.limits["congestion_control_algorithm"] = os.environ["CONGESTION"]
    if role == "server":
        asyncio.run(adapter.serve(int(port), *rest, serve))
        return
    asyncio.run(run_client(adapter, int(port), rest[0], int(rest[1])))


if __name__ == "__main__":
    main()
