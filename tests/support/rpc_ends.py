"""The two ends of RPC tests: functions to call, and a bare end that speaks frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

from pywebtransport.rpc import InvalidParamsError, RpcError, RpcManager
from pywebtransport.rpc.protocol import FrameDecoder
from pywebtransport.stream import WebTransportStream
from tests.support.stream_pair import MemoryStream, stream_pair


def manager(stream: MemoryStream, session_id: str = "S", **options: Any) -> RpcManager:
    return RpcManager(stream=cast(WebTransportStream, stream), session_id=session_id, **options)


class Functions:
    """What the server side of these tests offers."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.running = 0
        self.most_running = 0

    def add(self, a: int, b: int) -> int:
        return a + b

    async def subtract(self, minuend: int, subtrahend: int) -> int:
        return minuend - subtrahend

    def total(self, *numbers: int) -> int:
        return sum(numbers)

    def note(self, *what: Any) -> None:
        self.seen.append(what)
        self.entered.set()

    def fail(self) -> None:
        raise ValueError("boom")

    def refuse(self) -> None:
        raise InvalidParamsError("not like that")

    def own_error(self) -> None:
        raise RpcError("mine", error_code=-32000, details={"why": "because"})

    def unserialisable(self) -> object:
        return object()

    def large(self, size: int) -> str:
        return "x" * size

    async def wait(self) -> str:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.entered.set()
        try:
            await self.leave.wait()
        finally:
            self.running -= 1
        return "left"

    async def lose_a_task(self) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    def register(self, rpc: RpcManager) -> None:
        for name in dir(self):
            function = getattr(self, name)
            if callable(function) and not name.startswith("_") and name != "register":
                rpc.register(func=function)


@asynccontextmanager
async def both(**options: Any) -> AsyncIterator[tuple[RpcManager, RpcManager, Functions]]:
    one, other = stream_pair()
    functions = Functions()
    async with manager(one, "C", **options) as client, manager(other, "S", **options) as server:
        functions.register(server)
        yield client, server, functions
        functions.leave.set()


class Raw:
    """The bare other end of a manager's stream."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.decoder = FrameDecoder(max_size=1 << 24)
        self.frames: Iterator[bytes] = iter(())

    async def send(self, message: Any) -> None:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.stream.write(data=len(payload).to_bytes(4) + payload)

    async def payload(self) -> bytes:
        while True:
            for frame in self.frames:
                return frame
            self.frames = self.decoder.feed(await self.stream.read(size=65536))

    async def receive(self) -> Any:
        return json.loads(await self.payload())

    async def ask(self, message: Any) -> Any:
        await self.send(message)
        return await self.receive()

    async def ignored(self, message: Any) -> None:
        """The manager answers nothing to this, and goes on."""
        await self.send(message)
        probe = {"id": "probe", "method": "add", "params": [1, 1]}
        assert await self.ask(probe) == {"id": "probe", "result": 2}


@asynccontextmanager
async def raw(**options: Any) -> AsyncIterator[tuple[Raw, RpcManager, Functions]]:
    one, other = stream_pair()
    functions = Functions()
    async with manager(other, "S", **options) as server:
        functions.register(server)
        yield Raw(one), server, functions
        functions.leave.set()
