"""A server in the test's own process, with one route for each thing a peer can be asked to do.

Written as an application would write it: `ServerApp`, routes, middleware. What its handlers see
goes to `observed`, where a test awaits it.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from contextlib import AsyncExitStack
from typing import Any, Self

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.events import Event
from pywebtransport.exceptions import StreamError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import EventType
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

CLOSE_CODE, CLOSE_REASON = 4242, "bye é"
RESET_CODE, STOP_CODE = 77, 55
PROTOCOL = "chat.v1"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Laboratory:
    """`async with Laboratory() as laboratory`: a server at `laboratory.url`."""

    def __init__(self, **options: Any) -> None:
        self.observed: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self._options = options
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        certfile, keyfile = generate_self_signed_cert(
            hostname="localhost", output_dir=directory, browser_compatible=True
        )
        self.certificate_hash = certificate_hash(path=certfile)
        port = free_port()
        self.url = f"https://127.0.0.1:{port}"
        config = ServerConfig(
            certfile=certfile,
            keyfile=keyfile,
            bind_host="127.0.0.1",
            bind_port=port,
            **{"allowed_origins": ["*", "null"]} | self._options,
        )
        app = ServerApp(config=config)
        app.add_middleware(middleware=self.watch)
        app.add_middleware(middleware=choose_protocol)
        for path, handler in {
            "/echo": echo,
            "/chat": echo,
            "/streams": self.streams,
            "/streams-later": self.streams_later,
            "/reset": reset,
            "/stop": stop,
            "/close": close,
            "/close-later": close_later,
        }.items():
            app.route(path=path)(handler)
        app.pattern_route(pattern=r"/observe/(\d+)")(self.observe)
        await self._stack.enter_async_context(app)
        await app.server.listen()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def watch(self, *, session: WebTransportSession) -> bool:
        """Middleware: report how each session ends."""

        def closed(event: Event) -> None:
            self.observed.put_nowait(("closed", event.data["code"], event.data["reason"]))

        session.once(event_type=EventType.SESSION_CLOSED, handler=closed)
        return True

    async def streams(self, session: WebTransportSession) -> None:
        """Open three streams of both kinds, and close when the peer has answered."""

        async def ask(i: int) -> None:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(data=f"bidirectional {i}".encode())
            self.observed.put_nowait(("answer", (await stream.read_all()).decode()))

        async with asyncio.TaskGroup() as tasks:
            for i in range(3):
                stream = await session.create_unidirectional_stream()
                await stream.write_all(data=f"unidirectional {i}".encode())
                tasks.create_task(ask(i))

    async def streams_later(self, session: WebTransportSession) -> None:
        """The same, once the peer has opened a stream."""
        await first_stream(session)
        await self.streams(session)

    async def observe(self, session: WebTransportSession) -> None:
        """Report the codes with which the peer ends its streams, as many as the path says."""

        async def watch_stream(stream: WebTransportStream) -> None:
            text = await stream.read()
            await stream.write(data=b"seen")
            try:
                if text == b"stop me":
                    while True:
                        await stream.write(data=bytes(65536))
                while await stream.read():
                    pass
            except StreamError as error:
                self.observed.put_nowait((text.decode(), error.error_code))

        expected = int(session.path_params[0])
        async with asyncio.TaskGroup() as tasks:
            async for stream in session.incoming_bidirectional_streams():
                tasks.create_task(watch_stream(stream))
                expected -= 1
                if not expected:
                    break


async def choose_protocol(*, session: WebTransportSession) -> bool:
    if PROTOCOL in (session.wt_available_protocols or ()):
        session.wt_protocol = PROTOCOL
    return True


async def echo(session: WebTransportSession) -> None:
    async def echo_stream(stream: WebTransportStream) -> None:
        while data := await stream.read(size=65536):
            await stream.write(data=data)
        await stream.close()

    async def answer(stream: WebTransportReceiveStream) -> None:
        data = await stream.read_all()
        await (await session.create_unidirectional_stream()).write_all(data=data)

    async def echo_datagrams() -> None:
        transport = await session.create_datagram_transport()
        while True:
            await transport.send(data=await transport.receive())

    async with asyncio.TaskGroup() as tasks:
        datagrams = tasks.create_task(echo_datagrams())
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                tasks.create_task(echo_stream(stream))
            elif isinstance(stream, WebTransportReceiveStream):
                tasks.create_task(answer(stream))
        datagrams.cancel()


async def first_stream(session: WebTransportSession) -> WebTransportStream:
    async for stream in session.incoming_streams():
        if isinstance(stream, WebTransportStream):
            await stream.read()
            return stream
    raise AssertionError("the session ended before its first stream")


async def reset(session: WebTransportSession) -> None:
    stream = await first_stream(session)
    await stream.write(data=b"so far so good")
    await stream.read()
    await stream.reset(error_code=RESET_CODE)
    await session.wait_closed()


async def stop(session: WebTransportSession) -> None:
    stream = await first_stream(session)
    await stream.stop_receiving(error_code=STOP_CODE)
    await session.wait_closed()


async def close(session: WebTransportSession) -> None:
    await session.close(code=CLOSE_CODE, reason=CLOSE_REASON)


async def close_later(session: WebTransportSession) -> None:
    await first_stream(session)
    await close(session)
