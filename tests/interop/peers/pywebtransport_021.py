"""The PyPI release pywebtransport 0.21.1 (drafts 15 and 16) as an end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import end

import pywebtransport
from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportServer
from pywebtransport.exceptions import ClientError, SessionError, StreamError
from pywebtransport.types import EventType

SMALL = {
    "initial_max_data": end.SMALL_DATA,
    "initial_max_streams_bidi": end.SMALL_STREAMS,
    "initial_max_streams_uni": end.SMALL_STREAMS,
}
LARGE = {"initial_max_streams_bidi": 100, "initial_max_streams_uni": 100}


class Stream(end.Stream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._stop_code: int | None = None
        stream.events.on(event_type=EventType.STREAM_STOP_SENDING_RECEIVED, handler=self._stopped)

    def _stopped(self, event: Any) -> None:
        self._stop_code = event.data["error_code"]

    async def write(self, data: bytes) -> None:
        try:
            await self._stream.write(data=data)
        except StreamError as error:
            raise end.StreamEnd(self._stop_code) from error  # which the error itself does not tell

    async def finish(self) -> None:
        await self._stream.write(data=b"", end_stream=True)

    async def read(self) -> bytes:
        try:
            return bytes(await self._stream.read(max_size=end.CHUNK))
        except StreamError as error:
            raise end.StreamEnd(error.error_code) from error

    async def reset(self, code: int) -> None:
        await self._stream.reset(error_code=code)

    async def stop(self, code: int) -> None:
        await self._stream.stop_receiving(error_code=code)


class Session(end.Session):
    def __init__(self, session: Any) -> None:
        self._session = session
        self._connection = session.connection  # which the session does not hold itself
        self.protocol = session.wt_protocol
        self._streams = {
            False: session.incoming_bidirectional_streams(),
            True: session.incoming_unidirectional_streams(),
        }
        self._accepting = {False: asyncio.Lock(), True: asyncio.Lock()}
        self._end: asyncio.Future[tuple[int | None, str | None]] = (
            asyncio.get_running_loop().create_future()
        )
        session.events.on(event_type=EventType.SESSION_CLOSED, handler=self._closed)
        if session.is_closed:
            self._end.set_result((None, None))

    def _closed(self, event: Any) -> None:
        if not self._end.done():
            self._end.set_result((event.data.get("error_code"), event.data.get("reason")))

    async def open(self, unidirectional: bool) -> Stream:
        if unidirectional:
            return Stream(await self._session.create_unidirectional_stream())
        return Stream(await self._session.create_bidirectional_stream())

    async def accept(self, unidirectional: bool) -> Stream:
        async with self._accepting[unidirectional]:
            return Stream(await anext(self._streams[unidirectional]))

    async def send_datagram(self, data: bytes) -> None:
        await self._session.send_datagram(data=data)

    async def receive_datagram(self) -> bytes:
        return bytes(await self._session.read_datagram())

    async def close(self, code: int, reason: str) -> None:
        await self._session.close(error_code=code, reason=reason)

    async def closed(self) -> tuple[int | None, str | None]:
        return await asyncio.shield(self._end)


class Program(end.End):
    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        # Port 0 is refused, so a free one is asked for first.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        config = ServerConfig(
            certfile=certfile,
            keyfile=keyfile,
            bind_host="127.0.0.1",
            bind_port=port,
            **(SMALL if small else LARGE),
        )
        server = WebTransportServer(config=config)
        await server.listen()
        self.spawn(self._serve(server))
        return port

    async def _serve(self, server: WebTransportServer) -> None:
        async for connection in server.incoming_connections():
            self.spawn(self._serve_connection(connection))

    async def _serve_connection(self, connection: Any) -> None:
        async for session in connection.incoming_sessions():
            path = session.path
            if path == "/close":
                await session.accept()
                await session.close(error_code=end.CLOSE_CODE, reason=end.CLOSE_REASON)
            elif path.startswith("/lab/"):
                offered = session.wt_available_protocols or []
                chosen = end.PROTOCOL if end.PROTOCOL in offered else None
                await session.accept(wt_protocol=chosen)
                it = Session(session)
                it.protocol = chosen
                self.arrived(path, it)
            else:
                await session.reject(status_code=404)

    async def start_session(self, url: str, protocols: list[str], small: bool) -> end.Session:
        config = ClientConfig(verify_mode=ssl.CERT_NONE, **(SMALL if small else LARGE))
        client = await WebTransportClient(config=config).__aenter__()
        try:
            session = await client.connect(url=url, wt_available_protocols=protocols or None)
        except (ClientError, SessionError) as error:
            _, found, status = str(error).partition("status_code=")
            if not found:
                raise
            raise end.Rejected(int(status[:3])) from error
        return Session(session)


if __name__ == "__main__":
    assert pywebtransport.__version__ == "0.21.1"
    end.main(Program)
