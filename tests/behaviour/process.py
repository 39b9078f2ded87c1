"""A server in a process of its own: to be killed, or to have its memory watched.

Run as a module it prints its port and serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import mmap
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import StreamError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port

ROOT = Path(__file__).parents[2]
SLOW_RATE = 1 << 20
"""Bytes per second that `/slow` reads."""


async def silent(session: WebTransportSession) -> None:
    """Take nothing."""
    await session.wait_closed()


async def read_slowly(stream: WebTransportReceiveStream, until: float = inf) -> int:
    """Read SLOW_RATE bytes a second up to this time of the loop; how many that were."""
    loop = asyncio.get_running_loop()
    started = due = loop.time()
    while due < until and (data := await stream.read(size=SLOW_RATE // 16)):
        due += len(data) / SLOW_RATE
        await asyncio.sleep(due - loop.time())
    return round((due - started) * SLOW_RATE)


async def closes(session: WebTransportSession) -> None:
    """End it at once."""
    await session.close(code=7, reason="x" * 1000, close_connection=False)
    if session.connection is not None:
        await session.connection.wait_closed()


async def slow(session: WebTransportSession) -> None:
    """Read one stream slowly."""
    await read_slowly(await session.accept_unidirectional_stream())


async def pour(session: WebTransportSession) -> None:
    """Write a gibibyte, which takes no memory: nobody has written to its pages."""
    stream = await session.create_unidirectional_stream()
    with suppress(StreamError):
        await stream.write(data=memoryview(mmap.mmap(-1, 1 << 30)))


async def echo(session: WebTransportSession) -> None:
    async def answer(stream: WebTransportStream) -> None:
        with suppress(StreamError):
            await stream.write_all(data=await stream.read_all())

    async def count(transport: Any) -> None:
        while True:
            await transport.receive()

    transport = await session.create_datagram_transport()
    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(count(transport))
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                tasks.create_task(answer(stream))
            elif isinstance(stream, WebTransportReceiveStream):
                with suppress(StreamError):
                    await stream.read_all()
        counting.cancel()


def tables(app: ServerApp, asking: WebTransportSession) -> dict[str, int]:
    """How much there is of everything that grows with use, the asking session left out."""
    gc.collect()
    connections = [each for each in gc.get_objects() if isinstance(each, WebTransportConnection)]
    return {
        "tasks": len(asyncio.all_tasks()),
        "connections": len(app.server.connection_manager),
        "sessions": len(app.server.session_manager),
        "session objects": sum(
            isinstance(each, WebTransportSession) and each is not asking
            for each in gc.get_objects()
        ),
        "stream objects": sum(
            isinstance(each, WebTransportReceiveStream) for each in gc.get_objects()
        ),
        # What the engines themselves keep, which no object of the API may stand for.
        "protocol streams": sum(
            connection._engine_stats().extra.get("streams", 0)
            for connection in connections
            if connection is not asking.connection
        ),
        "aioquic streams": sum(type(each).__name__ == "QuicStream" for each in gc.get_objects()),
    }


async def serve(engine: str, certfile: str, keyfile: str, options: dict[str, Any]) -> None:
    app = ServerApp(
        config=ServerConfig(
            engine=engine,
            certfile=certfile,
            keyfile=keyfile,
            bind_host="127.0.0.1",
            bind_port=free_port(),
            access_log=False,
            **options,
        )
    )

    async def report(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=json.dumps(tables(app, session)))
        await session.wait_closed()

    for handler in (silent, closes, slow, pour, echo, report):
        app.route(path=f"/{handler.__name__}")(handler)
    async with app:
        await app.server.listen()
        address = app.server.local_address
        assert address is not None
        print(address[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class Process:
    """A running server process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"https://127.0.0.1:{port}"

    def resident(self) -> int:
        """Bytes of memory it uses now."""
        return resident(self.process.pid)


def resident(pid: int) -> int:
    """Bytes of memory a process uses now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")


@asynccontextmanager
async def server_process(
    engine: str, certificate: Certificate, **options: Any
) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.behaviour.process", engine, certificate.certfile, certificate.keyfile),
        json.dumps(options),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        assert line, "the server did not start"
        yield Process(process, int(line))
    finally:
        if process.returncode is None:
            process.stdin.close()
            async with asyncio.timeout(20):
                await process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("engine", "certfile", "keyfile", "options"):
        parser.add_argument(name)
    given = parser.parse_args()
    asyncio.run(serve(given.engine, given.certfile, given.keyfile, json.loads(given.options)))


if __name__ == "__main__":
    main()
