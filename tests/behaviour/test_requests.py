"""Ordinary HTTP/3 requests beside sessions, as aioquic's HTTP/3 client sees them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    InvalidStateError,
    RequestError,
)
from pywebtransport.server import HttpRequest
from tests.support.certificate import Certificate
from tests.support.http3_client import connected

from .site import PATIENCE, within
from .web import MEGABYTE, MakeWeb, echo, hello

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


@pytest.mark.parametrize("error", [asyncio.CancelledError, BaseException])
async def test_a_handler_that_fails_with_no_ordinary_exception(
    web: MakeWeb, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """A CancelledError too, where nobody has cancelled the handler."""

    async def handler(_request: HttpRequest) -> None:
        raise error

    client = await (await web(handler)).client()
    response = await client.get("/")
    assert response.status == 500
    assert 'the handler of GET "/" failed' in caplog.text


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
