"""Sessions of applications that Starlette and FastAPI route, and of routers in front of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from pywebtransport import WebTransportSession
from pywebtransport.asgi import AltSvcMiddleware, as_asgi
from pywebtransport.exceptions import MiddlewareRejected, WebTransportError
from tests.asgi.conftest import MakeSite, within


async def live(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Tells a client where the router thought it was."""
    assert scope["type"] == "webtransport"
    await receive()
    await send({"type": "webtransport.accept"})
    params = ",".join(f"{name}={value}" for name, value in scope["path_params"].items())
    told = f"{scope['root_path']} {scope['path']} {params}".encode()
    await send({"type": "webtransport.stream.open", "bidirectional": False})
    stream = (await receive())["stream"]
    await send(
        {"type": "webtransport.stream.send", "stream": stream, "data": told, "end_stream": True}
    )
    await receive()


async def told(session: WebTransportSession) -> str:
    stream = await within(session.accept_unidirectional_stream())
    text = (await within(stream.read_all())).decode()
    await session.close(close_connection=False)
    return text


async def home(request: Any) -> PlainTextResponse:
    return PlainTextResponse("home")


def starlette() -> Starlette:
    deeper = Router([Mount("/{game}", live)])
    return Starlette(
        routes=[
            Route("/", home),
            Mount("/live", live),
            Mount("/rooms/{room:int}", deeper),
        ]
    )


def fastapi() -> FastAPI:
    app = FastAPI()
    app.get("/")(home)
    app.mount("/live", live)
    app.mount("/rooms/{room:int}", Router([Mount("/{game}", live)]))
    return app


@pytest.mark.parametrize("make", [starlette, fastapi])
async def test_what_is_mounted_serves_sessions(site: MakeSite, make: Any) -> None:
    there = await site(make())
    assert await told(await there.connect("/live")) == "/live /live/ "
    assert await told(await there.connect("/live/a")) == "/live /live/a "
    assert await told(await there.connect("/rooms/7/go/x")) == "/rooms/7/go /rooms/7/go/x " + (
        "room=7,game=go"
    )
    for path in ("/", "/rooms/seven/go"):
        with pytest.raises(WebTransportError, match="404"):
            await there.connect(path)


async def test_mounts_are_found_behind_alt_svc(site: MakeSite) -> None:
    there = await site(AltSvcMiddleware(starlette()))
    assert await told(await there.connect("/live")) == "/live /live/ "


async def test_a_router_that_takes_no_sessions_says_why(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    inner = starlette()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    there = await site(app)
    with caplog.at_level(logging.ERROR), pytest.raises(WebTransportError, match="500"):
        await there.connect("/live")
    (record,) = caplog.records
    assert "starlette.routing takes no sessions. Serve the Starlette" in record.getMessage()


async def test_a_handler_of_sessions_is_mounted(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(session: WebTransportSession) -> None:
        assert session.data["scope"]["path_params"] == {"room": "a"}
        if session.query:
            raise MiddlewareRejected(status_code=401)
        stream = await session.accept_bidirectional_stream()
        await stream.write(await stream.read_all(), end_stream=True)

    app = FastAPI()
    app.mount("/echo/{room}", as_asgi(echo))
    there = await site(app)
    session = await there.connect("/echo/a")
    stream = await session.create_bidirectional_stream()
    await stream.write(b"hello", end_stream=True)
    assert await within(stream.read_all()) == b"hello"
    await within(session.wait_closed())
    assert session.close_code == 0
    session = await there.connect("/echo/a?token=bad")
    await within(session.wait_closed())
    assert session.close_code == 401


async def test_a_client_that_leaves_a_mounted_handler_is_no_failure(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def wait(session: WebTransportSession) -> None:
        try:
            await session.accept_bidirectional_stream()
        finally:
            ended.set()

    app = FastAPI()
    app.mount("/wait", as_asgi(wait))
    session = await (await site(app)).connect("/wait")
    with caplog.at_level(logging.WARNING):
        await session.close()
        await within(ended.wait())
    assert not caplog.records


async def test_a_handler_of_sessions_on_another_server_says_so() -> None:
    async def handler(session: WebTransportSession) -> None: ...

    with pytest.raises(RuntimeError, match="sessions of pywebtransport, this is http"):
        await as_asgi(handler)({"type": "http"}, None, None)  # type: ignore[arg-type]

    def plain(session: WebTransportSession) -> None: ...

    with pytest.raises(TypeError, match="must be `async def`"):
        as_asgi(plain)  # type: ignore[arg-type]


async def test_routes_of_the_server_come_first(site: MakeSite) -> None:
    there = await site(live)

    @there.server.route("/own")
    async def own(session: WebTransportSession) -> None:
        await session.wait_closed()

    session = await there.connect("/own")
    assert there.server.server.session_manager
    await session.close(close_connection=False)


@pytest.mark.parametrize(
    ("scope", "headers", "expected"),
    [
        ({"http_version": "1.1"}, [], [(b"alt-svc", b'h3=":4433"; ma=60')]),
        ({"http_version": "2"}, [(b"Alt-Svc", b"clear")], [(b"Alt-Svc", b"clear")]),
        ({"http_version": "3"}, [], []),
    ],
)
async def test_alt_svc_announces_http_3(
    scope: dict[str, str], headers: list[Any], expected: list[Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    announcing = AltSvcMiddleware(app, port=4433, max_age=60)
    await announcing({"type": "http", **scope}, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["headers"] == expected


def test_alt_svc_wants_a_port_that_there_is() -> None:
    with pytest.raises(ValueError, match=r"port must be in 1..65535, it is 0"):
        AltSvcMiddleware(home, port=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_age must not be negative, it is -1"):
        AltSvcMiddleware(home, max_age=-1)  # type: ignore[arg-type]
