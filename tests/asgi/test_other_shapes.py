"""Applications that were written for other servers run unchanged."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from typing import Any

import pytest
from fastapi import FastAPI

from pywebtransport.exceptions import StreamResetError, WebTransportError
from tests.asgi.conftest import MakeSite, within
from tests.interop.registry import BUILT


@pytest.fixture
def peregrine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The packages of peregrine-server, as PyPI has them (`make peers`)."""
    place = BUILT / "peregrine-server-1.2" / "lib"
    (packages,) = place.glob("python3.*/site-packages")
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    for name in ("peregrine", "peregrine.webtransport", "peregrine.contrib.fastapi"):
        module = importlib.import_module(name)
    return module


async def test_peregrines_session_helper(site: MakeSite, peregrine: Any) -> None:
    ended: list[Any] = []
    app = peregrine.WebTransportRouter(FastAPI())

    @app.route("/echo/{room}")
    async def echo(session: Any) -> None:
        await session.accept([("x-room", session.path_params["room"])])
        await session.send_datagram(b"welcome")
        pushed = await session.create_stream(bidirectional=False)
        await pushed.send(b"pushed", end=True)
        async for stream in session.incoming_streams():
            if stream.bidirectional:
                await stream.send(b"echo:" + await stream.read(), end=True)
            else:
                await session.send_datagram(await session.receive_datagram())
        ended.append((session.close_code, session.close_reason))

    there = await site(app)
    session = await there.connect("/echo/a")
    assert session.response_headers["x-room"] == "a"
    datagrams = await session.create_datagram_transport()
    assert await within(datagrams.receive()) == b"welcome"
    pushed = await within(session.accept_unidirectional_stream())
    assert await within(pushed.read_all()) == b"pushed"
    stream = await session.create_bidirectional_stream()
    # More than the helper queues (32 chunks), so that it pauses the stream and resumes it.
    big = bytes(range(256)) * 20_000
    await stream.write(big, end_stream=True)
    assert await within(stream.read_all()) == b"echo:" + big
    # A reset stream has ended for the helper, too.
    cut = await session.create_bidirectional_stream()
    await cut.write(b"half")
    await cut.reset(error_code=1)
    assert (await within(cut.read_all())).startswith(b"echo:")
    await datagrams.send(b"back")
    one_way = await session.create_unidirectional_stream()
    await one_way.write(b"", end_stream=True)
    assert await within(datagrams.receive()) == b"back"
    await session.close(code=9, reason="bye", close_connection=False)
    with pytest.raises(WebTransportError, match="404"):
        await there.connect("/nowhere")
    assert ended == [(9, "bye")]


async def test_peregrines_endpoint(site: MakeSite, peregrine: Any) -> None:
    left: asyncio.Queue[Any] = asyncio.Queue()

    class Chat(peregrine.WebTransportEndpoint):  # type: ignore[misc]
        async def on_stream(self, stream: Any) -> None:
            await stream.send(await stream.read(), end=True)

        async def on_datagram(self, data: bytes) -> None:
            await self.session.send_datagram(data + b"!")

        async def on_disconnect(self, code: int, reason: str) -> None:
            left.put_nowait((code, reason))

    app = peregrine.WebTransportRouter(FastAPI())
    app.add_route("/chat", Chat)
    session = await (await site(app)).connect("/chat")
    datagrams = await session.create_datagram_transport()
    await datagrams.send(b"hey")
    assert await within(datagrams.receive()) == b"hey!"
    for number in range(10):
        stream = await session.create_bidirectional_stream()
        await stream.write(b"%d" % number, end_stream=True)
        assert await within(stream.read_all()) == b"%d" % number
    await session.close(code=2, reason="gone")
    assert await within(left.get()) == (2, "gone")


async def test_the_shape_of_aioquics_demo(site: MakeSite, caplog: pytest.LogCaptureFixture) -> None:
    """`stream` and `data` alone; an application that does not see that the session has ended."""
    ended = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        assert scope["path"] == "/wt"
        assert (await receive())["type"] == "webtransport.connect"
        await send({"type": "webtransport.accept"})
        try:
            await echo(receive, send)
        finally:
            ended.set()

    async def echo(receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "webtransport.datagram.receive":
                await send({"data": message["data"], "type": "webtransport.datagram.send"})
            elif message["type"] == "webtransport.stream.receive":
                await send(
                    {
                        "data": message["data"],
                        "stream": message["stream"],
                        "type": "webtransport.stream.send",
                    }
                )

    session = await (await site(app)).connect("/wt")
    stream = await session.create_bidirectional_stream()
    await stream.write(b"hello", end_stream=True)
    assert await within(stream.readexactly(5)) == b"hello"
    datagrams = await session.create_datagram_transport()
    await datagrams.send(b"ping")
    assert await within(datagrams.receive()) == b"ping"
    with caplog.at_level(logging.WARNING):
        await session.close()
        await within(ended.wait())
    assert not caplog.records


async def test_the_shape_of_hypercorns_and_starlettes_pull_requests(site: MakeSite) -> None:
    """`stream_id`, `more_body` and `finish`."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["extensions"]["webtransport"]["session_id"]
        assert (await receive())["type"] == "webtransport.connect"
        await send({"type": "webtransport.accept", "headers": []})
        while (message := await receive())["type"] != "webtransport.disconnect":
            if message["type"] == "webtransport.stream.receive":
                await send(
                    {
                        "type": "webtransport.stream.send",
                        "stream_id": message["stream_id"],
                        "data": message["data"],
                        "finish": not message["more_body"],
                    }
                )

    async def plain(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "webtransport":
            await app(scope, receive, send)

    session = await (await site(plain)).connect()
    stream = await session.create_bidirectional_stream()
    await stream.write(b"hello", end_stream=True)
    assert await within(stream.read_all()) == b"hello"


async def test_the_shape_of_channels(site: MakeSite) -> None:
    """`direction`, `end_stream`, codes of resets, `status` of refusals; test_channels.py has its
    consumer."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        await receive()
        await send({"type": "webtransport.accept", "subprotocol": None})
        opened = await receive()
        assert (opened["direction"], opened["initiated_by"]) == ("bidirectional", "client")
        stream = opened["stream"]
        assert (await receive())["end_stream"] is False
        await send({"type": "webtransport.stream.stop_receiving", "stream": stream, "code": 4})
        await send({"type": "webtransport.stream.reset", "stream": stream, "code": 5})
        close = {"type": "webtransport.close", "code": 6, "reason": "", "status": 403}
        assert (await receive())["type"] == "webtransport.datagram.receive"
        await send(close)

    session = await (await site(app)).connect()
    stream = await session.create_bidirectional_stream()
    await stream.write(b"x")
    with pytest.raises(StreamResetError) as reset:
        await within(stream.read())
    assert reset.value.error_code == 5
    await within(stream.wait_closed())
    await session.send_datagram(b"done")
    await within(session.wait_closed())
    assert session.close_code == 6
