"""This library as an end, in the tests' own process."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from typing import Any, cast

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.datagram import WebTransportDatagramTransport
from pywebtransport.exceptions import ClientError, StreamError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from tests.interop.peers import end
from tests.support.laboratory import free_port

SMALL = {
    "initial_max_data": end.SMALL_DATA,
    "initial_max_streams_bidi": end.SMALL_STREAMS,
    "initial_max_streams_uni": end.SMALL_STREAMS,
    "flow_control_window_size": end.SMALL_DATA,
    "flow_control_window_auto_scale": False,
}

# Closing waits for the peer to have read the end; some peers never say so.
CLOSE_TIMEOUT = 1.0


class Stream(end.Stream):
    def __init__(self, stream: Any) -> None:
        self._stream = cast(WebTransportStream, stream)  # or the half of one that there is

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data=data)
        except StreamError as error:
            raise end.StreamEnd(error.error_code) from error

    async def finish(self) -> None:
        await self._stream.close()

    async def read(self) -> bytes:
        try:
            return await self._stream.read(size=end.CHUNK)
        except StreamError as error:
            raise end.StreamEnd(error.error_code) from error

    async def reset(self, code: int) -> None:
        await self._stream.reset(error_code=code)

    async def stop(self, code: int) -> None:
        await self._stream.stop_receiving(error_code=code)


class Session(end.Session):
    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._datagrams: WebTransportDatagramTransport | None = None

    @property
    def protocol(self) -> str | None:  # type: ignore[override]
        return self._session.wt_protocol

    async def open(self, unidirectional: bool) -> Stream:
        if unidirectional:
            return Stream(await self._session.create_unidirectional_stream())
        return Stream(await self._session.create_bidirectional_stream())

    async def accept(self, unidirectional: bool) -> Stream:
        if unidirectional:
            return Stream(await self._session.accept_unidirectional_stream())
        return Stream(await self._session.accept_bidirectional_stream())

    async def _transport(self) -> WebTransportDatagramTransport:
        if self._datagrams is None:
            self._datagrams = await self._session.create_datagram_transport()
        return self._datagrams

    async def send_datagram(self, data: bytes) -> None:
        await (await self._transport()).send(data=data)

    async def receive_datagram(self) -> bytes:
        return await (await self._transport()).receive()

    async def close(self, code: int, reason: str) -> None:
        await self._session.close(code=code, reason=reason)

    async def closed(self) -> tuple[int | None, str | None]:
        await self._session.wait_closed()
        return self._session.close_code, self._session.close_reason


class Ours(end.End):
    """`async with Ours(engine)`: a client, and servers as they are asked for."""

    def __init__(self, engine: str) -> None:
        super().__init__()
        self._engine = engine
        self._stack = AsyncExitStack()
        self._clients: list[WebTransportClient] = []

    async def __aenter__(self) -> Ours:
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(client.close() for client in self._clients))
        await self._stack.aclose()

    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        port = free_port()
        config = ServerConfig(
            certfile=certfile,
            keyfile=keyfile,
            bind_host="127.0.0.1",
            bind_port=port,
            engine=self._engine,
            wt_available_protocols=[end.PROTOCOL],
            allowed_origins=["*"],
            close_timeout=CLOSE_TIMEOUT,
            **(SMALL if small else {}),
        )
        app = ServerApp(config=config)
        app.pattern_route(pattern=r"/lab/\d+")(self._serve)
        app.route(path="/close")(self._close)
        await self._stack.enter_async_context(app)
        await app.server.listen()
        return port

    async def _serve(self, session: WebTransportSession) -> None:
        self.arrived(session.path, Session(session))
        await session.wait_closed()

    async def _close(self, session: WebTransportSession) -> None:
        await session.close(code=end.CLOSE_CODE, reason=end.CLOSE_REASON)

    async def start_session(self, url: str, protocols: list[str], small: bool) -> Session:
        config = ClientConfig(
            engine=self._engine,
            verify_mode=ssl.CERT_NONE,
            close_timeout=CLOSE_TIMEOUT,
            **(SMALL if small else {}),
        )
        client = await WebTransportClient(config=config).__aenter__()
        self._clients.append(client)
        try:
            return Session(await client.connect(url=url, wt_available_protocols=protocols or None))
        except ClientError as error:
            _, found, status = str(error).partition("HTTP status ")
            if not found:
                raise
            raise end.Rejected(int(status[:3])) from error
