"""``python worker.py API PORT``: does what each line on its input asks for, ``WORKLOAD COUNT``.

One session for the whole run, so that nothing but the workload is between two readings of a clock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import adapters
import client


async def requests(api: Any, port: int, session: Any, count: int) -> None:
    for _ in range(count):
        await client.echo(session, 64)


async def requests_at_once(api: Any, port: int, session: Any, count: int) -> None:
    turns = iter(range(count))

    async def worker() -> None:
        for _ in turns:
            await client.echo(session, 64)

    await asyncio.gather(*(worker() for _ in range(32)))


async def upload(api: Any, port: int, session: Any, count: int) -> None:
    await client.upload(session, count << 20)


async def datagrams(api: Any, port: int, session: Any, count: int) -> None:
    """Echoes, since only these are as many on both sides."""
    for _ in range(count):
        await session.send_datagram(b"e" + b"x" * 63)
        await asyncio.wait_for(session.receive_datagram(), 5)


WORKLOADS: dict[str, Callable[[Any, int, Any, int], Awaitable[None]]] = {
    "requests": requests,
    "requests at once": requests_at_once,
    "upload": upload,
    "datagrams": datagrams,
}


async def main(name: str, port: int) -> None:
    api = adapters.load(name)
    loop = asyncio.get_running_loop()
    async with api.client() as opener:
        session = await opener.connect(port)
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            workload, _, count = line.strip().rpartition(" ")
            await WORKLOADS[workload](api, port, session, int(count))
            print("done", flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if os.environ.get("UVLOOP") == "1":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
