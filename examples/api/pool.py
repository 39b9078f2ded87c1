"""Sessions that are made once and used many times."""

from __future__ import annotations

import asyncio

from examples.api.local import echo, serving
from pywebtransport import WebTransportClient
from pywebtransport.pool import SessionPool


async def main() -> None:
    async with (
        serving(echo) as (url, config),
        WebTransportClient(config=config) as client,
        SessionPool(client=client, url=url, max_size=2) as pool,
    ):

        async def ask(number: int) -> bytes:
            async with pool.get() as session:
                stream = await session.create_bidirectional_stream()
                await stream.write_all(data=b"%d" % number)
                return await stream.read_all()

        print(await asyncio.gather(*(ask(number) for number in range(6))))
        diagnostics = await client.diagnostics()
        print("connections:", diagnostics.stats.connections_attempted)


if __name__ == "__main__":
    asyncio.run(main())
