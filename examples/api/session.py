"""A session from both ends: streams, a datagram, a close with code and reason."""

from __future__ import annotations

import asyncio

from examples.api.local import serving
from pywebtransport import WebTransportClient
from pywebtransport.session import WebTransportSession


async def greet(session: WebTransportSession) -> None:
    stream = await session.create_unidirectional_stream()
    await stream.write_all(data=f"welcome to {session.path}".encode())
    await session.wait_closed()
    print("server: the session is", session.state)


async def main() -> None:
    async with (
        serving(greet, path="/hall") as (url, config),
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url=url)
        async for stream in session.incoming_unidirectional_streams():
            print("client:", await stream.read_all())
            break
        await session.close(code=7, reason="seen enough")


if __name__ == "__main__":
    asyncio.run(main())
