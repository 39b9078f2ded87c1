"""``python -m benches.workers.client PORT WORKLOAD SESSIONS``: one of several loads for a server.

It says that it is ready, waits for a number of seconds on its standard input, loads the server for
so long, and says what it got done: requests, or MB.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.session import WebTransportSession

REQUEST = b"x" * 64
UPLOAD = bytes(1 << 20)
AT_ONCE = {"echo": 4, "work": 4, "count": 1}
"""Under way in a session at one time."""


async def request(session: WebTransportSession) -> float:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data=REQUEST)
    await stream.read_all()
    return 1


async def upload(session: WebTransportSession) -> float:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data=UPLOAD)
    await stream.read_all()
    return len(UPLOAD) / 1e6


WORKLOADS = {"echo": request, "work": request, "count": upload}


async def main(port: str, workload: str, sessions: int) -> None:
    config = ClientConfig(verify_mode=ssl.CERT_NONE)
    one = WORKLOADS[workload]
    done = 0.0
    async with WebTransportClient(config=config) as client:
        url = f"https://127.0.0.1:{port}/{workload}"
        opened = [await client.connect(url=url) for _ in range(sessions)]
        print("ready", flush=True)
        seconds = float(await asyncio.to_thread(sys.stdin.readline))
        end = time.monotonic() + seconds

        async def load(session: WebTransportSession) -> None:
            nonlocal done
            while time.monotonic() < end:
                amount = await one(session)
                done += amount

        await asyncio.gather(*(load(session) for session in opened * AT_ONCE[workload]))
        print(done, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
