"""The PyPI release pywebtransport 0.8.1 (draft 13, capsules without DATA frames) as an end.

Session flow control is set everywhere: with that release's defaults of 0 no stream can be opened.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import end

import pywebtransport
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ClientError, StreamError
from pywebtransport.types import EventType

LIMITS = {
    "initial_max_data": 1 << 24,
    "initial_max_streams_bidi": 100,
    "initial_max_streams_uni": 100,
}
SMALL = {
    "initial_max_data": end.SMALL_DATA,
    "initial_max_streams_bidi": end.SMALL_STREAMS,
    "initial_max_streams_uni": end.SMALL_STREAMS,
    "flow_control_window_size": end.SMALL_DATA,
}


class Stream(end.Stream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data=data)
        except StreamError as error:
            raise end.StreamEnd(error.error_code) from error

    async def finish(self) -> None:
        await self._stream.close()

    async def read(self) -> bytes:
        try:
            return bytes(await self._stream.read(size=end.CHUNK))
        except StreamError as error:
            raise end.StreamEnd(error.error_code) from error

    async def reset(self, code: int) -> None:
        await self._stream.abort(code=code)  # resets and asks to stop, both with the code

    async def stop(self, code: int) -> None:
        await self._stream.abort(code=code)


class Session(end.Session):
    def __init__(self, session: Any) -> None:
        self._session = session
        self._datagrams: Any = None
        self._streams: dict[bool, asyncio.Queue[Stream]] = {
            False: asyncio.Queue(),
            True: asyncio.Queue(),
        }
        self._end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        session.protocol_handler.on(event_type=EventType.SESSION_CLOSED, handler=self._closed)
        self._sorting = asyncio.create_task(self._sort())

    def _closed(self, event: Any) -> None:
        if event.data["session_id"] == self._session.session_id and not self._end.done():
            self._end.set_result((event.data["code"], event.data["reason"]))

    async def _sort(self) -> None:
        async for stream in self._session.incoming_streams():
            self._streams[not hasattr(stream, "write")].put_nowait(Stream(stream))

    async def open(self, unidirectional: bool) -> Stream:
        if unidirectional:
            return Stream(await self._session.create_unidirectional_stream())
        return Stream(await self._session.create_bidirectional_stream())

    async def accept(self, unidirectional: bool) -> Stream:
        return await self._streams[unidirectional].get()

    async def _transport(self) -> Any:
        if self._datagrams is None:
            self._datagrams = await self._session.create_datagram_transport()
        return self._datagrams

    async def send_datagram(self, data: bytes) -> None:
        await (await self._transport()).send(data=data)

    async def receive_datagram(self) -> bytes:
        return bytes(await (await self._transport()).receive())

    async def close(self, code: int, reason: str) -> None:
        await self._session.close(code=code, reason=reason, close_connection=False)

    async def closed(self) -> tuple[int | None, str | None]:
        return await asyncio.shield(self._end)


class Program(end.End):
    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        config = ServerConfig(
            certfile=certfile,
            keyfile=keyfile,
            bind_host="127.0.0.1",
            log_level="CRITICAL",
            **(SMALL if small else LIMITS),
        )
        app = ServerApp(config=config)

        @app.pattern_route(pattern=r"/lab/\d+")
        async def serve(session: Any) -> None:
            it = Session(session)
            self.arrived(session.path, it)
            await it.closed()

        @app.route(path="/close")
        async def close(session: Any) -> None:
            await Session(session).close(end.CLOSE_CODE, end.CLOSE_REASON)

        await app.__aenter__()
        # Port 0 falls back to the configured port there, so a free one is asked for first.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        await app.server.listen(host="127.0.0.1", port=port)
        return port

    async def start_session(self, url: str, protocols: list[str], small: bool) -> end.Session:
        config = ClientConfig(
            verify_mode=ssl.CERT_NONE, log_level="CRITICAL", **(SMALL if small else LIMITS)
        )
        client = await WebTransportClient(config=config).__aenter__()
        try:
            return Session(await client.connect(url=url))
        except ClientError as error:
            _, found, status = str(error).partition("HTTP status ")
            if not found:
                raise
            raise end.Rejected(int(status[:3])) from error


if __name__ == "__main__":
    assert pywebtransport.__version__ == "0.8.1"
    end.main(Program)
