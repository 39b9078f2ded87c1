"""Lines on a bidirectional stream, then its end."""

from __future__ import annotations

import asyncio

from examples.api.local import serving
from pywebtransport import WebTransportClient
from pywebtransport.session import WebTransportSession


async def number_lines(session: WebTransportSession) -> None:
    stream = await session.accept_bidirectional_stream()
    count = 0
    while line := await stream.readline():
        count += 1
        await stream.write(data=b"%d: %s" % (count, line))
    await stream.close()
    await session.wait_closed()


async def main() -> None:
    async with (
        serving(number_lines) as (url, config),
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url=url)
        async with await session.create_bidirectional_stream() as stream:
            await stream.write(data="first\nsecond\n")
            print(await stream.readuntil(separator=b"\n"))
            await stream.write(data=b"third\n", end_stream=True)
            print(await stream.read_all())
        print(stream.state)


if __name__ == "__main__":
    asyncio.run(main())
