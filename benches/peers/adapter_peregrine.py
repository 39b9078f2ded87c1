"""The ASGI server peregrine-server, which has no client: ours talks to it.

`Api.serve` becomes the server's own program, which imports this file again for `app`. It has no
option for how many streams it allows.
"""

from __future__ import annotations

import asyncio
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import server
from adapters import Chunks


class Api:
    def __init__(self, name: str) -> None:
        self.version = version("peregrine-server")

    async def serve(self, port: int, cert: str, key: str, handler: Any) -> None:
        program = Path(sys.executable).with_name("peregrine")
        os.execv(
            program,
            [
                *(str(program), "adapter_peregrine:app"),
                *("--python-path", str(Path(__file__).parent), "--http3"),
                *("--port", str(port), "--tls-cert", cert, "--tls-key", key),
            ],
        )


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "webtransport":
        from peregrine.webtransport import WebTransportSession

        session = WebTransportSession(scope, receive, send)
        await session.accept()
        await server.handler(Session(session))


class Session:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.ended = asyncio.Event()

    async def incoming(self) -> Any:
        async for stream in self.session.incoming_streams():
            yield Stream(stream)
        self.ended.set()

    async def send_datagram(self, data: bytes) -> None:
        await self.session.send_datagram(data)

    async def receive_datagram(self) -> bytes:
        data = await self.session.receive_datagram()
        if data is None:
            raise ConnectionError("the session has ended")
        return bytes(data)

    async def wait_closed(self) -> None:
        await self.ended.wait()


class Stream(Chunks):
    def __init__(self, stream: Any) -> None:
        super().__init__()
        self.stream = stream

    async def next_chunk(self) -> bytes:
        while (data := await self.stream.receive()) == b"":
            pass
        return bytes(data or b"")

    async def write(self, data: bytes, fin: bool = False) -> None:
        await self.stream.send(data, end=fin)
