"""One engine between raw peers: as a server to `Bench.client`, as a client to `Bench.server`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.events import Event
from pywebtransport.exceptions import StreamError, WebTransportError
from pywebtransport.server import RequestHandler
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import EventType
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port
from tests.support.raw_peer import PATIENCE, SERVER_SETTINGS, RawPeer, RawServer, raw_client

TOKENS = {"02": "webtransport", "07": "webtransport", "13": "webtransport", "15": "webtransport-h3"}
STREAM_CREATION, CLOSED_CRITICAL, UNEXPECTED, FRAME, LOAD, ID, SETTINGS, MISSING_SETTINGS = (
    *(0x103, 0x104, 0x105, 0x106, 0x107, 0x108, 0x109, 0x10A),
)
REJECTED, CANCELLED, INCOMPLETE, MESSAGE = 0x10B, 0x10C, 0x10D, 0x10E
NO_ERROR, DATAGRAM_ERROR = 0x100, 0x33
GONE, BUFFERED_REJECTED, REQUIREMENTS_NOT_MET = 0x170D7B68, 0x3994BD84, 0x212C0D48
GREASE = 0x1F * 7 + 0x21

Case = Callable[["Bench"], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """The function tests this row of the sheet."""

    def register(function: Case) -> Case:
        assert name not in CASES, f"{name} has two tests"
        CASES[name] = function
        return function

    return register


def long(value: int) -> bytes:
    """A varint in eight bytes."""
    return (value | 3 << 62).to_bytes(8)


class Talk:
    """A raw peer past its SETTINGS, and what is often said and expected."""

    def __init__(self, peer: RawPeer, control: int, draft: str) -> None:
        self.peer = peer
        self.control = control
        self.token = TOKENS.get(draft, "webtransport")

    def say(self, data: bytes, fin: bool = False) -> None:
        """On the control stream."""
        self.peer.send(self.control, data, fin)

    def uni(self, data: bytes = b"", fin: bool = False) -> int:
        stream = self.peer.open(unidirectional=True)
        self.peer.send(stream, data, fin)
        return stream

    def bidi(self, data: bytes = b"", fin: bool = False) -> int:
        stream = self.peer.open()
        self.peer.send(stream, data, fin)
        return stream

    def dribble(self, stream: int, data: bytes, fin: bool = False) -> None:
        """Each byte in a packet of its own."""
        for at in range(len(data)):
            self.peer.send(stream, data[at : at + 1], fin and at == len(data) - 1)
            self.peer.flush()

    def data(self, stream: int, *capsules: bytes, fin: bool = False) -> None:
        self.peer.send(stream, h3.frame(h3.DATA, b"".join(capsules)), fin)

    def request(self, fin: bool = False, **fields: Any) -> int:
        return self.bidi(h3.connect_frame(**{"token": self.token} | fields), fin)

    async def session(self, **fields: Any) -> int:
        session = self.request(**fields)
        assert (await self.peer.response(session))[":status"] == "200"
        return session

    async def echoes(self, session: int) -> None:
        """The session works: streams of both kinds and datagrams come back."""
        peer = self.peer
        before = len(peer.datagrams)
        known = set(peer.uni(h3.WT_UNI))
        stream = self.bidi(h3.bidi_header(session) + b"ping", fin=True)
        self.uni(h3.uni_header(session) + b"pong", fin=True)
        peer.datagram(h3.datagram(session, b"pang"))
        await self.until(lambda: peer.streams[stream].fin)
        assert peer.streams[stream].data == b"ping"
        await self.until(
            lambda: any(
                peer.streams[s].fin and peer.streams[s].data == h3.uni_header(session) + b"pong"
                for s in set(peer.uni(h3.WT_UNI)) - known
            )
        )
        await self.until(lambda: h3.datagram(session, b"pang") in peer.datagrams[before:])

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for it; a connection that closes instead fails the test."""
        await self.peer.until(lambda: condition() or self.peer.closed)
        assert condition(), f"closed instead: {self.peer.closed}"

    async def fails(self, code: int) -> None:
        """The connection ends with this code of HTTP/3."""
        closed = await self.peer.wait_closed()
        assert not closed.is_by_us, closed
        assert (closed.is_application, hex(closed.code)) == (True, hex(code)), closed

    async def refuses(self, stream: int, *codes: int) -> None:
        """The stream ends with one of these codes, the connection goes on."""
        seen = self.peer.streams[stream]
        await self.until(lambda: seen.reset is not None or seen.stopped is not None)
        said = seen.reset.code if seen.reset is not None else seen.stopped
        assert said in codes, f"{said:#x}, not {[hex(code) for code in codes]}"
        await self.lives()

    async def lives(self) -> None:
        """What was sent has been taken, and the connection is still there."""
        for _ in range(2):
            await self.peer.round_trip()
            # What an engine puts off to its next turn.
            await asyncio.sleep(0)
        assert self.peer.closed is None, self.peer.closed


class Bench:
    """One engine, a server of it that echoes, and what the applications have seen."""

    def __init__(self, engine: str, certificate: Certificate) -> None:
        self.engine = engine
        self.certificate = certificate
        self.seen: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        self._late: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        self._stack = AsyncExitStack()
        self._app: ServerApp | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def serve(self, *, request_handler: RequestHandler | None = None, **options: Any) -> None:
        """Start the server; `client` does it with the defaults."""
        config = ServerConfig(
            engine=self.engine,
            certfile=self.certificate.certfile,
            keyfile=self.certificate.keyfile,
            bind_host="127.0.0.1",
            bind_port=free_port(),
            access_log=False,
            **options,
        )
        self._app = app = ServerApp(config=config, request_handler=request_handler)
        app.add_middleware(middleware=self._watch_requested)
        app.pattern_route(pattern="/late.*")(self._serve_late)
        app.pattern_route(pattern="/.*")(self._serve)
        await self._stack.enter_async_context(app)
        await app.server.listen()

    async def aclose_server(self) -> None:
        """Stop it, so that another may be served."""
        await self._stack.aclose()
        self._app = None

    @property
    def port(self) -> int:
        assert self._app is not None
        address = self._app.server.local_address
        assert address is not None
        return address[1]

    @asynccontextmanager
    async def client(
        self, draft: str = "15", *, settings: Mapping[int, int] | None = None, **quic: Any
    ) -> AsyncIterator[Talk]:
        """A raw client of our server that has sent its SETTINGS."""
        async with self.stranger(draft, **quic) as talk:
            pairs = h3.SETTINGS_OF[draft] if settings is None else settings
            talk.control = talk.uni(h3.control_stream(pairs))
            yield talk

    @asynccontextmanager
    async def stranger(self, draft: str = "15", **quic: Any) -> AsyncIterator[Talk]:
        """A raw client of our server that has said nothing."""
        if self._app is None:
            await self.serve()
        async with raw_client(self.port, **quic) as peer:
            yield Talk(peer, -1, draft)

    @asynccontextmanager
    async def asked(
        self, settings: Mapping[int, int] | None = None, **options: Any
    ) -> AsyncIterator[tuple[Talk, asyncio.Task[WebTransportSession]]]:
        """A raw server that has sent these SETTINGS, and our client that asks it."""
        config = ClientConfig(
            engine=self.engine,
            ca_certs=self.certificate.certfile,
            connect_timeout=PATIENCE,
            # A raw server does not answer the end of a session.
            close_timeout=0.1,
        )
        async with (
            RawServer(self.certificate, **options) as server,
            WebTransportClient(config=config) as client,
        ):
            connecting = asyncio.ensure_future(
                client.connect(url=f"https://127.0.0.1:{server.port}/")
            )
            try:
                peer = await server.accept()
                control = peer.open(unidirectional=True)
                settings = SERVER_SETTINGS if settings is None else settings
                peer.send(control, h3.control_stream(settings))
                yield Talk(peer, control, "15"), connecting
            finally:
                connecting.cancel()
                await asyncio.wait([connecting])
                if not connecting.cancelled():
                    connecting.exception()

    @asynccontextmanager
    async def server(
        self, settings: Mapping[int, int] | None = None, **options: Any
    ) -> AsyncIterator[tuple[Talk, int, WebTransportSession]]:
        """A raw server with an established session of our client."""
        async with self.asked(settings, **options) as (talk, connecting):
            session_id, _ = await talk.peer.request()
            talk.peer.send(session_id, h3.response_frame(200))
            session = await connecting
            self._watch(session)
            yield talk, session_id, session

    async def next_seen(self) -> tuple[Any, ...]:
        async with asyncio.timeout(PATIENCE):
            return await self.seen.get()

    async def next_session(self) -> WebTransportSession:
        async with asyncio.timeout(PATIENCE):
            return await self.sessions.get()

    async def next_late(self) -> WebTransportSession:
        """A session of `/late`, whose streams are the test's."""
        async with asyncio.timeout(PATIENCE):
            return await self._late.get()

    # The application.

    def _watch(self, session: WebTransportSession) -> None:
        def closed(event: Event) -> None:
            self.seen.put_nowait(("closed", event.data["code"], event.data["reason"]))

        session.once(event_type=EventType.SESSION_CLOSED, handler=closed)
        session.on(
            event_type=EventType.SESSION_DRAINING,
            handler=lambda event: self.seen.put_nowait(("draining",)),
        )

    async def _watch_requested(self, *, session: WebTransportSession) -> bool:
        """Middleware: it may end with its answer."""
        self._watch(session)
        return True

    async def _serve(self, session: WebTransportSession) -> None:
        self.sessions.put_nowait(session)
        async with asyncio.TaskGroup() as tasks:
            datagrams = tasks.create_task(self._echo_datagrams(session))
            async for stream in session.incoming_streams():
                if isinstance(stream, WebTransportStream):
                    tasks.create_task(self._echo(stream))
                elif isinstance(stream, WebTransportReceiveStream):
                    tasks.create_task(self._answer(session, stream))
            datagrams.cancel()
        await self._stay(session)

    async def _serve_late(self, session: WebTransportSession) -> None:
        self._late.put_nowait(session)
        await session.wait_closed()
        await self._stay(session)

    async def _stay(self, session: WebTransportSession) -> None:
        """A handler that returns takes the connection with it; here the peer is to go first."""
        if session.connection is not None:
            await session.connection.wait_closed()

    async def _echo(self, stream: WebTransportStream) -> None:
        try:
            while data := await stream.read(size=65536):
                await stream.write(data=data)
            await stream.close()
        except StreamError as error:
            self.seen.put_nowait(("stream", error.error_code))

    async def _answer(self, session: WebTransportSession, stream: Any) -> None:
        try:
            data = await stream.read_all()
            await (await session.create_unidirectional_stream()).write_all(data=data)
        except StreamError as error:
            self.seen.put_nowait(("stream", error.error_code))
        except WebTransportError:
            pass  # The session has ended meanwhile.

    async def _echo_datagrams(self, session: WebTransportSession) -> None:
        try:
            transport = await session.create_datagram_transport()
            while True:
                await transport.send(data=await transport.receive())
        except WebTransportError:
            pass
