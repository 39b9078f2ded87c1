"""The application starts before its server, and ends after it."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from pywebtransport import ServerConfig
from pywebtransport.asgi import AsgiServer
from pywebtransport.exceptions import ServerError
from pywebtransport.server import app as server_app
from tests.asgi.conftest import MakeSite, within
from tests.support.certificate import Certificate


async def test_start_and_end_are_told_and_the_state_is_shared(site: MakeSite) -> None:
    heard: list[str] = []
    states: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert scope["asgi"]["version"] == "3.0"
            while True:
                heard.append((await receive())["type"])
                scope["state"]["pool"] = heard
                await send({"type": f"{heard[-1]}.complete"})
                if heard[-1] == "lifespan.shutdown":
                    return
        states.append(scope["state"])
        await send({"type": "webtransport.accept"})
        scope["state"]["mine"] = True
        await receive()
        await receive()
        heard.append("session over")

    there = await site(app)
    assert heard == ["lifespan.startup"]
    await there.connect()
    await there.connect()
    await within(there.server.shutdown())
    assert (heard[0], heard[-1]) == ("lifespan.startup", "lifespan.shutdown")
    assert set(heard[1:-1]) <= {"session over"}
    first, second = states
    assert first["pool"] is second["pool"] is heard
    assert first is not second
    await there.server.shutdown()
    assert heard.count("lifespan.shutdown") == 1


def config(certificate: Certificate) -> ServerConfig:
    return ServerConfig(
        certfile=certificate.certfile, keyfile=certificate.keyfile, bind_host="127.0.0.1"
    )


async def test_a_failure_to_start_is_told_and_nothing_listens(certificate: Certificate) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.failed", "message": "no database at db:5432"})

    server = AsgiServer(app, config=config(certificate))
    with pytest.raises(ServerError, match="failed to start: no database at db:5432"):
        async with server:
            raise AssertionError("it was entered")
    assert not server.server.is_serving
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))


@pytest.mark.parametrize("ends", ["raises", "returns"])
async def test_an_application_without_a_lifespan(
    ends: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if ends == "raises":
            raise KeyError(scope["type"])

    with caplog.at_level(logging.INFO):
        async with AsgiServer(app, config=config(certificate)):
            pass
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ["the application takes no lifespan: KeyError('lifespan')"] * (
        ends == "raises"
    )
    with pytest.raises(ServerError, match=r"application (raised|returned).*lifespan='auto' starts"):
        async with AsgiServer(app, config=config(certificate), lifespan="on"):
            raise AssertionError("it was entered")
    async with AsgiServer(app, config=config(certificate), lifespan="off"):
        pass


async def test_what_goes_wrong_at_the_end_is_logged(
    certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with pytest.raises(ValueError, match=r"no 'http\.response\.start'"):
            await send({"type": "http.response.start"})
        await send({"type": "lifespan.shutdown.failed", "message": "still busy"})

    with caplog.at_level(logging.ERROR):
        async with AsgiServer(app, config=config(certificate)):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        "the application failed to end: still busy"
    ]


async def test_an_application_that_does_not_end_is_cancelled(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_app, "SHUTDOWN_HANDLER_TIMEOUT", 0.1)
    cancelled = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with caplog.at_level(logging.ERROR):
        async with asyncio.timeout(5), AsgiServer(app, config=config(certificate)):
            pass
    await within(cancelled.wait())
    assert [record.getMessage() for record in caplog.records] == [
        "the application has not ended in time and is cancelled"
    ]


async def test_a_wrong_mode_and_a_wrong_application_are_told() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with pytest.raises(ValueError, match="lifespan must be 'auto', 'on' or 'off', it is 'never'"):
        AsgiServer(app, lifespan="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an ASGI application is callable, this is 'main:app'"):
        AsgiServer("main:app")  # type: ignore[arg-type]
