"""``python server.py API PORT CERT KEY``: the bench server; stops when it is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import struct
import sys
from typing import Any

import adapters

CHUNK = b"x" * 65_536
MESSAGE = b"m" * 64

subscribers: list[Any] = []


async def fan_out(rounds: int) -> None:
    for _ in range(rounds):
        for stream in subscribers:
            await stream.write(MESSAGE)
    for stream in subscribers:
        await stream.write(b"", fin=True)
    subscribers.clear()


async def serve_stream(stream: Any, counts: dict[str, int]) -> None:
    head = await stream.readexactly(9)
    operation, argument = head[:1], struct.unpack("!Q", head[1:])[0]
    if operation == b"E":  # echo
        await stream.write(await stream.read_all(), fin=True)
    elif operation == b"U":  # upload: count the bytes
        size = 0
        while data := await stream.read(65_536):
            size += len(data)
        await stream.write(struct.pack("!Q", size), fin=True)
    elif operation == b"D":  # download of `argument` bytes
        while argument:
            size = min(argument, len(CHUNK))
            argument -= size
            await stream.write(CHUNK if size == len(CHUNK) else CHUNK[:size], fin=argument == 0)
    elif operation == b"C":  # how many datagrams arrived
        await stream.write(struct.pack("!Q", counts["datagrams"]), fin=True)
    elif operation == b"S":  # subscribe to the fan-out
        subscribers.append(stream)
        await stream.write(b"+")
    elif operation == b"F":  # fan out to all subscribers, `argument` times
        await fan_out(argument)
        await stream.write(b"+", fin=True)


async def handler(session: Any) -> None:
    counts = {"datagrams": 0}
    tasks: set[asyncio.Task[None]] = set()

    def done(task: asyncio.Task[None]) -> None:
        # A session that ends takes its tasks along; what went wrong shows at the client.
        tasks.discard(task)
        _ = task.cancelled() or task.exception()

    def spawn(coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(done)

    async def datagrams() -> None:
        while True:
            data = await session.receive_datagram()
            if data[:1] == b"e":
                await session.send_datagram(data)
            else:
                counts["datagrams"] += 1

    async def datagram_batches() -> None:
        while True:
            counts["datagrams"] += len(await session.receive_datagrams())

    async def streams() -> None:
        async for stream in session.incoming():
            spawn(serve_stream(stream, counts))

    spawn(datagram_batches() if "BATCH" in os.environ else datagrams())
    spawn(streams())
    try:
        await session.wait_closed()
    finally:
        for task in list(tasks):
            task.cancel()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    api, port, cert, key = sys.argv[1:5]
    if os.environ.get("UVLOOP") == "1":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(adapters.load(api).serve(int(port), cert, key, handler))
