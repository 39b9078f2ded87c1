"""What users of websockets or Starlette type first."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from subprocess import run
from sys import executable
from typing import Any

from pywebtransport import ServerApp, WebTransportServer
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import StreamResetError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StreamBroadcaster, WebTransportSendStream, WebTransportStream
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .place import Place, until

ROOT = Path(__file__).parents[2]


async def until_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


async def test_first_arguments_by_position(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place, place.client() as client:

        @place.app.route("/echo")
        async def echo(session: WebTransportSession) -> None:
            transport = await session.create_datagram_transport()
            stream = await session.accept_bidirectional_stream()
            await stream.write(await stream.read(10), end_stream=True)
            await transport.send(b"datagram")
            await stream.read_all(100)
            await session.close(7, reason="enough")

        session = await client.connect(place.url("/echo"))
        stream = await session.create_bidirectional_stream()
        await stream.write("hello")
        assert await stream.read_all() == b"hello"
        transport = await session.create_datagram_transport()
        async for data in transport:
            assert data == b"datagram"
            break
        await stream.write_all(b"")
        await session.wait_closed()
        assert session.close_code == 7


async def test_facts_of_a_session(engine: str, certificate: Certificate) -> None:
    seen: asyncio.Queue[Any] = asyncio.Queue()
    async with Place(engine, certificate) as place:

        @place.app.middleware
        async def authenticate(*, session: WebTransportSession) -> bool:
            session.data["user"] = session.query["user"]
            return True

        @place.app.route("/chat")
        async def chat(session: WebTransportSession) -> None:
            seen.put_nowait((session.data, session.query, session.client))
            await session.wait_closed()

        session = await place.connect("/chat?user=a%20b&empty=&user=c")
        data, query, client = await seen.get()
        assert data == {"user": "c"}
        assert query == {"user": "c", "empty": ""}
        assert client == session.client or client[1] == session.client[1]
        assert 0 < session.latency < 10


async def test_stream_handler(engine: str, certificate: Certificate) -> None:
    """One task a stream: one that is left open blocks none, one that fails ends itself."""
    place = Place(engine, certificate)

    async def upper(stream: WebTransportStream) -> None:
        data = await stream.read_all(max_size=1000)
        if data == b"fail":
            raise RuntimeError("on purpose")
        await stream.write(data.upper())

    place.app = ServerApp(config=place.server_config(), stream_handler=upper)
    async with place:
        session = await place.connect("/any")
        idle = await session.create_bidirectional_stream()
        await idle.write(b"left open")
        failing = await session.create_bidirectional_stream()
        await failing.write_all(b"fail")
        for _ in range(3):
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"hello")
            async with asyncio.timeout(5):
                assert await stream.read_all() == b"HELLO"
        try:
            await failing.read_all()
        except StreamResetError as error:
            assert error.error_code == 1
        else:
            raise AssertionError("the stream of a failed handler is reset")
        assert session.is_ready


async def test_broadcast_waits_for_nobody(engine: str, certificate: Certificate) -> None:
    chat = StreamBroadcaster(max_backlog=100_000)
    async with Place(engine, certificate, quic_send_window=1 << 20) as place:

        @place.app.route("/")
        async def join(session: WebTransportSession) -> None:
            chat.add(await session.create_unidirectional_stream())
            await session.wait_closed()

        sessions = [await place.connect() for _ in range(3)]
        await until(lambda: len(chat) == 3)
        assert await chat.broadcast("hello\n") == 3
        streams = [await session.accept_unidirectional_stream() for session in sessions]
        assert [await stream.readline() for stream in streams] == [b"hello\n"] * 3

        async def read(stream: Any) -> int:
            return sum([len(chunk) async for chunk in stream])

        reading = [asyncio.ensure_future(read(stream)) for stream in streams[:2]]
        async with asyncio.timeout(20):
            while len(chat) == 3:
                await chat.broadcast(bytes(50_000))
                await asyncio.sleep(0.01)
        assert len(chat) == 2, "who does not read is forgotten"
        for each in reading:
            each.cancel()


def test_on_as_decorator() -> None:
    emitter = EventEmitter()

    @emitter.on(event_type=EventType.SESSION_READY)
    def ready(event: Any) -> None: ...

    assert emitter.listeners(event_type=EventType.SESSION_READY) == [ready]


async def test_texts_of_objects(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place:
        place.app.route("/")(until_closed)
        session = await place.connect()
        transport = await session.create_datagram_transport()
        for each in (place._client, place.app, place.app.server, transport):
            assert " object at 0x" not in repr(each)


async def test_port_that_the_system_chooses(engine: str, certificate: Certificate) -> None:
    place = Place(engine, certificate)
    async with WebTransportServer(config=place.server_config(bind_port=0)) as server:
        await server.listen()
        assert server.local_address is not None
        assert server.local_address[1] > 0


async def test_localhost_is_served_on_ipv6_too(engine: str, certificate: Certificate) -> None:
    """A browser tries ::1 first, whatever /etc/hosts says."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            expected = {"127.0.0.1"}
        else:
            expected = {"127.0.0.1", "::1"}
    place = Place(engine, certificate)
    config = place.server_config(bind_host="localhost", bind_port=0)
    async with WebTransportServer(config=config) as server:
        await server.listen()
        assert {host for host, *_ in server.local_addresses} == expected
        assert len({address[1] for address in server.local_addresses}) == 1
        assert server.local_address is not None
        assert server.local_address[0] == "127.0.0.1"


PROGRAM = """
from pywebtransport import ServerApp, WebTransportClient
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream

app = ServerApp()

@app.route("/echo")
async def echo(session: WebTransportSession) -> None:
    async for stream in session.incoming_streams():
        data = await stream.read_all(max_size=1000)
        if isinstance(stream, WebTransportStream):
            await stream.write_all(data)

async def main() -> None:
    async with WebTransportClient() as client:
        session = await client.connect("https://127.0.0.1:4433/echo")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"hello")
        print(await stream.read_all())
        streams = session.incoming_streams()
        await streams.aclose()
        async for data in await session.create_datagram_transport():
            print(data.decode())
"""


def test_types_of_a_first_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run(
        [executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file=", str(program)],
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT / "python"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_send_stream_is_what_is_broadcast_to() -> None:
    assert issubclass(WebTransportStream, WebTransportSendStream)
