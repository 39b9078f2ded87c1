"""Calls in both directions on one stream."""

from __future__ import annotations

import asyncio

from examples.api.local import serving
from pywebtransport import WebTransportClient
from pywebtransport.rpc import MethodNotFoundError, RpcError, RpcManager
from pywebtransport.session import WebTransportSession


async def serve_rpc(session: WebTransportSession) -> None:
    stream = await session.accept_bidirectional_stream()
    async with RpcManager(stream=stream, session_id=session.session_id) as rpc:

        async def add(a: int, b: int) -> int:
            return a + b

        rpc.register(func=add)
        await session.wait_closed()


async def main() -> None:
    async with serving(serve_rpc) as (url, config), WebTransportClient(config=config) as client:
        session = await client.connect(url=url)
        stream = await session.create_bidirectional_stream()
        async with RpcManager(stream=stream, session_id=session.session_id) as rpc:
            print(await rpc.call("add", 1, 2))
            try:
                await rpc.call("subtract", 1, 2)
            except RpcError as error:
                print(error.error_code == MethodNotFoundError("").error_code)


if __name__ == "__main__":
    asyncio.run(main())
