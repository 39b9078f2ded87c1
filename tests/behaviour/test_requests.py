"""Ordinary HTTP/3 requests beside sessions, as aioquic's HTTP/3 client sees them."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    InvalidStateError,
    RequestError,
    TimeoutError,
)
from pywebtransport.server import HttpRequest, RequestHandler
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate
from tests.support.http3_client import Http3Client, connected

from .site import PATIENCE, at_rest, within

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


@pytest.fixture
async def web(engine: str, certificate: Certificate) -> AsyncIterator[MakeWeb]:
    """Call it with a handler, and options, to get a running server."""
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


# What arrives.


async def test_a_handler_sees_the_request_and_its_answer_arrives(web: MakeWeb) -> None:
    seen: list[HttpRequest] = []

    async def handler(request: HttpRequest) -> None:
        seen.append(request)
        assert await request.read() == b""
        await request.respond(201, {"Content-Type": "text/plain", "x": "caf\xe9"})
        await request.write(b"made ")
        await request.write(memoryview(bytearray(b"it")))
        await request.end()

    server = await web(handler)
    client = await server.client()
    fields = [(b"accept", b"*/*"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"x-raw", b"\xff")]
    response = await client.get("/a/b?c=d&e", fields)
    assert (response.status, bytes(response.body)) == (201, b"made it")
    assert response.headers == {
        b":status": b"201",
        b"content-type": b"text/plain",
        b"x": b"caf\xe9",
    }
    (request,) = seen
    assert (request.method, request.scheme, request.authority) == ("GET", "https", "localhost")
    assert request.path == "/a/b?c=d&e"
    assert request.headers == [(b"accept", b"*/*"), (b"cookie", b"a=1; b=2"), (b"x-raw", b"\xff")]
    assert request.client is not None and request.client[0] == "127.0.0.1"
    assert request.connection.remote_address == request.client
    assert request.trailers == []
    assert (request.status, request.is_complete, request.is_disconnected) == (201, True, False)
    assert (request.bytes_received, request.bytes_sent) == (0, 7)
    assert server.app.server._stats.http_requests == 1


async def test_bodies_of_any_size_come_back(web: MakeWeb) -> None:
    server = await web(echo)
    client = await server.client()
    for size in (0, 1, 63, 64, 1200, 16_383, 16_384, 65_536, 65_537, 3 * MEGABYTE):
        body = bytes(range(256)) * (size // 256 + 1)
        response = await client.post("/", body[:size])
        assert response.status == 200
        assert bytes(response.body) == body[:size]


async def test_many_requests_at_once_on_one_connection(web: MakeWeb) -> None:
    server = await web(echo)
    client = await server.client()
    async with asyncio.timeout(PATIENCE):
        responses = await asyncio.gather(
            *(client.post(f"/{number}", str(number).encode() * 500) for number in range(50))
        )
    for number, response in enumerate(responses):
        assert bytes(response.body) == str(number).encode() * 500


async def test_trailers_both_ways(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        body = await request.read_all()
        await request.respond(200)
        await request.write(body)
        await request.end([(b"x-got", value) for name, value in request.trailers])

    client = await (await web(handler)).client()
    response = client.request("POST", "/", body=b"x" * 100_000, end=False)
    client.trailers(response, [(b"x-sum", b"42")])
    await response.whole()
    assert response.trailers == [(b"x-got", b"42")]
    assert len(response.body) == 100_000


async def test_trailers_of_a_body_read_bit_by_bit(web: MakeWeb) -> None:
    """Its end is not seen before they are known, in however small steps it is read."""

    async def handler(request: HttpRequest) -> None:
        while await request.read(1):
            pass
        await request.respond(200, request.trailers, end=True)

    client = await (await web(handler)).client()
    response = client.request("POST", "/", body=b"abc", end=False)
    client.trailers(response, [(b"x-sum", b"42")])
    await response.whole()
    assert response.headers[b"x-sum"] == b"42"


async def test_interim_responses_come_first(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        await request.respond(103, {"link": "</a.css>"})
        await request.respond(103, {"link": "</b.css>"})
        await request.respond(200, end=True)

    client = await (await web(handler)).client()
    response = await client.get("/")
    assert response.statuses == [103, 103, 200]


async def test_a_client_that_expects_100_is_told_to_go_on(web: MakeWeb) -> None:
    async def late(request: HttpRequest) -> None:
        body = await request.read_all()
        await request.respond(200)
        await request.write(body)

    server = await web(late)
    client = await server.client()
    response = client.request("POST", "/", [(b"expect", b"100-continue")], end=False)
    await response.until(lambda r: r.sections)
    assert response.statuses == [100]
    client.send(response, b"body", end=True)
    await response.whole()
    assert response.statuses == [100, 200]
    assert bytes(response.body) == b"body"


async def test_an_answer_without_reading_needs_no_100(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        await request.respond(413, end=True)

    client = await (await web(handler)).client()
    response = client.request("POST", "/", [(b"expect", b"100-continue")], end=False)
    await response.whole()
    assert response.statuses == [413]
    await response.until(lambda r: r.stopped is not None)
    assert response.stopped == ErrorCodes.H3_NO_ERROR


async def test_head_has_no_body(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        await request.respond(200, {"x": "1"})
        await request.write(b"hello")

    client = await (await web(handler)).client()
    response = await client.request("HEAD", "/").whole()
    assert response.headers[b"x"] == b"1"
    assert response.body == b""
    assert bytes((await client.get("/")).body) == b"hello"


# What the handler gets wrong.


async def test_what_cannot_be_sent_is_refused_in_words(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        for status in (99, 101, 600):
            with pytest.raises(ValueError, match=f"status must be.*{status}"):
                await request.respond(status)
        with pytest.raises(ValueError, match="not the last"):
            await request.respond(103, end=True)
        with pytest.raises(ValueError, match="connection-specific"):
            await request.respond(200, {"Connection": "close"})
        with pytest.raises(ValueError, match="CR or LF"):
            await request.respond(200, {"x": "a\r\nb: c"})
        with pytest.raises(InvalidStateError, match="respond\\(\\) comes first"):
            await request.write(b"x")
        with pytest.raises(InvalidStateError, match="respond\\(\\) comes first"):
            await request.end()
        with pytest.raises(ValueError, match="max_size"):
            await request.read(0)
        await request.respond(200, {"content-length": "5"})
        with pytest.raises(InvalidStateError, match="answered with status 200"):
            await request.respond(200)
        with pytest.raises(ValueError, match=r"6 bytes or more.*5"):
            await request.write(b"123456")
        await request.write(b"1234")
        with pytest.raises(ValueError, match=r"4 bytes.*5"):
            await request.end()
        await request.write(b"5")
        await request.end()
        await request.end()
        with pytest.raises(InvalidStateError, match="has ended"):
            await request.write(b"x")

    server = await web(handler)
    response = await (await server.client()).get("/")
    assert bytes(response.body) == b"12345"
    assert server.errors == []


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_handler_that_raises(
    web: MakeWeb, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    async def handler(request: HttpRequest) -> None:
        if when == "after":
            await request.respond(200)
            await request.write(b"begun")
        raise RuntimeError("a bug")

    client = await (await web(handler)).client()
    response = client.request("GET", "/secret?token=1")
    if when == "before":
        await response.whole()
        assert response.status == 500
        assert response.body == b""
    else:
        assert await response.until_reset() == ErrorCodes.H3_INTERNAL_ERROR
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage() == 'the handler of GET "/secret?..." failed'


async def test_a_handler_that_does_not_answer(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_request: HttpRequest) -> None:
        return

    client = await (await web(handler)).client()
    response = await client.get("/")
    assert response.status == 500
    assert "returned without an answer" in caplog.text


async def test_a_body_shorter_than_announced_is_no_end(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        await request.respond(200, {"content-length": "5"})
        await request.write(b"1234")

    client = await (await web(handler)).client()
    assert await client.request("GET", "/").until_reset() == ErrorCodes.H3_INTERNAL_ERROR


async def test_two_readers_are_one_too_many(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        first = asyncio.ensure_future(request.read())
        await asyncio.sleep(0)
        with pytest.raises(InvalidStateError, match="another task"):
            await request.read()
        await request.respond(200)
        await request.write(await first)

    server = await web(handler)
    client = await server.client()
    response = client.request("POST", "/", end=False)
    await response.until(lambda r: r.sections)
    client.send(response, b"late", end=True)
    await response.whole()
    assert bytes(response.body) == b"late"


# What clients get wrong.


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"3"), (b"content-length", b"4")],
        [(b"content-length", b"x")],
        [(b"connection", b"close")],
        [(b"transfer-encoding", b"chunked")],
        [(b"te", b"gzip")],
        [(b":late", b"1")],
    ],
)
async def test_a_malformed_request_is_not_shown(
    web: MakeWeb, fields: list[tuple[bytes, bytes]]
) -> None:
    server = await web(hello)
    client = await server.client()
    response = client.request("GET", "/", fields)
    assert await response.until_reset() == ErrorCodes.H3_MESSAGE_ERROR
    assert bytes((await client.get("/")).body) == b"hello"
    assert server.ended.qsize() == 1


@pytest.mark.parametrize("body", [b"1234", b"123456"])
async def test_a_body_of_another_length_than_announced(web: MakeWeb, body: bytes) -> None:
    async def handler(request: HttpRequest) -> None:
        with pytest.raises(RequestError) as raised:
            await request.read_all()
        assert raised.value.error_code == ErrorCodes.H3_MESSAGE_ERROR
        assert request.is_disconnected
        with pytest.raises(RequestError):
            await request.respond(200)

    server = await web(handler)
    client = await server.client()
    response = client.request("POST", "/", [(b"content-length", b"5")], body)
    assert await response.until_reset() == ErrorCodes.H3_MESSAGE_ERROR
    await within(server.ended.get())
    assert server.errors == []


async def test_without_a_handler_the_answer_is_404(engine: str, certificate: Certificate) -> None:
    config = ServerConfig(
        engine=engine,
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        bind_host="127.0.0.1",
        bind_port=0,
    )
    app = ServerApp(config=config)
    async with app:
        await app.server.listen()
        assert app.server.local_address is not None
        async with connected(app.server.local_address[1]) as client:
            assert (await client.get("/")).status == 404
            assert (await client.post("/", b"x" * 100)).status == 404


# Those who leave.


async def test_a_client_that_gives_up_is_seen_by_whoever_waits(web: MakeWeb) -> None:
    started = asyncio.Event()
    seen: list[str] = []

    async def handler(request: HttpRequest) -> None:
        async def reader() -> None:
            with pytest.raises(RequestError) as raised:
                await request.read()
            seen.append(f"read {raised.value.error_code:#x}")

        async def watcher() -> None:
            await request.wait_disconnected()
            seen.append(f"watch {request.is_disconnected}")

        tasks = [asyncio.ensure_future(each()) for each in (reader, watcher)]
        await asyncio.sleep(0)
        started.set()
        await asyncio.gather(*tasks)
        with pytest.raises(RequestError):
            await request.write(b"x")
        # It needs no answer.

    server = await web(handler)
    client = await server.client()
    response = client.request("POST", "/", end=False)
    await within(started.wait())
    client.give_up(response, 0x10C)
    await within(server.ended.get())
    assert sorted(seen) == ["read 0x10c", "watch True"]
    assert server.errors == []
    # The connection goes on.
    assert client.closed is None


async def test_a_writer_hears_that_its_reader_has_left(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        await request.respond(200)
        while True:
            await request.write(bytes(65_536))

    server = await web(handler)
    client = await server.client(max_stream_data=100_000)
    response = client.request("GET", "/")
    await response.until(lambda r: len(r.body) > 50_000)
    client.give_up(response)
    await within(server.ended.get())
    (error,) = server.errors
    assert isinstance(error, RequestError)
    assert error.error_code == ErrorCodes.H3_REQUEST_CANCELLED


async def test_the_end_of_the_connection_ends_its_requests(web: MakeWeb) -> None:
    started = asyncio.Event()

    async def handler(request: HttpRequest) -> None:
        started.set()
        await request.wait_disconnected()
        assert request.is_disconnected
        await request.read()

    server = await web(handler)
    client = await server.client()
    client.request("POST", "/", end=False)
    await within(started.wait())
    client.close()
    await within(server.ended.get())
    (error,) = server.errors
    assert isinstance(error, RequestError)
    assert "connection" in str(error)


async def test_the_watch_ends_with_the_response(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        watch = asyncio.ensure_future(request.wait_disconnected())
        await asyncio.sleep(0)
        assert not watch.done()
        await request.respond(200, end=True)
        await watch
        assert not request.is_disconnected

    server = await web(handler)
    assert (await (await server.client()).get("/")).status == 200
    assert server.errors == []


async def test_the_handler_may_abort(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        request.abort(ErrorCodes.H3_EXCESSIVE_LOAD)
        request.abort()
        with pytest.raises(RequestError):
            await request.respond(200)

    server = await web(handler)
    client = await server.client()
    response = client.request("POST", "/", end=False)
    assert await response.until_reset() == ErrorCodes.H3_EXCESSIVE_LOAD
    await response.until(lambda r: r.stopped is not None)
    assert response.stopped == ErrorCodes.H3_EXCESSIVE_LOAD
    assert server.errors == []


# Back-pressure and limits.


async def test_a_body_that_nobody_reads_stays_with_the_client(web: MakeWeb) -> None:
    go = asyncio.Event()

    async def handler(request: HttpRequest) -> None:
        await go.wait()
        body = await request.read_all(8 * MEGABYTE)
        await request.respond(200, {"x-size": str(len(body))}, end=True)

    server = await web(handler, quic_stream_receive_window=65_536)
    client = await server.client()
    response = client.request("POST", "/", body=bytes(4 * MEGABYTE))
    other = client.request("GET", "/other")
    stream = client._quic._streams[response.stream_id]
    async with asyncio.timeout(PATIENCE):
        # QUIC's window fills within some round trips.
        for _ in range(20):
            await client.ping()
    # The window, and 64 KiB that came with the head.
    assert 60_000 < stream.sender.highest_offset <= 65_536 + 65_536 + 1000
    go.set()
    await response.whole()
    await other.whole()
    assert response.headers[b"x-size"] == b"%d" % (4 * MEGABYTE)


async def test_a_write_waits_for_a_client_that_does_not_read(web: MakeWeb) -> None:
    written = 0

    async def handler(request: HttpRequest) -> None:
        nonlocal written
        await request.respond(200)
        for _ in range(100):
            await request.write(bytes(65_536))
            written += 65_536

    server = await web(handler, write_timeout=0.5, max_stream_buffer_size=65_536)
    client = await server.client(max_stream_data=50_000)
    # No more credit than at first.
    client._quic._write_stream_limits = lambda *_, **__: None  # type: ignore[method-assign]
    client.request("GET", "/")
    await within(server.ended.get())
    (error,) = server.errors
    assert isinstance(error, TimeoutError)
    assert "write_timeout=0.5" in str(error)
    assert written <= 50_000 + 3 * 65_536


async def test_a_silent_client_is_not_waited_for_without_end(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        with pytest.raises(TimeoutError, match=r"read_timeout=0\.2"):
            await request.read()
        await request.respond(408, end=True)

    server = await web(handler, read_timeout=0.2)
    client = await server.client()
    response = await client.request("POST", "/", end=False).whole()
    assert response.status == 408
    assert server.errors == []


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_handler_that_waits_in_vain_is_no_failure(
    web: MakeWeb, caplog: pytest.LogCaptureFixture, is_begun: bool
) -> None:
    async def handler(request: HttpRequest) -> None:
        if is_begun:
            await request.respond(200)
        await request.read()

    client = await (await web(handler, read_timeout=0.2)).client()
    response = client.request("POST", "/", end=False)
    if is_begun:
        assert await response.until_reset() == ErrorCodes.H3_REQUEST_CANCELLED
    else:
        assert (await response.whole()).status == 408
    assert "gave up: " in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_read_all_has_a_limit(web: MakeWeb) -> None:
    async def handler(request: HttpRequest) -> None:
        try:
            await request.read_all(1000)
        except ValueError as error:
            assert "max_size=1000" in str(error)
            await request.respond(413, end=True)
        else:
            await request.respond(200, end=True)

    client = await (await web(handler)).client()
    assert (await client.post("/", bytes(1000))).status == 200
    assert (await client.post("/", bytes(1001))).status == 413


async def test_so_many_requests_of_a_connection_at_once(web: MakeWeb) -> None:
    go = asyncio.Event()

    async def handler(request: HttpRequest) -> None:
        await go.wait()
        await request.respond(200, end=True)

    server = await web(handler, max_requests_per_connection=3)
    client = await server.client()
    held = [client.request("GET", "/") for _ in range(3)]
    refused = client.request("GET", "/")
    assert await refused.until_reset() == ErrorCodes.H3_REQUEST_REJECTED
    go.set()
    for response in held:
        assert (await response.whole()).status == 200
    assert (await client.get("/")).status == 200


async def test_handlers_of_requests_given_up_count(web: MakeWeb) -> None:
    """Who asks and leaves, again and again, does not make the server run more of them."""
    go, running = asyncio.Event(), 0

    async def handler(request: HttpRequest) -> None:
        nonlocal running
        running += 1
        await go.wait()

    server = await web(handler, max_requests_per_connection=3)
    client = await server.client()
    for _ in range(3):
        response = client.request("POST", "/", end=False)
        await client.ping()
        client.give_up(response)
        await client.ping()
    refused = client.request("GET", "/")
    assert await refused.until_reset() == ErrorCodes.H3_REQUEST_REJECTED
    assert running == 3
    go.set()
    for _ in range(3):
        await within(server.ended.get())


async def test_a_request_that_takes_too_long_to_be_asked(web: MakeWeb) -> None:
    server = await web(hello, request_head_timeout=0.2)
    client = await server.client()
    stream_id = client._quic.get_next_available_stream_id()
    response = client.responses[stream_id] = client.request("GET", "/")
    await response.whole()
    stream_id = client._quic.get_next_available_stream_id()
    slow = client.responses[stream_id] = type(response)(stream_id)
    client._quic.send_stream_data(stream_id, b"\x01\x20\x00\x00")
    client.transmit()
    assert await slow.until_reset() == ErrorCodes.H3_REQUEST_INCOMPLETE


async def test_a_large_section_is_answered_431(web: MakeWeb) -> None:
    server = await web(hello, max_field_section_size=2000)
    client = await server.client()
    assert (await client.get("/", [(b"x", bytes(1700).replace(b"\0", b"v"))])).status == 200
    assert (await client.get("/", [(b"x", bytes(2000).replace(b"\0", b"v"))])).status == 431


# Beside sessions, and the end.


def wt_client(server: Web) -> WebTransportClient:
    config = ClientConfig(ca_certs=server.certificate.certfile, engine=server.engine)
    return WebTransportClient(config=config)


async def test_requests_beside_a_session_on_one_connection(web: MakeWeb) -> None:
    server = await web(echo)
    accepted: asyncio.Queue[WebTransportSession] = asyncio.Queue()

    @server.app.route(path="/wt")
    async def serve(session: WebTransportSession) -> None:
        accepted.put_nowait(session)

    client = await server.client()
    assert (await client.get("/")).status == 200
    connect = client.raw_request(
        [
            (b":method", b"CONNECT"),
            (b":protocol", b"webtransport"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", b"/wt"),
            (b"sec-webtransport-http3-draft02", b"1"),
        ],
        end=False,
    )
    await connect.until(lambda r: r.sections)
    assert connect.status == 200
    session = await within(accepted.get())
    # Its handler has returned: the session ends, and the connection stays for requests.
    await connect.until(lambda r: r.is_ended)
    await within(session.wait_closed())
    client._quic.send_stream_data(connect.stream_id, b"", end_stream=True)
    client.transmit()
    assert bytes((await client.post("/", b"still here")).body) == b"still here"
    assert session.connection.is_connected


async def test_sessions_of_other_clients_go_on(web: MakeWeb) -> None:
    server = await web(hello)

    @server.app.route(path="/")
    async def serve(session: WebTransportSession) -> None:
        async for stream in session.incoming_streams():
            await stream.write(data=await stream.read())

    async with wt_client(server) as client:
        session = await client.connect(url=f"https://127.0.0.1:{server.port}/")
        assert (await (await server.client()).get("/")).status == 200
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"ping")
        assert await within(stream.read()) == b"ping"


async def test_a_connection_for_requests_alone_is_left_open_and_ends_in_time(web: MakeWeb) -> None:
    server = await web(hello, first_session_timeout=0.3, request_keep_alive_timeout=0.6)
    silent, client = await server.client(), await server.client()
    await client.get("/")
    async with asyncio.timeout(PATIENCE):
        await silent.wait_closed()
        assert client.closed is None
        await client.get("/")
        await client.wait_closed()
    assert client.closed is not None
    assert client.closed.error_code == ErrorCodes.H3_NO_ERROR


async def test_a_shutdown_lets_requests_end(web: MakeWeb) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def handler(request: HttpRequest) -> None:
        await request.respond(200)
        started.set()
        await go.wait()
        await request.write(bytes(MEGABYTE))

    server = await web(handler, graceful_timeout=PATIENCE)
    client = await server.client()
    response = client.request("GET", "/")
    await within(started.wait())
    shutdown = asyncio.ensure_future(server.app.shutdown())
    await client.ping()
    refused = client.request("GET", "/")
    assert await refused.until_reset() == ErrorCodes.H3_REQUEST_REJECTED
    go.set()
    await response.whole()
    assert len(response.body) == MEGABYTE
    await within(shutdown)
    assert server.errors == []


async def test_a_shutdown_does_not_wait_without_end(web: MakeWeb) -> None:
    started: asyncio.Queue[None] = asyncio.Queue()

    async def handler(request: HttpRequest) -> None:
        if request.path == "/begun":
            await request.respond(200)
        started.put_nowait(None)
        await asyncio.Event().wait()

    server = await web(handler, graceful_timeout=0.2)
    client = await server.client()
    waiting, begun = client.request("GET", "/"), client.request("GET", "/begun")
    for _ in range(2):
        await within(started.get())
    await within(server.app.shutdown())
    assert (await waiting.whole()).status == 503
    assert await begun.until_reset() == ErrorCodes.H3_REQUEST_CANCELLED
    assert all(isinstance(error, asyncio.CancelledError) for error in server.errors)


async def test_a_closed_server_has_answered(web: MakeWeb) -> None:
    """The last bytes of a response reach the client although the server closes at once."""

    async def handler(request: HttpRequest) -> None:
        await request.respond(200)
        await request.write(bytes(4 * MEGABYTE))

    server = await web(handler, quic_send_window=8 * MEGABYTE, max_stream_buffer_size=8 * MEGABYTE)
    client = await server.client()
    response = client.request("GET", "/")
    await within(server.ended.get())
    await within(server.app.shutdown())
    await response.whole()
    assert len(response.body) == 4 * MEGABYTE


async def test_the_access_log_has_a_line_for_each(
    web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    server = await web(echo, access_log=True)
    client = await server.client()
    await client.post("/p?token=1", b"body")
    await within(server.ended.get())
    await asyncio.sleep(0)
    (line,) = [text for text in caplog.messages if text.startswith("request:")]
    assert 'request: method=POST path="/p?..." peer=127.0.0.1:' in line
    assert "status=200 received=4 sent=4 after" in line


@pytest.mark.parametrize("way", ["answered", "given up", "lost"])
async def test_what_is_over_is_freed_at_once(web: MakeWeb, way: str) -> None:
    """Requests, and then their connection: the collector has nothing to do with it."""
    kept: list[weakref.ref[object]] = []
    started = asyncio.Event()

    async def handler(request: HttpRequest) -> None:
        kept.extend((weakref.ref(request), weakref.ref(request.connection)))
        started.set()
        with suppress(RequestError):
            await request.read()
            await request.respond(200, end=True)

    server = await web(handler)
    client = await server.client()
    gc.collect()
    gc.disable()
    try:
        response = client.request("POST", "/", end=way == "answered")
        if way == "given up":
            await within(started.wait())
            client.give_up(response)
        elif way == "lost":
            await within(started.wait())
            client.close()
        else:
            await response.whole()
        await within(server.ended.get())
        assert await at_rest(lambda: kept[0]() is None)
        client.close()
        assert await at_rest(lambda: kept[1]() is None)
    finally:
        gc.enable()
