"""Datagrams: as bytes, as JSON, and when none is there."""

from __future__ import annotations

import asyncio

from examples.api.local import serving
from pywebtransport import WebTransportClient
from pywebtransport.exceptions import TimeoutError
from pywebtransport.session import WebTransportSession


async def echo_datagrams(session: WebTransportSession) -> None:
    transport = await session.create_datagram_transport()
    while not session.is_closed:
        await transport.send(data=await transport.receive())


async def main() -> None:
    async with (
        serving(echo_datagrams) as (url, config),
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(url=url)
        transport = await session.create_datagram_transport()
        print(f"up to {transport.max_datagram_size > 1000 and 'more than 1000'} bytes")
        await transport.send(data=b"ping")
        print(await transport.receive(timeout=5))
        await transport.send_json(data={"x": 1})
        print(await transport.receive_json(timeout=5))
        try:
            await transport.receive(timeout=0.05)
        except TimeoutError as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
