"""``python -m benches.growth.client PORT SERVER_PID CASE SIZES``: one JSON list, an entry a size.

An entry has the CPU time of each item since the size before (client and server, µs), the CPU time
of a request of 64 bytes on one of those that are there (both, µs), and the memory of both (KB).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

from benches.growth.server import HOURS, MANY
from benches.peers.process import cpu_ns, resident_kb
from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession

PROBES = 200


async def request(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream()
    await stream.write(b"x" * 64, end_stream=True)
    assert len(await stream.read_all()) == 64


async def sessions(
    client: WebTransportClient, port: int, there: list[WebTransportSession]
) -> AsyncIterator[None]:
    """On the connection of the first one."""
    connection = there[0].connection
    while True:
        there.append(await connection.create_session(authority=f"127.0.0.1:{port}", path="/grow"))
        yield


async def connections(
    client: WebTransportClient, port: int, there: list[WebTransportSession]
) -> AsyncIterator[None]:
    while True:
        there.append(await client.connect(f"https://127.0.0.1:{port}/grow"))
        yield


async def streams(
    client: WebTransportClient, port: int, there: list[WebTransportSession]
) -> AsyncIterator[None]:
    """One after another, on one session."""
    while True:
        await request(there[0])
        yield


CASES = {"sessions": sessions, "connections": connections, "streams": streams}


async def main(port: int, server: int, case: str, sizes: list[int]) -> list[dict[str, Any]]:
    config = ClientConfig(
        verify_mode=ssl.CERT_NONE,
        connection_idle_timeout=HOURS,
        keep_alive=False,
        max_connections=MANY,
        quic_max_concurrent_bidi_streams=MANY,
    )
    pids = (server, os.getpid())
    entries = []
    async with WebTransportClient(config=config) as client:
        there = [await client.connect(f"https://127.0.0.1:{port}/grow")]
        for _ in range(PROBES):  # what happens once is no item's cost
            await request(there[0])
        items = CASES[case](client, port, there)
        memory = [resident_kb(pid) for pid in pids]
        done = 0
        for size in sizes:
            spent = [-cpu_ns(pid) for pid in pids]
            for _ in range(size - done):
                await anext(items)
            spent = [before + cpu_ns(pid) for before, pid in zip(spent, pids, strict=True)]
            probes = -sum(map(cpu_ns, pids))
            for _ in range(PROBES):
                await request(random.choice(there))
            probes += sum(map(cpu_ns, pids))
            entries.append(
                {
                    "size": size,
                    "server_us": spent[0] / (size - done) / 1e3,
                    "client_us": spent[1] / (size - done) / 1e3,
                    "request_us": probes / PROBES / 1e3,
                    "server_KB": resident_kb(server) - memory[0],
                    "client_KB": resident_kb(os.getpid()) - memory[1],
                }
            )
            done = size
        print(json.dumps(entries), flush=True)
        os._exit(0)  # closing them all is another measurement
    return entries


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])))
