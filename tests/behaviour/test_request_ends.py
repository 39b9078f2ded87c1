"""How ordinary HTTP/3 requests end: by those who leave, and with their server."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from contextlib import suppress

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    RequestError,
)
from pywebtransport.server import HttpRequest
from pywebtransport.session import WebTransportSession

from .site import PATIENCE, at_rest, within
from .web import MEGABYTE, MakeWeb, Web, echo, hello

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
