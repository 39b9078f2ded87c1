"""channels-webtransport 0.0.1 of PyPI on this package in place of the one it was made for.

Once with its own server, and once its consumer with pywebtransport.asgi.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import pytest

import pywebtransport
from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import StreamError, WebTransportError
from tests.asgi.conftest import PATIENCE, within
from tests.interop.registry import BUILT, PROGRAMS, ROOT
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port


@pytest.fixture(params=["runwebtransport", "asgi"])
async def project(
    request: pytest.FixtureRequest, engine: str, certificate: Certificate
) -> AsyncIterator[tuple[str, asyncio.StreamReader]]:
    """The server of a Django project: its URL, and what it prints."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        BUILT / "channels-webtransport-0.0.1/bin/python",
        PROGRAMS / "channels_server.py",
        request.param,
        *("--port", str(port)),
        *("--certificate", certificate.certfile, "--private-key", certificate.keyfile),
        env=os.environ | {"PYTHONPATH": str(ROOT / "python"), "ENGINE": engine},
        stdout=PIPE,
    )
    assert process.stdout is not None
    try:
        assert (await within(process.stdout.readline())).decode().strip() == pywebtransport.__file__
        while b"listening on" not in (line := await within(process.stdout.readline())):
            assert line, "the server ended before it listened"
        yield f"https://127.0.0.1:{port}", process.stdout
    finally:
        # Not SIGINT, which is ignored below a shell that runs the tests in the background.
        if process.returncode is None:
            process.terminate()
        try:
            await within(process.communicate())
        except TimeoutError:
            process.kill()
            raise
    assert process.returncode == (0 if request.param == "asgi" else -signal.SIGTERM)


async def line(printed: asyncio.StreamReader) -> str:
    """The next that the consumer prints; the log of the server stands between."""
    while not (text := (await within(printed.readline())).decode().strip()).startswith("left "):
        assert text, "the server ended"
    return text


async def test_a_consumer_serves(
    project: tuple[str, asyncio.StreamReader], engine: str, certificate: Certificate
) -> None:
    url, printed = project
    config = ClientConfig(
        engine=engine,
        ca_certs=certificate.certfile,
        connect_timeout=PATIENCE,
        wt_available_protocols=["chat-2", "chat-1"],
    )
    async with WebTransportClient(config=config) as client:
        with pytest.raises(WebTransportError, match="401"):
            await client.connect(f"{url}/wt/a/?refuse")
        assert await line(printed) == "left 0 rejected with status 401"
        session = await client.connect(f"{url}/wt/a/")
        assert session.wt_protocol == "chat-1"
        datagrams = await session.create_datagram_transport()

        async def said(what: str) -> None:
            assert (await datagrams.receive(timeout=PATIENCE)).decode() == what

        await datagrams.send(b"ping")
        await said("ping")
        await datagrams.send(b"everybody")
        await said("told a")

        stream = await session.create_bidirectional_stream()
        await stream.write(b"hello ")
        await said(f"opened {stream.stream_id} bidirectional")
        await stream.write(b"world", end_stream=True)
        assert await within(stream.read_all()) == b"hello world"

        one_way = await session.create_unidirectional_stream()
        await one_way.write(b"x")
        await said(f"opened {one_way.stream_id} unidirectional")
        await one_way.reset(error_code=3)
        await said(f"reset {one_way.stream_id} 3")

        stopped = await session.create_bidirectional_stream()
        await stopped.write(b"x")
        await said(f"opened {stopped.stream_id} bidirectional")
        assert await within(stopped.readexactly(1)) == b"x"
        await stopped.stop_receiving(error_code=4)
        await said(f"stopped {stopped.stream_id} 4")

        cut = await session.create_bidirectional_stream()
        await cut.write(b"reset")
        await said(f"opened {cut.stream_id} bidirectional")
        with pytest.raises(StreamError) as reset:
            await within(cut.read())
        assert reset.value.error_code == 7
        await within(cut.wait_closed())

        await datagrams.send(b"close")
        await within(session.wait_closed())
        assert (session.close_code, session.close_reason) == (12, "asked to")
        assert await line(printed) == "left 12 asked to"

        session = await client.connect(f"{url}/wt/b/")
        await session.close(code=13, reason="bye")
        assert await line(printed) == "left 13 bye"
