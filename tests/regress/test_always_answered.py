"""Whatever an application does with a request, its client hears; what failed is in the log."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from pywebtransport import WebTransportServer
from pywebtransport.exceptions import ClientError, MiddlewareRejected
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .place import Place, until

LIMIT = 5.0

UNSENDABLE: list[Any] = [
    {"retry-after": 5},
    {"x": None},
    {"x": b"v"},
    {b"x": "v"},
    {"a name": "v"},
    {":status": "200"},
    {"connection": "close"},
    {"content-length": "5"},
    {"x": "a\nb"},
    {"x": "\ud800"},
    {"x": "v" * (1 << 21)},
    [("x", "v")],
    5,
]


class Farewell(BaseException):
    """What an ordinary ``except Exception`` lets through."""


async def wait_for_what_somebody_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(LIMIT))
    task.cancel()
    await task


async def leave() -> None:
    raise Farewell


async def fail_in_a_group() -> None:
    raise BaseExceptionGroup("both", [Farewell(), ValueError()])


FAILURES = [wait_for_what_somebody_cancelled, leave, fail_in_a_group]


async def until_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


@pytest.mark.parametrize("headers", UNSENDABLE, ids=lambda headers: repr(headers)[:20])
async def test_an_answer_that_cannot_be_sent_leaves_the_request_open(
    engine: str, certificate: Certificate, headers: Any
) -> None:
    async with Place(engine, certificate) as place:
        place.app.route("/")(until_closed)

        @place.app.middleware
        async def answer(*, session: WebTransportSession) -> bool:
            for verb in (session.accept, session.reject):
                with pytest.raises(ValueError):
                    await verb(headers=headers)
                assert session.state == "connecting"
            await session.reject(429, headers={"Retry-After": "5"})
            return False

        with pytest.raises(ClientError) as caught:
            await place.connect()
        assert caught.value.status_code == 429
        assert caught.value.headers["retry-after"] == "5"


@pytest.mark.parametrize("status", ["429", 403.5, None, 200, 600])
async def test_a_status_that_is_none_leaves_the_request_open(
    engine: str, certificate: Certificate, status: Any
) -> None:
    with pytest.raises(ValueError, match="status_code"):
        MiddlewareRejected(status_code=status)
    async with Place(engine, certificate) as place:
        place.app.route("/")(until_closed)

        @place.app.middleware
        async def answer(*, session: WebTransportSession) -> bool:
            with pytest.raises(ValueError, match="status_code must be an integer in 300"):
                await session.reject(status)
            return True

        await place.connect()


async def test_a_rejection_that_cannot_be_sent_is_an_error_of_the_server(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async with Place(engine, certificate) as place:

        @place.app.middleware
        async def reject(*, session: WebTransportSession) -> bool:
            raise MiddlewareRejected(status_code=429, headers={"retry-after": 5})  # type: ignore[dict-item]

        with pytest.raises(ClientError) as caught:
            await place.connect()
        assert caught.value.status_code == 500
    assert "the value of 'retry-after' in headers must be a str, it is int" in caplog.text


async def test_a_session_that_a_middleware_accepts_goes_to_its_handler(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    async with Place(engine, certificate) as place:

        @place.app.middleware
        async def accept(*, session: WebTransportSession) -> bool:
            await session.accept(headers={"x-greeting": "hello"})
            if session.path == "/rejected":
                raise MiddlewareRejected(status_code=429)
            return session.path != "/refused"

        @place.app.route("/")
        async def greet(session: WebTransportSession) -> None:
            await session.close(7, reason="from the handler")

        ends = {"/": 7, "/nowhere": 404, "/refused": 403, "/rejected": 429}
        for path, code in ends.items():
            session = await place.connect(path)
            assert session.response_headers["x-greeting"] == "hello"
            async with asyncio.timeout(LIMIT):
                await session.wait_closed()
            assert session.close_code == code
        await until(lambda: len(place.app.server.session_manager) == 0)
    assert 'session open: path="/"' in caplog.text


@pytest.mark.parametrize("fail", FAILURES)
async def test_a_handler_that_fails_in_any_way_ends_its_session(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture, fail: Any
) -> None:
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def handle(session: WebTransportSession) -> None:
            await fail()

        session = await place.connect()
        async with asyncio.timeout(LIMIT):
            await session.wait_closed()
        assert (session.close_code, session.closed_by) == (1, "remote")
    assert 'handler of "/" failed' in caplog.text


@pytest.mark.parametrize("fail", FAILURES)
async def test_a_middleware_that_fails_in_any_way_rejects(
    engine: str, certificate: Certificate, fail: Any
) -> None:
    async with Place(engine, certificate) as place:
        place.app.route("/")(until_closed)

        @place.app.middleware
        async def check(*, session: WebTransportSession) -> bool:
            await fail()
            return True

        with pytest.raises(ClientError) as caught:
            await place.connect()
        assert caught.value.status_code == 403


@pytest.mark.parametrize("fail", FAILURES)
async def test_a_listener_that_fails_in_any_way_is_answered_for(
    engine: str, certificate: Certificate, fail: Any
) -> None:
    place = Place(engine, certificate)
    async with WebTransportServer(config=place.server_config()) as server, place.client() as client:

        async def listen(_event: Any) -> None:
            await fail()

        server.on(event_type=EventType.SESSION_REQUEST, handler=listen)
        await server.listen()
        with pytest.raises(ClientError) as caught:
            await client.connect(place.url(), timeout=LIMIT)
        assert caught.value.status_code == 500


@pytest.mark.parametrize("fail", FAILURES)
async def test_a_stream_handler_that_fails_in_any_way_ends_its_stream(
    engine: str, certificate: Certificate, fail: Any
) -> None:
    async with Place(engine, certificate) as place:

        @place.app.stream_route("/")
        async def handle(stream: WebTransportStream) -> None:
            await fail()

        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x")
        async with asyncio.timeout(LIMIT):
            with pytest.raises(Exception) as caught:
                await stream.read()
        assert caught.value.error_code == 1  # type: ignore[attr-defined]
        assert session.is_ready


def test_who_interrupts_the_program_is_not_held_up(engine: str, certificate: Certificate) -> None:
    async def serve(ending: type[BaseException]) -> None:
        async with Place(engine, certificate) as place:

            @place.app.route("/")
            async def end(session: WebTransportSession) -> None:
                raise ending

            await (await place.connect()).wait_closed()

    for ending in (KeyboardInterrupt, SystemExit):
        with pytest.raises(ending):
            asyncio.run(serve(ending))
        # Of the handler's task, asyncio says that nobody has asked for its exception.
        gc.collect()
