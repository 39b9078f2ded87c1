"""An application of all three scopes, and a session of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from examples.api.local import free_port
from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerConfig, WebTransportClient
from pywebtransport.asgi import AsgiServer

Message = MutableMapping[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})
    elif scope["type"] == "webtransport":
        await receive()
        await send({"type": "webtransport.accept"})
        while (message := await receive())["type"] != "webtransport.disconnect":
            if message["type"] == "webtransport.datagram.receive":
                answer = scope["path"].encode() + message["data"]
                await send({"type": "webtransport.datagram.send", "data": answer})
    elif scope["type"] == "lifespan":
        for _ in ("startup", "shutdown"):
            message = await receive()
            print(message["type"])
            await send({"type": f"{message['type']}.complete"})


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        config = ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile)
        trusting = ClientConfig(ca_certs=pair.certfile)
        port = free_port()
        async with AsgiServer(app, config=config) as server:
            await server.server.listen(host="127.0.0.1", port=port)
            async with WebTransportClient(config=trusting) as client:
                session = await client.connect(url=f"https://127.0.0.1:{port}/live?")
                transport = await session.create_datagram_transport()
                await transport.send(data=b"!")
                print(await transport.receive())


if __name__ == "__main__":
    asyncio.run(main())
