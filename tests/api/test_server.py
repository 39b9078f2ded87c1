"""Servers: listening, routing, middleware, limits, logging, the end."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    CertificateError,
    ClientError,
    ConnectionError,
    MiddlewareRejected,
    ServerError,
    SessionClosedError,
    WebTransportError,
)
from pywebtransport.server import (
    MiddlewareManager,
    RequestRouter,
    ServerDiagnostics,
    ServerStats,
    WebTransportServer,
    create_auth_middleware,
    create_cors_middleware,
    create_logging_middleware,
    create_rate_limit_middleware,
)
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from pywebtransport.types import Address, ConnectionState, EventType
from tests.api.ends import turns
from tests.support.certificate import Certificate, make_certificate
from tests.support.laboratory import free_port


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def config(certificate: Certificate) -> Callable[..., ServerConfig]:
    def make(**options: Any) -> ServerConfig:
        return ServerConfig(
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            **{"bind_host": "127.0.0.1", "bind_port": free_port()} | options,
        )

    return make


@asynccontextmanager
async def clients(**options: Any) -> AsyncIterator[WebTransportClient]:
    async with WebTransportClient(
        config=ClientConfig(verify_mode=ssl.CERT_NONE, **options)
    ) as client:
        yield client


def url(server: WebTransportServer, path: str = "/") -> str:
    address = server.local_address
    assert address is not None
    return f"https://127.0.0.1:{address[1]}{path}"


async def until_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


# Listening.


async def test_listening_and_closing(config: Callable[..., ServerConfig]) -> None:
    settings = config()
    server = WebTransportServer(config=settings)
    assert server.config is settings
    assert (server.is_serving, server.local_address, server.local_addresses) == (False, None, [])
    with pytest.raises(ServerError, match="not been activated"):
        await server.listen()
    async with server:
        with pytest.raises(ServerError, match="does not listen"):
            await server.serve_forever()
        await server.close()
        await server.listen()
        assert server.is_serving
        assert server.local_address == ("127.0.0.1", settings.bind_port)
        with pytest.raises(ServerError, match="already"):
            await server.listen()
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving
        await server.listen(port=free_port())
        await server.close()
        await server.listen(host="")
        assert server.local_addresses == [("127.0.0.1", settings.bind_port)]


async def test_port_0_is_a_free_port(config: Callable[..., ServerConfig]) -> None:
    settings = config(bind_port=free_port())
    async with WebTransportServer(config=settings) as server:
        await server.listen(port=0)
        assert server.local_address is not None
        assert server.local_address[1] not in (0, settings.bind_port)


async def test_port_in_use_is_an_error_that_names_it(config: Callable[..., ServerConfig]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with WebTransportServer(config=config()) as server:
            with pytest.raises(ServerError, match=f"127.0.0.1:{port}") as caught:
                await server.listen(port=port)
    assert caught.value.bind_address == ("127.0.0.1", port)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE


async def test_no_certificate_is_an_error_that_says_what_to_do() -> None:
    async with WebTransportServer() as server:
        with pytest.raises(ServerError, match="certfile"):
            await server.listen(port=free_port())


async def test_missing_certificate_file_is_named(certificate: Certificate, tmp_path: Path) -> None:
    copy = tmp_path / "gone.crt"
    shutil.copyfile(certificate.certfile, copy)
    settings = ServerConfig(certfile=str(copy), keyfile=certificate.keyfile, bind_host="127.0.0.1")
    copy.unlink()
    async with WebTransportServer(config=settings) as server:
        with pytest.raises(ServerError, match=re.escape(str(copy))) as caught:
            await server.listen(port=free_port())
    assert isinstance(caught.value.__cause__, CertificateError)


async def test_certificate_that_browsers_refuse_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from pywebtransport.utils import generate_self_signed_cert

    certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=str(tmp_path))
    settings = ServerConfig(certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1")
    with caplog.at_level(logging.WARNING, "pywebtransport.server"):
        async with WebTransportServer(config=settings) as server:
            await server.listen(port=free_port())
    assert "RSA" in caplog.text
    assert "365 days" in caplog.text


# Requests.


async def test_bare_server_answers_by_event(config: Callable[..., ServerConfig]) -> None:
    async with WebTransportServer(config=config()) as server, clients() as client:
        await server.listen()
        with pytest.raises(ClientError, match="HTTP status 404"):
            await client.connect(url=url(server))

        async def answer(event: Event) -> None:
            assert event.data is not None
            assert event.data["path"] == "/x?y=1"
            session = event.data["session"]
            assert event.data["session_id"] == session.session_id
            assert event.data["connection"] is session.connection
            await session.accept()

        server.on(event_type=EventType.SESSION_REQUEST, handler=answer)
        session = await client.connect(url=url(server, "/x?y=1"))
        assert session.is_ready


@pytest.mark.parametrize(
    ("path", "handler", "parameters"),
    [
        ("/echo", "exact", ()),
        ("/echo?a=b", "exact", ()),
        ("/echo?special=1", "query", ()),
        ("/c/12", "pattern", ("12",)),
        ("/c/12?a=b", "pattern", ("12",)),
        ("/c/12abc", "default", ()),
        ("/other", "default", ()),
    ],
)
def test_routes(path: str, handler: str, parameters: tuple[str, ...]) -> None:
    def make() -> Any:
        async def handle(session: WebTransportSession) -> None: ...

        return handle

    handlers = {name: make() for name in ("exact", "query", "pattern", "default")}
    router = RequestRouter()
    router.add_route(path="/echo", handler=handlers["exact"])
    router.add_route(path="/echo?special=1", handler=handlers["query"])
    router.add_pattern_route(pattern="/c/([0-9]+)", handler=handlers["pattern"])
    router.add_pattern_route(pattern="/c/([0-9]*)", handler=make())
    router.set_default_handler(handler=handlers["default"])
    session: Any = type("Session", (), {"_path": path, "path_params": ()})()
    assert router.route_request(session=session) is handlers[handler]
    assert session.path_params == parameters


def test_a_path_or_pattern_is_not_written_down_twice() -> None:
    app = ServerApp()

    async def first(session: WebTransportSession) -> None: ...
    async def second(session: WebTransportSession) -> None: ...
    async def third(stream: WebTransportStream) -> None: ...

    for route, take in (("/x", app.route), ("/y/([0-9]+)", app.pattern_route)):
        take(route)(first)
        take(route)(first)
        for again, handler in ((take, second), (app.stream_route, third)):
            with pytest.raises(ValueError, match=r"has a handler already, .*\.first: ") as caught:
                again(route)(handler)  # type: ignore[arg-type]
            assert f".{handler.__name__} would" in str(caught.value)
    app.stream_route("/z")(third)
    with pytest.raises(ValueError, match=r"already, .*\.third: .*\.second would"):
        app.route("/z")(second)


def test_router_bookkeeping() -> None:
    async def handle(session: WebTransportSession) -> None: ...

    router = RequestRouter()
    session: Any = type("Session", (), {"_path": "/x"})()
    assert router.route_request(session=session) is None
    router.add_route(path="/x", handler=handle)
    router.get_all_routes().clear()
    assert router.get_route_handler(path="/x") is handle
    router.add_pattern_route(pattern="/y", handler=handle)
    assert router.get_route_stats() == {
        "exact_routes": 1,
        "pattern_routes": 1,
        "has_default_handler": False,
    }
    router.remove_route(path="/x")
    router.remove_route(path="/x")
    router.remove_pattern_route(pattern="/y")
    assert router.get_route_stats()["pattern_routes"] == 0
    with pytest.raises(re.error):
        router.add_pattern_route(pattern="(", handler=handle)


async def test_middleware_chain() -> None:
    calls = []

    def middleware(name: str, answer: Any) -> Any:
        async def run(*, session: Any) -> bool:
            calls.append(name)
            if isinstance(answer, BaseException):
                raise answer
            return bool(answer)

        return run

    manager = MiddlewareManager()
    first, second = middleware("first", True), middleware("second", None)
    manager.add_middleware(middleware=first)
    session: Any = None
    assert await manager.process_request(session=session)
    manager.add_middleware(middleware=second)
    manager.add_middleware(middleware=middleware("third", True))
    assert not await manager.process_request(session=session)
    assert calls == ["first", "first", "second"]
    manager.remove_middleware(middleware=second)
    manager.remove_middleware(middleware=second)
    assert manager.get_middleware_count() == 2
    manager.add_middleware(middleware=middleware("bad", RuntimeError("no")))
    assert not await manager.process_request(session=session)
    manager.add_middleware(middleware=first)
    rejecting = MiddlewareManager()
    rejecting.add_middleware(middleware=middleware("no", MiddlewareRejected(status_code=429)))
    with pytest.raises(MiddlewareRejected):
        await rejecting.process_request(session=session)


class Request:
    """What middleware sees of a session."""

    def __init__(self, headers: dict[str, str], address: Address | None = None) -> None:
        self.headers = headers
        self.remote_address = address
        self.path = "/"


async def test_cors_auth_and_logging(caplog: pytest.LogCaptureFixture) -> None:
    cors = create_cors_middleware(allowed_origins=["https://a.example"])
    assert await cors(session=Request({"origin": "https://a.example"}))
    assert not await cors(session=Request({"origin": "https://b.example"}))
    assert not await cors(session=Request({}))
    any_origin = create_cors_middleware(allowed_origins=["*"])
    assert await any_origin(session=Request({"origin": "https://b.example"}))
    assert not await any_origin(session=Request({}))

    async def check(*, headers: dict[str, str]) -> bool:
        return headers["authorization"] == "secret"

    auth = create_auth_middleware(auth_handler=check)
    assert await auth(session=Request({"authorization": "secret"}))
    assert not await auth(session=Request({"authorization": "wrong"}))
    manager = MiddlewareManager()
    manager.add_middleware(middleware=auth)
    request: Any = Request({})
    assert not await manager.process_request(session=request)
    with caplog.at_level(logging.INFO, "pywebtransport"):
        assert await create_logging_middleware()(session=Request({}, ("192.0.2.1", 5)))
    assert "192.0.2.1" in caplog.text


async def test_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now = 1000.0  # Sums of whole seconds are exact.
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limiter = create_rate_limit_middleware(
        max_requests=2, window_seconds=60, cleanup_interval=100, max_tracked_ips=2
    )
    one: Any = Request({}, ("192.0.2.1", 1))
    with pytest.raises(ServerError, match="not been activated"):
        await limiter(session=one)
    async with limiter:
        assert [await limiter(session=one) for _ in range(2)] == [True, True]
        for wait in ("60", "1"):
            with pytest.raises(MiddlewareRejected) as rejected:
                await limiter(session=one)
            assert rejected.value.status_code == 429
            assert rejected.value.headers == {"retry-after": wait}
            now += 59 if wait == "60" else 0
        now += 1
        assert await limiter(session=one)
        nobody: Any = Request({})
        assert all([await limiter(session=nobody) for _ in range(5)])
        for number in range(2, 10):
            other: Any = Request({}, (f"192.0.2.{number}", 1))
            assert await limiter(session=other)
        assert len(limiter._requests) == 2, "addresses that are remembered are bounded"
        now += 101
        assert await limiter(session=one)
        assert len(limiter._requests) == 1


async def test_application_answers(config: Callable[..., ServerConfig]) -> None:
    app = ServerApp(config=config())
    seen: list[str] = []

    @app.middleware
    async def gate(*, session: Any) -> bool:
        if "teapot" in session.path:
            raise MiddlewareRejected(status_code=418, headers={"x-why": "tea"})
        return "forbidden" not in session.path

    @app.route(path="/hello")
    async def hello(session: WebTransportSession) -> None:
        seen.append(session.path)
        assert session.remote_address is not None
        assert session.remote_address[0] == "127.0.0.1"
        await session.wait_closed()

    @app.pattern_route(pattern="/room/([a-z]+)")
    async def room(session: WebTransportSession) -> None:
        seen.append(session.path_params[0])

    @app.route(path="/fails")
    async def fails(session: WebTransportSession) -> None:
        raise RuntimeError("on purpose")

    async with app, clients() as client:
        await app.server.listen()
        for path, status in (("/nowhere", 404), ("/forbidden", 403), ("/teapot", 418)):
            with pytest.raises(ClientError, match=f"HTTP status {status}"):
                await client.connect(url=url(app.server, path))
        session = await client.connect(url=url(app.server, "/hello?query=1"))
        await session.close()
        session = await client.connect(url=url(app.server, "/room/blue"))
        # The handler has returned: the session is closed, and the connection after it.
        await session.wait_closed()
        connection = session.connection
        assert connection is not None
        await connection.wait_closed()
        session = await client.connect(url=url(app.server, "/fails"))
        await session.wait_closed()
        with pytest.raises(SessionClosedError) as caught:
            await session.create_bidirectional_stream()
        assert caught.value.error_code == ErrorCodes.INTERNAL_ERROR
        connection = session.connection
        assert connection is not None
        await connection.wait_closed()
        assert seen == ["/hello?query=1", "blue"]


async def test_one_line_at_open_and_one_at_close(
    config: Callable[..., ServerConfig], caplog: pytest.LogCaptureFixture
) -> None:
    for is_logged in (True, False):
        caplog.clear()
        app = ServerApp(config=config(access_log=is_logged))
        app.route(path="/x")(until_closed)
        with caplog.at_level(logging.INFO, "pywebtransport.server"):
            async with app, clients() as client:
                await app.server.listen()
                session = await client.connect(url=url(app.server, "/x"))
                await session.close(code=7, reason="enough")
        lines = [each.getMessage() for each in caplog.records if "session" in each.getMessage()]
        print(lines)
        if is_logged:
            assert len(lines) == 2
            assert lines[0].startswith('session open: path="/x" peer=127.0.0.1:')
            assert 'code=7 reason="enough" by=remote' in lines[1]
        else:
            assert lines == []


async def test_start_and_end_run_in_order(config: Callable[..., ServerConfig]) -> None:
    calls: list[str] = []

    class Stateful:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> None:
            calls.append(f"enter {self.name}")

        async def __aexit__(self, *exception: object) -> None:
            calls.append(f"exit {self.name}")

        async def __call__(self, *, session: Any) -> bool:
            return True

    app = ServerApp(config=config(middleware=[Stateful("configured")]))
    app.add_middleware(middleware=Stateful("added"))

    @app.on_startup
    def synchronous() -> None:
        calls.append("startup")

    @app.on_startup
    async def asynchronous() -> None:
        calls.append("startup 2")

    @app.on_shutdown
    async def end() -> None:
        calls.append("shutdown")

    running = asyncio.Event()

    @app.route(path="/x")
    async def handler(session: WebTransportSession) -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            calls.append("handler cancelled")

    async with clients() as client:
        async with app:
            await app.server.listen()
            session = await client.connect(url=url(app.server, "/x"))
            async with asyncio.timeout(5):
                await running.wait()
        await session.wait_closed()
    assert calls == [
        *("enter configured", "enter added", "startup", "startup 2"),
        *("shutdown", "exit added", "exit configured", "handler cancelled"),
    ]


async def test_failing_startup_leaves_nothing_running(
    config: Callable[..., ServerConfig],
) -> None:
    limiter = create_rate_limit_middleware()
    app = ServerApp(config=config(middleware=[limiter]))

    @app.on_startup
    def fail() -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await app.__aenter__()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    request: Any = Request({})
    with pytest.raises(ServerError, match="not been activated"):
        await limiter(session=request)


def test_run_ends_silently_when_interrupted(
    config: Callable[..., ServerConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = ServerApp(config=config())

    @app.on_startup
    async def interrupt() -> None:
        raise KeyboardInterrupt

    app.run()


# Limits and figures.


async def test_sessions_beyond_the_limit_are_refused(
    config: Callable[..., ServerConfig],
) -> None:
    app = ServerApp(config=config(max_sessions=2))
    app.route(path="/x")(until_closed)
    async with app, clients() as client:
        await app.server.listen()
        sessions = [await client.connect(url=url(app.server, "/x")) for _ in range(2)]
        with pytest.raises(WebTransportError):
            await client.connect(url=url(app.server, "/x"))
        await sessions[0].close()
        async with asyncio.timeout(5):
            while len(app.server.session_manager) > 1:
                await turns(1)
        await client.connect(url=url(app.server, "/x"))


async def test_connections_beyond_the_limit_are_refused(
    config: Callable[..., ServerConfig],
) -> None:
    app = ServerApp(config=config(max_connections=2))
    app.route(path="/x")(until_closed)
    async with app, clients() as client:
        await app.server.listen()
        for _ in range(2):
            await client.connect(url=url(app.server, "/x"))
        with pytest.raises((ConnectionError, ClientError)):
            await client.connect(url=url(app.server, "/x"), timeout=3.0)


async def test_diagnostics(config: Callable[..., ServerConfig]) -> None:
    app = ServerApp(config=config())
    app.route(path="/x")(until_closed)
    async with app, clients() as client:
        await app.server.listen()
        await client.connect(url=url(app.server, "/x"))
        diagnostics = await app.server.diagnostics()
        assert diagnostics.stats.connections_accepted == 1
        assert diagnostics.connection_states == {ConnectionState.CONNECTED: 1}
        assert sum(diagnostics.session_states.values()) == 1
        assert diagnostics.issues == []
        assert diagnostics.stats.uptime > 0
    assert not app.server.is_serving


@pytest.mark.parametrize(
    ("rejected", "connected", "issues"),
    [(0, 90, 0), (2, 90, 0), (3, 90, 1), (0, 91, 1), (3, 91, 2)],
)
def test_issues_at_their_thresholds(rejected: int, connected: int, issues: int) -> None:
    """Over a tenth rejected of more than 20 attempts; over nine tenths of the connections."""
    diagnostics = ServerDiagnostics(
        stats=ServerStats(connections_accepted=21 - rejected, connections_rejected=rejected),
        connection_states={ConnectionState.CONNECTED: connected},
        session_states={},
        is_serving=True,
        certfile_path="",
        keyfile_path="",
        max_connections=100,
    )
    assert len(diagnostics.issues) == issues


def test_issues() -> None:
    stats = ServerStats(connections_accepted=10, connections_rejected=20)
    assert (stats.success_rate, stats.total_connections_attempted) == (1 / 3, 30)
    assert ServerStats().success_rate == 1.0
    assert stats.to_dict()["connections_rejected"] == 20
    issues = ServerDiagnostics(
        stats=stats,
        connection_states={ConnectionState.CONNECTED: 10},
        session_states={},
        is_serving=False,
        certfile_path="/nowhere/cert",
        keyfile_path="/nowhere/key",
        max_connections=10,
    ).issues
    assert len(issues) == 5
