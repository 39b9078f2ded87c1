"""Connect, use the session, look at the statistics."""

from __future__ import annotations

import asyncio

from examples.api.local import echo, serving
from pywebtransport.client import WebTransportClient


async def main() -> None:
    async with (
        serving(echo, path="/echo") as (url, config),
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url=url, headers={"x-token": "secret"})
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"hello")
        print(await stream.read_all())
        await session.close(code=0, reason="done")
        diagnostics = await client.diagnostics()
        print(f"connections made: {diagnostics.stats.connections_successful}")


if __name__ == "__main__":
    asyncio.run(main())
