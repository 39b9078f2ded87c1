"""A server of ordinary HTTP/3 requests, and aioquic's HTTP/3 client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.server import HttpRequest, RequestHandler
from tests.support.certificate import Certificate
from tests.support.http3_client import Http3Client, connected

MEGABYTE = 1 << 20


@dataclass
class Web:
    """A server with a handler, and what its requests came to."""

    app: ServerApp
    port: int
    certificate: Certificate
    engine: str
    errors: list[BaseException] = field(default_factory=list)
    ended: asyncio.Queue[HttpRequest] = field(default_factory=asyncio.Queue)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def client(self, **settings: Any) -> Http3Client:
        return await self.stack.enter_async_context(connected(self.port, **settings))


MakeWeb = Callable[..., Awaitable[Web]]


@asynccontextmanager
async def webs(engine: str, certificate: Certificate) -> AsyncIterator[MakeWeb]:
    """What it gives is called with a handler, and options, to get a running server."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:

        async def make(handler: RequestHandler, **options: Any) -> Web:
            async def observed(request: HttpRequest) -> None:
                try:
                    await handler(request)
                except BaseException as error:
                    made.errors.append(error)
                    raise
                finally:
                    made.ended.put_nowait(request)

            config = ServerConfig(
                **{
                    "engine": engine,
                    "certfile": certificate.certfile,
                    "keyfile": certificate.keyfile,
                    "bind_host": "127.0.0.1",
                    "bind_port": 0,
                    "access_log": False,
                }
                | options
            )
            app = ServerApp(config=config, request_handler=observed)
            await stack.enter_async_context(app)
            await app.server.listen()
            assert app.server.local_address is not None
            made = Web(app, app.server.local_address[1], certificate, engine)
            await stack.enter_async_context(made.stack)
            return made

        yield make
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks outlive their server: {left}"


async def echo(request: HttpRequest) -> None:
    await request.respond(200, [(b"x-method", request.method.encode())])
    async for chunk in request:
        await request.write(chunk)


async def hello(request: HttpRequest) -> None:
    await request.respond(200)
    await request.write(b"hello")
