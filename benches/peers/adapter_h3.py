"""The HTTP/3 and WebTransport (draft 02) of aioquic itself, and of its fork qh3.

As plain as their own examples: `H3Connection` in a `QuicConnectionProtocol`, and a queue for each
stream. There is no back-pressure: both take what one writes. They begin with 128 streams of each
kind and double that as it is used, which cannot be asked otherwise.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from contextlib import AsyncExitStack, nullcontext
from typing import Any

from adapters import Chunks


class Api:
    def __init__(self, package: str) -> None:
        self.package = package
        self.version = importlib.import_module(package).__version__
        self.tools = importlib.import_module(f"{package}.asyncio")
        self.h3 = importlib.import_module(f"{package}.h3.connection")
        self.h3_events = importlib.import_module(f"{package}.h3.events")
        self.quic_events = importlib.import_module(f"{package}.quic.events")
        self.configuration_class = importlib.import_module(
            f"{package}.quic.configuration"
        ).QuicConfiguration
        self.protocol = protocol_class(self)

    def configuration(self, **options: Any) -> Any:
        return self.configuration_class(
            alpn_protocols=self.h3.H3_ALPN, max_datagram_frame_size=65_536, **options
        )

    async def serve(self, port: int, cert: str, key: str, handler: Any) -> None:
        configuration = self.configuration(is_client=False)
        configuration.load_cert_chain(cert, key)
        await self.tools.serve(
            "127.0.0.1",
            port,
            configuration=configuration,
            create_protocol=lambda *a, **o: self.protocol(*a, handler=handler, **o),
        )
        await asyncio.Event().wait()

    def client(self) -> Client:
        return Client(self)


class Client:
    def __init__(self, api: Api) -> None:
        self.api = api
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stack.aclose()

    async def connect(self, port: int) -> Session:
        connecting = self.api.tools.connect(
            "127.0.0.1",
            port,
            configuration=self.api.configuration(is_client=True, verify_mode=ssl.CERT_NONE),
            create_protocol=self.api.protocol,
        )
        connection = await self.stack.enter_async_context(connecting)
        return await connection.request(f"127.0.0.1:{port}")


class Stream(Chunks):
    def __init__(self, connection: Any, number: int) -> None:
        super().__init__()
        self.connection, self.number = connection, number
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    async def next_chunk(self) -> bytes:
        return await self.received.get()

    async def write(self, data: bytes, fin: bool = False) -> None:
        self.connection._quic.send_stream_data(self.number, data, fin)
        self.connection.transmit()
        if len(data) > 4096:  # or the loop reads no acknowledgement while there is more to write
            await asyncio.sleep(0)


class Session:
    def __init__(self, connection: Any, number: int) -> None:
        self.connection, self.number = connection, number
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[dict[bytes, bytes]] = loop.create_future()
        self.ended = asyncio.Event()
        self.arrived: asyncio.Queue[Stream] = asyncio.Queue()
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    async def open_bidi(self) -> Stream:
        return self.connection.open(self.number)

    async def incoming(self) -> Any:
        while True:
            yield await self.arrived.get()

    async def send_datagram(self, data: bytes) -> None:
        # qh3 wants the quarter stream id, which aioquic makes of the stream id itself.
        is_aioquic = self.connection.api.package == "aioquic"
        number = self.number if is_aioquic else self.number // 4
        self.connection.http.send_datagram(number, data)
        self.connection.transmit()

    async def receive_datagram(self) -> bytes:
        return await self.received.get()

    async def close(self) -> None:
        self.connection.close()  # whose draining nobody waits for, as with the others

    async def wait_closed(self) -> None:
        await self.ended.wait()


def protocol_class(api: Api) -> Any:
    """A protocol on the classes of aioquic or of qh3."""

    class Connection(api.tools.QuicConnectionProtocol):  # type: ignore[misc,name-defined]
        def __init__(self, *args: Any, handler: Any = None, **options: Any) -> None:
            super().__init__(*args, **options)
            self.api, self.handler = api, handler
            self.http: Any = None
            self.sessions: dict[int, Session] = {}
            self.streams: dict[int, Stream] = {}
            self.tasks: set[asyncio.Task[None]] = set()

        def quic_event_received(self, event: Any) -> None:
            if self.http is None:
                self.http = api.h3.H3Connection(self._quic, enable_webtransport=True)
            if isinstance(event, api.quic_events.ConnectionTerminated):
                for session in self.sessions.values():
                    session.ended.set()
            for http_event in self.http.handle_event(event):
                self.http_event_received(http_event)

        def http_event_received(self, event: Any) -> None:
            events = api.h3_events
            if isinstance(event, events.WebTransportStreamDataReceived):
                stream = self.streams.get(event.stream_id)
                if stream is None:
                    stream = self.streams[event.stream_id] = Stream(self, event.stream_id)
                    self.sessions[event.session_id].arrived.put_nowait(stream)
                if event.data:
                    stream.received.put_nowait(event.data)
                if event.stream_ended:
                    stream.received.put_nowait(b"")
                    del self.streams[event.stream_id]
            elif isinstance(event, events.DatagramReceived):
                number = event.stream_id if api.package == "aioquic" else event.flow_id * 4
                self.sessions[number].received.put_nowait(event.data)
            elif isinstance(event, events.HeadersReceived):
                if session := self.sessions.get(event.stream_id):
                    session.answer.set_result(dict(event.headers))
                else:
                    self.accept(event.stream_id)

        def accept(self, number: int) -> None:
            session = self.sessions[number] = Session(self, number)
            answer = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]
            self.http.send_headers(number, answer)
            task = asyncio.ensure_future(self.handler(session))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        async def request(self, authority: str) -> Session:
            session = Session(self, self._quic.get_next_available_stream_id())
            self.sessions[session.number] = session
            headers = [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", authority.encode()),
                (b":path", b"/bench"),
                (b":protocol", b"webtransport"),
                (b"sec-webtransport-http3-draft02", b"1"),
            ]
            self.http.send_headers(session.number, headers)
            self.transmit()
            assert (await session.answer)[b":status"] == b"200"
            return session

        def open(self, session: int) -> Stream:
            number = self.http.create_webtransport_stream(session)
            # Not noted by the packages themselves, which take the answer for HTTP/3 frames.
            note = self.http._get_or_create_stream(number)
            with note if api.package == "aioquic" else nullcontext(note) as entry:
                entry.frame_type = api.h3.FrameType.WEBTRANSPORT_STREAM
                entry.session_id = session
            stream = self.streams[number] = Stream(self, number)
            return stream

    return Connection
