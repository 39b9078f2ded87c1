"""A client in a process of its own, to be killed: it says one byte and takes nothing.

python -m tests.behaviour.client_process ENGINE CERTFILE URL
"""

from __future__ import annotations

import asyncio
import sys

from pywebtransport import ClientConfig, WebTransportClient


async def main(engine: str, certfile: str, url: str) -> None:
    config = ClientConfig(engine=engine, ca_certs=certfile, keep_alive=False)
    async with WebTransportClient(config=config) as client:
        session = await client.connect(url=url)
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"!")
        await session.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
