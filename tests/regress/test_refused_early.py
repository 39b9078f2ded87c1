"""Wrong arguments are refused where they are written; every request is answered."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from unittest.mock import AsyncMock

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectConfigurationError,
    DatagramError,
    MiddlewareRejected,
    ServerError,
    TimeoutError,
)
from pywebtransport.pubsub import PubSubBroker, PubSubError
from pywebtransport.server import MiddlewareManager
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .place import Place, until


async def until_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


def plain(session: WebTransportSession) -> None: ...


def test_handlers_and_paths() -> None:
    app = ServerApp()
    for register in (
        app.route(path="/x"),
        app.pattern_route(pattern="/y"),
        app.stream_route("/z"),
    ):
        with pytest.raises(TypeError, match="async def"):
            register(plain)  # type: ignore[arg-type]
    for path in ("noslash", "", "/chat/{room}"):
        with pytest.raises(ValueError, match="path"):
            app.route(path=path)(until_closed)


async def takes_nothing() -> None: ...


async def takes_two(session: WebTransportSession, room: str) -> None: ...


async def yields(session: WebTransportSession) -> AsyncIterator[int]:
    yield 1


class Called:
    def __call__(self, session: WebTransportSession) -> None: ...


class Awaited:
    async def __call__(self, session: WebTransportSession) -> None: ...


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (plain, "plain `def`"),
        (Called(), "plain `def`"),
        (Called, "is a class"),
        (yields, "`yield`"),
        (takes_nothing, r"takes \(\)"),
        (takes_two, "'room'"),
        (5, "it is 5"),
    ],
)
def test_handlers_that_cannot_be_called(handler: Any, words: str) -> None:
    app = ServerApp()
    for register in (app.route("/x"), app.pattern_route("/y"), app.stream_route("/z")):
        with pytest.raises(TypeError, match=words if handler is not takes_two else "room|async"):
            register(handler)
    with pytest.raises(TypeError, match=words):
        ServerApp(request_handler=handler)
    if handler not in (takes_nothing, takes_two):
        with pytest.raises(TypeError, match=words):
            app.add_middleware(handler)


def test_handlers_that_can_be_called() -> None:
    def passing_a_room(
        function: Callable[[WebTransportSession, str], Awaitable[None]],
    ) -> Callable[[WebTransportSession], Awaitable[None]]:
        @functools.wraps(function)
        async def handle(session: WebTransportSession) -> None:
            await function(session, "lobby")

        return handle

    app = ServerApp()
    handlers: list[Any] = [
        Awaited(),
        AsyncMock(),
        functools.partial(takes_two, room="lobby"),
        passing_a_room(takes_two),
        lambda session: until_closed(session),
    ]
    for number, handler in enumerate(handlers):
        app.route(f"/{number}")(handler)
        app.add_middleware(handler)


def test_routes_without_parentheses() -> None:
    app = ServerApp()
    for decorate in (app.route, app.stream_route, app.pattern_route):
        with pytest.raises(TypeError, match="until_closed, with parentheses"):
            decorate(until_closed)  # type: ignore[operator]
        with pytest.raises(TypeError, match="is a str"):
            decorate(None)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/chat/<room>", "pattern_route"),
        ("/chat/{room}", "pattern_route"),
        ("/a room", "/a%20room"),
        ("/café", "/caf%C3%A9"),
        ("/page#part", "/page%23part"),
    ],
)
def test_paths_that_no_client_sends(path: str, words: str) -> None:
    app = ServerApp()
    for register in (app.route, app.stream_route):
        with pytest.raises(ValueError, match=words):
            register(path)


def test_patterns_that_match_no_path() -> None:
    app = ServerApp()
    for pattern in ("chat/(.*)", "^chat", r"\Achat", "rooms|/chat"):
        with pytest.raises(ValueError, match="slash"):
            app.pattern_route(pattern)
    for pattern in ("/chat", "^/chat", "(?:/a|/b)", "[/]x", ".*/admin", r"\/x", "(?i)/x", "x?/y"):
        app.pattern_route(pattern)(until_closed)


def test_middleware_has_to_take_the_session_by_its_name() -> None:
    async def check(request: Any) -> bool:
        return True

    for register in (ServerApp().add_middleware, MiddlewareManager().add_middleware):
        with pytest.raises(TypeError, match="session="):
            register(middleware=check)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="session="):
        ServerApp(config=ServerConfig(middleware=[check]))


def test_startup_and_shutdown_call_functions_without_arguments() -> None:
    app = ServerApp()
    for register in (app.on_startup, app.on_shutdown):
        with pytest.raises(TypeError, match="this is 5"):
            register(5)  # type: ignore[type-var]
        with pytest.raises(TypeError, match="without arguments"):
            register(until_closed)
        register(takes_nothing)
        register(print)


@pytest.mark.parametrize(
    "address",
    [{"port": "4433"}, {"port": 70000}, {"port": -1}, {"port": True}, {"host": 4433}],
    ids=str,
)
async def test_addresses(address: dict[str, Any]) -> None:
    (name,) = address
    app = ServerApp()
    with pytest.raises(ServerError) as caught:
        await asyncio.to_thread(app.run, **address)
    assert caught.value.message.startswith(f"{name} must be")
    async with app:
        for verb in (app.serve, app.server.listen):
            with pytest.raises(ServerError) as caught:
                await verb(**address)
            assert caught.value.message.startswith(f"{name} must be")


async def test_run_in_a_loop_that_runs() -> None:
    with pytest.raises(RuntimeError, match=r"await app\.serve\(\)"):
        ServerApp().run(port=0)


async def test_what_connect_cannot_take() -> None:
    async with WebTransportClient() as client:
        for url in (None, 5, b"https://user:password@127.0.0.1/"):
            with pytest.raises(ConnectConfigurationError, match="must be a str") as caught:
                await client.connect(url)  # type: ignore[arg-type]
            assert "password" not in str(caught.value)
        for headers in ([("a", "b")], {5: "a"}, {"a": 5}, {"a": b"b"}, {"a": "\ud800"}, "a"):
            with pytest.raises(ConnectConfigurationError, match="headers"):
                await client.connect("https://127.0.0.1/", headers=headers)  # type: ignore[arg-type]
        client.set_default_headers(headers={"a": None})  # type: ignore[dict-item]
        with pytest.raises(ConnectConfigurationError, match="'a' in headers"):
            await client.connect("https://127.0.0.1/")


async def test_a_mounted_broker_has_one_life() -> None:
    app = ServerApp()
    PubSubBroker().mount(app, path="/topics")
    async with app:
        pass
    with pytest.raises(PubSubError, match="make a new one"):
        await app.__aenter__()


def test_keywords() -> None:
    app = ServerApp()
    with pytest.raises(TypeError, match="relaod"):
        app.run(relaod=True)
    for config in (ClientConfig, ServerConfig):
        with pytest.raises(ConfigurationError, match="read_timeuot"):
            config.from_dict(config_dict={"read_timeuot": 5})


@pytest.mark.parametrize("status", [200, 299, 600, 700])
def test_status_of_a_rejection(status: int) -> None:
    with pytest.raises(ValueError, match=str(status)):
        MiddlewareRejected(status_code=status)


@pytest.mark.parametrize("code", [-1, 1 << 32, 1.5, None])
async def test_code_that_does_not_fit(engine: str, certificate: Certificate, code: Any) -> None:
    async with Place(engine, certificate) as place:
        codes: asyncio.Queue[int] = asyncio.Queue()

        @place.app.route("/")
        async def observe(session: WebTransportSession) -> None:
            stream = await session.accept_bidirectional_stream()
            try:
                await stream.read_all()
            except Exception as error:
                codes.put_nowait(error.error_code)  # type: ignore[attr-defined]
            await session.wait_closed()

        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x")
        for call in (stream.reset, stream.abort, stream.stop_receiving, session.close):
            with pytest.raises(ValueError):
                await call(code)
        with pytest.raises(ValueError):
            await stream.read(-2)
        assert session.is_ready
        assert stream.is_writable
        assert stream.is_readable
        await stream.reset(7)
        async with asyncio.timeout(5):
            assert await codes.get() == 7


async def test_request_that_nobody_answers(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate, request_timeout=0.3) as place:
        ended = asyncio.Event()

        @place.app.middleware
        async def slow(*, session: WebTransportSession) -> bool:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return True

        with pytest.raises(ClientError) as caught:
            await place.connect()
        assert caught.value.status_code == 503
        async with asyncio.timeout(5):
            await ended.wait()


async def test_listener_that_raises(engine: str, certificate: Certificate) -> None:
    place = Place(engine, certificate)
    from pywebtransport import WebTransportServer

    async with WebTransportServer(config=place.server_config()) as server, place.client() as client:

        async def fail(_event: Any) -> None:
            raise RuntimeError("on purpose")

        server.on(event_type=EventType.SESSION_REQUEST, handler=fail)
        await server.listen()
        with pytest.raises(ClientError) as caught:
            await client.connect(url=place.url())
        assert caught.value.status_code == 500


async def test_handler_of_a_client_that_left_is_cancelled_and_counted(
    engine: str, certificate: Certificate
) -> None:
    async with Place(engine, certificate) as place:
        asked: asyncio.Queue[None] = asyncio.Queue()
        ended: asyncio.Queue[None] = asyncio.Queue()

        @place.app.middleware
        async def slow(*, session: WebTransportSession) -> bool:
            asked.put_nowait(None)
            try:
                await asyncio.Event().wait()
            finally:
                ended.put_nowait(None)
            return True

        async with place.client() as client:
            connecting = [asyncio.ensure_future(client.connect(url=place.url())) for _ in range(3)]
            async with asyncio.timeout(10):
                for _ in connecting:
                    await asked.get()
                for each in connecting:
                    each.cancel()
                await asyncio.gather(*connecting, return_exceptions=True)
                for _ in connecting:
                    await ended.get()
        await asyncio.sleep(0)
        diagnostics = await place.app.server.diagnostics()
        assert diagnostics.handlers == 0
        assert diagnostics.stats.requests_abandoned == 3


async def test_rejections_and_session_ids_are_in_the_access_log(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pywebtransport.server"):
        async with Place(engine, certificate) as place:
            place.app.route("/there")(until_closed)
            with pytest.raises(ClientError):
                await place.connect("/nowhere")
            session = await place.connect("/there")
            await session.close()
            await until(lambda: len(place.app.server.session_manager) == 0)
    rejected, opened, closed = (
        next(line for line in caplog.messages if line.startswith(f"session {what}"))
        for what in ("rejected", "open", "closed")
    )
    assert 'status=404 cause="no route"' in rejected
    assert opened.rpartition("session=")[2] == closed.rpartition("session=")[2] != ""


async def test_silence_is_no_end(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """A read gives up, and says what to set; an iteration waits on; the log has no traceback."""
    async with Place(engine, certificate, read_timeout=0.1) as place:
        lines: asyncio.Queue[list[bytes]] = asyncio.Queue()

        @place.app.route("/iterate")
        async def iterate(session: WebTransportSession) -> None:
            stream = await session.accept_bidirectional_stream()
            lines.put_nowait([chunk async for chunk in stream])

        @place.app.route("/read")
        async def read(session: WebTransportSession) -> None:
            stream = await session.accept_bidirectional_stream()
            await stream.read()
            with pytest.raises(TimeoutError, match="read_timeout=None"):
                await stream.read()
            await stream.read()

        session = await place.connect("/iterate")
        stream = await session.create_bidirectional_stream()
        await stream.write(b"a")
        await asyncio.sleep(0.5)
        await stream.write(b"b", end_stream=True)
        async with asyncio.timeout(5):
            assert await lines.get() == [b"a", b"b"]
        with caplog.at_level(logging.WARNING, "pywebtransport.server"):
            session = await place.connect("/read")
            stream = await session.create_bidirectional_stream()
            await stream.write(b"a")
            await session.wait_closed()
        (record,) = (each for each in caplog.records if "gave up" in each.message)
        assert record.levelno == logging.WARNING
        assert record.exc_info is None
        assert session.close_code == 1


async def test_stream_that_cannot_be_ended_is_aborted(
    engine: str, certificate: Certificate
) -> None:
    async with Place(engine, certificate) as place:
        place.app.route("/")(until_closed)
        async with place.client(write_timeout=0.2) as client:
            session = await client.connect(place.url())
            stream = await session.create_unidirectional_stream()
            with pytest.raises(TimeoutError):
                async with stream:
                    # More than the windows take, and nobody reads.
                    await stream.write(bytes(1 << 26), wait_flush=False)
            assert stream.is_closed


async def test_datagram_of_nested_json(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def nest(session: WebTransportSession) -> None:
            await session.send_datagram(b"[" * 1020)
            await session.wait_closed()

        transport = await (await place.connect()).create_datagram_transport()
        with pytest.raises(DatagramError, match="JSON"):
            await transport.receive_json(timeout=5)
