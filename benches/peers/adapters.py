"""One adapter per API, so that every workload is the same code for every library in Python.

``api08`` is the 0.8 API: the PyPI release 0.8.1, and this project as its drop-in.
``api21`` is the PyPI release 0.21.1. The others have a file each, by the names of `ELSEWHERE`.

``STREAMS`` (environment) is how many concurrent streams of each kind both sides allow. It is
equal for all contenders, because QUIC stacks pay for every allowed stream.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
from typing import Any

STREAMS = int(os.environ.get("STREAMS", "200"))
MAX_CONNECTIONS = 20_000
SESSION_WINDOW = 1 << 28


ELSEWHERE = {
    "aioquic": "adapter_h3",
    "qh3": "adapter_h3",
    "web_transport_quinn": "adapter_quinn",
    "peregrine": "adapter_peregrine",
}


def load(name: str) -> Any:
    if name in ELSEWHERE:
        return importlib.import_module(ELSEWHERE[name]).Api(name)
    return {"api08": Api08, "api21": Api21}[name]()


class Chunks:
    """The reads that the bench needs, over a stream whose library only hands out chunks."""

    def __init__(self) -> None:
        self.kept = b""

    async def next_chunk(self) -> bytes:
        """What has arrived, at least a byte; empty at the end."""
        raise NotImplementedError

    async def read(self, size: int) -> bytes:
        data = self.kept or await self.next_chunk()
        self.kept = data[size:]
        return data[:size] if self.kept else data

    async def readexactly(self, size: int) -> bytes:
        data = self.kept
        while len(data) < size:
            if not (chunk := await self.next_chunk()):
                raise EOFError(f"{len(data)} bytes and then the end")
            data += chunk
        self.kept = data[size:]
        return data[:size]

    async def read_all(self) -> bytes:
        chunks, self.kept = [self.kept], b""
        while chunk := await self.next_chunk():
            chunks.append(chunk)
        return b"".join(chunks)


class Api08:
    """ServerApp, WebTransportClient, objects with keyword-only methods."""

    def __init__(self) -> None:
        import pywebtransport

        self.lib = pywebtransport
        self.version = pywebtransport.__version__
        # Modules that load on first use: no workload is about imports.
        self.client_class = pywebtransport.WebTransportClient
        self.server_class = pywebtransport.ServerApp
        self.limits: dict[str, Any] = {
            "initial_max_data": SESSION_WINDOW,
            "initial_max_streams_bidi": STREAMS,
            "initial_max_streams_uni": STREAMS,
            "max_connections": MAX_CONNECTIONS,
            "max_incoming_streams": STREAMS,
            "log_level": "ERROR",
        }
        if hasattr(pywebtransport.ServerConfig, "quic_max_concurrent_bidi_streams"):
            self.limits["quic_max_concurrent_bidi_streams"] = STREAMS

    async def serve(self, port: int, cert: str, key: str, handler: Any) -> None:
        config = self.lib.ServerConfig(
            certfile=cert,
            keyfile=key,
            bind_host="127.0.0.1",
            bind_port=port,
            max_sessions=MAX_CONNECTIONS,
            max_streams_per_connection=STREAMS,
            access_log=False,
            **self.limits,
        )
        app = self.server_class(config=config)

        @app.route(path="/bench")
        async def bench(session: Any) -> None:
            await handler(Session08(session))

        async with app:
            await app.serve(host="127.0.0.1", port=port)

    def client(self) -> Client08:
        config = self.lib.ClientConfig(
            verify_mode=ssl.CERT_NONE, max_streams=STREAMS, **self.limits
        )
        return Client08(self.client_class(config=config))


class Client08:
    def __init__(self, client: Any) -> None:
        self.client = client

    async def __aenter__(self) -> Client08:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.__aexit__(*exc)

    async def connect(self, port: int) -> Session08:
        return Session08(await self.client.connect(url=f"https://127.0.0.1:{port}/bench"))


class Session08:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.transport: Any = None

    async def open_bidi(self) -> Stream08:
        return Stream08(await self.session.create_bidirectional_stream())

    async def incoming(self) -> Any:
        async for stream in self.session.incoming_streams():
            yield Stream08(stream)

    async def datagrams(self) -> Any:
        if self.transport is None:
            self.transport = await self.session.create_datagram_transport()
        return self.transport

    async def send_datagram(self, data: bytes) -> None:
        await (self.transport or await self.datagrams()).send(data=data)

    async def receive_datagram(self) -> bytes:
        return await (self.transport or await self.datagrams()).receive()

    async def send_datagrams(self, batch: list[bytes]) -> None:
        await (self.transport or await self.datagrams()).send_datagrams(batch)

    async def receive_datagrams(self) -> list[bytes]:
        transport = self.transport or await self.datagrams()
        return await transport.receive_multiple(max_count=512)

    async def close(self) -> None:
        await self.session.close()

    async def wait_closed(self) -> None:
        await self.session.wait_closed()


class Stream08:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def write(self, data: bytes, fin: bool = False) -> None:
        await self.stream.write(data=data, end_stream=fin)

    async def read(self, size: int) -> bytes:
        return await self.stream.read(size=size)

    async def readexactly(self, size: int) -> bytes:
        return await self.stream.readexactly(n=size)

    async def read_all(self) -> bytes:
        return await self.stream.read_all()


class Api21:
    """The 0.21 API: Rust core on a reactor thread of its own."""

    def __init__(self) -> None:
        import pywebtransport

        self.lib = pywebtransport
        self.version = pywebtransport.__version__
        self.limits: dict[str, Any] = {
            "initial_max_data": SESSION_WINDOW,
            "initial_max_streams_bidi": STREAMS,
            "initial_max_streams_uni": STREAMS,
            "max_connections": MAX_CONNECTIONS,
            "max_streams_bidi": STREAMS,
            "max_streams_uni": STREAMS,
        }

    async def serve(self, port: int, cert: str, key: str, handler: Any) -> None:
        config = self.lib.ServerConfig(
            certfile=cert, keyfile=key, bind_host="127.0.0.1", bind_port=port, **self.limits
        )
        tasks: set[asyncio.Task[None]] = set()

        def spawn(coroutine: Any) -> None:
            task = asyncio.create_task(coroutine)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def on_session(session: Any) -> None:
            await session.accept()
            await handler(Session21(session))

        async def on_connection(connection: Any) -> None:
            async for session in connection.incoming_sessions():
                spawn(on_session(session))

        async with self.lib.WebTransportServer(config=config) as server:
            await server.listen()
            async for connection in server.incoming_connections():
                spawn(on_connection(connection))

    def client(self) -> Client21:
        config = self.lib.ClientConfig(verify_mode=ssl.CERT_NONE, **self.limits)
        return Client21(self.lib.WebTransportClient(config=config))


class Client21(Client08):
    async def connect(self, port: int) -> Session21:  # type: ignore[override]
        return Session21(await self.client.connect(url=f"https://127.0.0.1:{port}/bench"))


class Session21:
    def __init__(self, session: Any) -> None:
        self.session = session

    async def open_bidi(self) -> Stream21:
        return Stream21(await self.session.create_bidirectional_stream())

    async def incoming(self) -> Any:
        async for stream in self.session.incoming_bidirectional_streams():
            yield Stream21(stream)

    async def send_datagram(self, data: bytes) -> None:
        await self.session.send_datagram(data=data)

    async def receive_datagram(self) -> bytes:
        return await self.session.read_datagram()

    async def close(self) -> None:
        connection = self.session.connection
        await self.session.close()
        await connection.close()

    async def wait_closed(self) -> None:
        # 0.21 has no coroutine for this.
        while not self.session.is_closed:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


class Stream21:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def write(self, data: bytes, fin: bool = False) -> None:
        await self.stream.write_all(data=data, end_stream=fin)

    async def read(self, size: int) -> bytes:
        return await self.stream.read(max_size=size)

    async def readexactly(self, size: int) -> bytes:
        return await self.stream.readexactly(size=size)

    async def read_all(self) -> bytes:
        return await self.stream.read_all()
