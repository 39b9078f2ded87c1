"""HTTP/3 requests as ASGI messages, with aioquic's HTTP/3 as the client."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.middleware.gzip import GZipMiddleware
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pywebtransport.asgi import ClientDisconnected
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import InvalidStateError
from tests.asgi.conftest import MakeSite, within
from tests.support.http3_client import connected

Scope = dict[str, Any]


def requests_only(app: Any) -> Any:
    """An application that takes no lifespan."""

    async def called(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await app(scope, receive, send)

    return called


async def test_the_scope_is_the_request(site: MakeSite) -> None:
    scopes: list[Scope] = []

    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})
        assert await receive() == {"type": "http.disconnect"}

    there = await site(app)
    async with connected(there.port) as client:
        fields = [(b"x-two", b"1"), (b"cookie", b"a=b"), (b"x-two", b"2"), (b"cookie", b"c=d")]
        answer = await client.get("/a%20b/%E2%82%AC?q=%20", fields)
        assert answer.status == 204
        assert b"date" in answer.headers
    scope = scopes[-1]
    assert scope.pop("client")[0] == "127.0.0.1"
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "3",
        "method": "GET",
        "scheme": "https",
        "path": "/a b/€",
        "raw_path": b"/a%20b/%E2%82%AC",
        "query_string": b"q=%20",
        "root_path": "",
        "headers": [
            (b"host", b"localhost"),
            (b"x-two", b"1"),
            (b"cookie", b"a=b; c=d"),
            (b"x-two", b"2"),
        ],
        "server": ("127.0.0.1", there.port),
        "state": {},
        "extensions": {"http.response.trailers": {}, "http.response.early_hint": {}},
    }


def starlette() -> Starlette:
    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body(), headers={"x-host": request.url.netloc})

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(chunk async for chunk in request.stream())

    return Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("home")),
            Route("/echo", echo, methods=["POST"]),
            Route("/stream", stream, methods=["POST"]),
        ]
    )


async def test_starlette_runs_unchanged(site: MakeSite) -> None:
    async with connected((await site(starlette())).port) as client:
        answer = await client.get("/")
        assert (answer.status, bytes(answer.body)) == (200, b"home")
        assert answer.headers[b"content-length"] == b"4"
        answer = await client.post("/echo", b"x" * 300_000)
        assert bytes(answer.body) == b"x" * 300_000
        assert answer.headers[b"x-host"] == b"localhost"
        assert (await client.get("/echo")).status == 405
        assert (await client.get("/none")).status == 404


async def test_the_body_of_a_head_is_not_sent(site: MakeSite) -> None:
    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        # aioquic would wait for as many bytes as a content-length says.
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"home", "more_body": True})
        await send({"type": "http.response.body", "body": b"!"})

    async with connected((await site(app)).port) as client:
        head = await client.request("HEAD", "/").whole()
        assert (head.status, bytes(head.body)) == (200, b"")
        assert bytes((await client.get("/")).body) == b"home!"


async def test_fastapi_runs_unchanged(site: MakeSite) -> None:
    app = FastAPI()
    app.add_middleware(GZipMiddleware, minimum_size=100)

    class Stamp(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-stamp"] = request.scope["http_version"]
            return response

    app.add_middleware(Stamp)

    @app.get("/items/{number}")
    async def item(number: int, q: str = "") -> dict[str, Any]:
        return {"number": number, "q": q}

    @app.get("/many")
    def many() -> list[int]:
        return list(range(1000))

    async with connected((await site(app)).port) as client:
        answer = await client.get("/items/7?q=a%26b")
        assert bytes(answer.body) == b'{"number":7,"q":"a&b"}'
        assert answer.headers[b"x-stamp"] == b"3"
        assert (await client.get("/items/x")).status == 422
        packed = await client.get("/many", [(b"accept-encoding", b"gzip")])
        assert packed.headers[b"content-encoding"] == b"gzip"
        assert (await client.get("/openapi.json")).status == 200


async def test_bodies_stream_both_ways_at_once(site: MakeSite) -> None:
    async with connected((await site(starlette())).port) as client:
        answer = client.request("POST", "/stream", end=False)
        for number in range(5):
            client.send(answer, b"%d" % number)
            await answer.until(lambda each, size=number: len(each.body) > size)
        client.send(answer, b"!", end=True)
        await answer.whole()
        assert bytes(answer.body) == b"01234!"


async def test_a_body_that_nobody_receives_stays_with_its_client(site: MakeSite) -> None:
    size = 8 << 20
    received: list[int] = []
    go_on = asyncio.Event()

    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await go_on.wait()
        while (message := await receive())["more_body"]:
            received.append(len(message["body"]))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d" % sum(received)})

    async with connected((await site(app)).port) as client:
        answer = client.request("POST", "/", body=bytes(size), end=True)
        sender = client._quic._streams[answer.stream_id].sender
        acknowledged, still = -1, 0
        while still < 5:
            still = still + 1 if sender._buffer_start == acknowledged else 0
            acknowledged = sender._buffer_start
            await asyncio.sleep(0.05)
        assert acknowledged < size // 2
        go_on.set()
        await answer.whole()
        assert bytes(answer.body) == b"%d" % size
        assert max(received) <= 1 << 16


async def test_a_client_that_does_not_read_stops_the_application(site: MakeSite) -> None:
    sent = 0
    failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        try:
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
                sent += 65536
        except Exception as error:
            failure.set_result(error)
            raise

    there = await site(app, write_timeout=1.0)
    async with connected(there.port, max_data=1 << 20, max_stream_data=1 << 20) as client:
        client._quic._write_stream_limits = lambda *args, **kwargs: None  # type: ignore[method-assign]
        client._quic._write_connection_limits = lambda *args, **kwargs: None  # type: ignore[method-assign]
        answer = client.request("GET", "/")
        error = await within(failure)
        assert isinstance(error, ClientDisconnected)
        assert isinstance(error, OSError)
        assert "write_timeout=1 s" in str(error)
        assert sent < 8 << 20
        assert await answer.until_reset() == ErrorCodes.H3_REQUEST_CANCELLED


async def test_a_client_that_leaves_is_told(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()

    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            while (message := await receive())["type"] == "http.request":
                continue
        else:
            await receive()
            await send({"type": "http.response.start", "status": 200})
            message = await receive()
        told.put_nowait(message["type"])
        try:
            await send({"type": "http.response.body", "body": b"x"})
        except OSError as error:
            told.put_nowait(error)
        # What an application does about it is no failure of the server's.
        raise LookupError("gone")

    async with connected((await site(app)).port) as client:
        with caplog.at_level(logging.WARNING):
            for method, body in (("GET", None), ("POST", b"half")):
                answer = client.request(method, "/", body=body, end=body is None)
                if method == "GET":
                    await answer.until(lambda each: each.sections)
                else:
                    await client.ping()
                client.give_up(answer)
                assert await within(told.get()) == "http.disconnect"
                assert isinstance(await within(told.get()), ClientDisconnected)
    assert not caplog.records


async def test_starlette_stops_streaming_to_a_client_that_left(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = asyncio.Event()

    async def endless(request: Request) -> StreamingResponse:
        async def chunks() -> Any:
            try:
                while True:
                    yield b"x" * 1000
                    await asyncio.sleep(0.001)
            finally:
                stopped.set()

        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/", endless)])
    async with connected((await site(app)).port) as client:
        with caplog.at_level(logging.WARNING):
            answer = client.request("GET", "/")
            await answer.until(lambda each: len(each.body) > 10_000)
            client.give_up(answer)
            await within(stopped.wait())
    assert not caplog.records


async def test_starlette_asks_whether_the_client_is_there(site: MakeSite) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def poll(request: Request) -> PlainTextResponse:
        await request.body()
        while not await request.is_disconnected():
            asked.set()
            await asyncio.sleep(0.01)
        gone.set()
        return PlainTextResponse("nobody hears this")

    app = Starlette(routes=[Route("/", poll)])
    async with connected((await site(app)).port) as client:
        answer = client.request("GET", "/")
        await within(asked.wait())
        client.give_up(answer)
        await within(gone.wait())


async def test_trailers_and_early_hints(site: MakeSite) -> None:
    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        first = {"headers": [(b"X-Sum", b"1")], "more_trailers": True}
        await send({"type": "http.response.trailers", **first})
        await send({"type": "http.response.trailers", "headers": [(b"x-more", b"2")]})

    async with connected((await site(app)).port) as client:
        answer = await client.get("/")
        assert answer.statuses == [103, 200]
        assert (b"link", b"</a.css>; rel=preload") in answer.sections[0]
        assert bytes(answer.body) == b"x"
        assert answer.trailers == [(b"x-sum", b"1"), (b"x-more", b"2")]


async def test_fields_of_http_1_are_left_out(site: MakeSite) -> None:
    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        names = ("Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Date", "X-Kept")
        headers = [(name.encode(), b"v") for name in names]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytearray(b"ok")})

    async with connected((await site(app)).port) as client:
        answer = await client.get("/")
        assert set(answer.headers) == {b":status", b"date", b"x-kept"}
        assert answer.headers[b"date"] == b"v"


@pytest.mark.parametrize(
    ("messages", "error", "words"),
    [
        ([{"type": "http.response.pathsend"}], ValueError, "no 'http.response.pathsend', but http"),
        ([{"type": "http.response.body"}], InvalidStateError, "has no response yet"),
        ([{"type": "http.response.start", "status": 101}], ValueError, "200..599, it is 101"),
        (
            [{"type": "http.response.start", "status": 200}] * 2,
            InvalidStateError,
            "has been answered with status 200",
        ),
        (
            [
                {"type": "http.response.start", "status": 200},
                {"type": "http.response.body"},
                {"type": "http.response.body"},
            ],
            InvalidStateError,
            "http.response.body comes after the end",
        ),
        (
            [
                {"type": "http.response.start", "status": 200},
                {"type": "http.response.trailers"},
            ],
            InvalidStateError,
            '"trailers": True',
        ),
        (
            [
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-length", b"2")],
                },
                {"type": "http.response.body", "body": b"xxx"},
            ],
            ValueError,
            "content-length",
        ),
    ],
)
async def test_what_cannot_be_sent(
    site: MakeSite, messages: list[dict[str, Any]], error: type[Exception], words: str
) -> None:
    raised: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        try:
            for message in messages:
                await send(message)
        except Exception as problem:
            raised.set_result(problem)

    async with connected((await site(app)).port) as client:
        client.request("GET", "/")
        problem = await within(raised)
    assert isinstance(problem, error)
    assert words in str(problem)


async def test_failures_are_answered_and_logged(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        if scope["path"] == "/before":
            raise LookupError("first")
        if scope["path"] == "/never":
            return
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        if scope["path"] == "/after":
            raise LookupError("second")

    async with connected((await site(app)).port) as client:
        with caplog.at_level(logging.ERROR):
            assert (await client.get("/before")).status == 500
            assert (await client.get("/never")).status == 500
            for path in ("/after", "/unfinished"):
                reset = await client.request("GET", path).until_reset()
                assert reset == ErrorCodes.H3_INTERNAL_ERROR
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 4
    assert "GET" in texts[0]
    assert '"/before"' in texts[0]
    assert "/never" in texts[1]
    assert "/after" in texts[2]
    assert texts[3].startswith("application returned with its response unfinished")


async def test_a_client_that_sends_no_body_in_time(site: MakeSite) -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()

    @requests_only
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            continue
        told.put_nowait(message["type"])

    async with connected((await site(app, read_timeout=0.3)).port) as client:
        answer = client.request("POST", "/", body=b"half", end=False)
        assert await within(told.get()) == "http.disconnect"
        await answer.until(lambda each: each.sections)
        assert answer.status == 408


async def test_sessions_and_requests_on_one_port(site: MakeSite) -> None:
    app = FastAPI()

    @app.get("/")
    async def home(request: Request) -> dict[str, str]:
        return {"from": request.state.name}

    async def live(scope: Scope, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        await send({"type": "webtransport.datagram.send", "data": scope["state"]["name"].encode()})
        await receive()

    async def lifespan(app: Any) -> Any:
        yield {"name": "lifespan"}

    app.mount("/live", live)
    app.router.lifespan_context = __import__("contextlib").asynccontextmanager(lifespan)
    there = await site(app)
    session = await there.connect("/live")
    datagrams = await session.create_datagram_transport()
    assert await within(datagrams.receive()) == b"lifespan"
    async with connected(there.port) as client:
        answer = await client.get("/")
        assert bytes(answer.body) == b'{"from":"lifespan"}'


async def test_an_upload_in_parts(site: MakeSite) -> None:
    app = FastAPI()

    @app.post("/upload")
    async def upload(request: Request) -> dict[str, int]:
        return {"size": sum([len(chunk) async for chunk in request.stream()])}

    async with connected((await site(app)).port) as client:
        answer = client.request("POST", "/upload", [(b"content-length", b"1000000")], end=False)
        for _ in range(10):
            client.send(answer, bytes(100_000))
        client.send(answer, b"", end=True)
        await answer.whole()
        assert bytes(answer.body) == b'{"size":1000000}'
