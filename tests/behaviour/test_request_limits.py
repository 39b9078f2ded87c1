"""Back-pressure and limits of ordinary HTTP/3 requests."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    TimeoutError,
)
from pywebtransport.server import HttpRequest

from .site import PATIENCE, within
from .web import MEGABYTE, MakeWeb, hello


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
