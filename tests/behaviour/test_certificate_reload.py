"""A server's certificate is replaced while it serves; a browser-like client pins what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportServer,
)
from pywebtransport.exceptions import CertificateError, ConnectionError, ServerError
from tests.support.certificate import Certificate, make_certificate

from .conftest import MakeSite
from .site import Pair, within


async def check_echo(pair: Pair) -> None:
    near, far = await pair.stream()
    await near.write(data=b"still here", end_stream=True)
    assert await within(far.read_all()) == b"still here"


async def sees(engine: str, url: str, certificate: Certificate) -> bool:
    """Whether a new connection is shown this certificate."""
    config = ClientConfig(engine=engine, server_certificate_hashes=[certificate.sha256])
    async with WebTransportClient(config=config) as client:
        try:
            session = await client.connect(url=url)
        except ConnectionError as error:
            assert "certificate" in str(error)
            return False
        await session.close()
        return True


async def test_new_connections_see_it_and_running_ones_stay(
    site: MakeSite,
    engine: str,
    certificate: Certificate,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = await site()
    server = running.app.server
    pair = await running.pair()
    fresh = make_certificate(tmp_path)
    assert await sees(engine, running.url, certificate)
    with caplog.at_level(logging.INFO, "pywebtransport"):
        await server.reload_certificate(certfile=fresh.certfile, keyfile=fresh.keyfile)
    assert fresh.certfile in caplog.text
    assert (server.config.certfile, server.config.keyfile) == (fresh.certfile, fresh.keyfile)
    assert await sees(engine, running.url, fresh)
    assert not await sees(engine, running.url, certificate)
    await check_echo(pair)

    # Certificates are renewed in place.
    renewed = make_certificate(tmp_path / "renewed")
    os.replace(renewed.certfile, fresh.certfile)
    os.replace(renewed.keyfile, fresh.keyfile)
    await server.reload_certificate()
    assert await sees(engine, running.url, renewed)
    await check_echo(pair)


async def test_what_cannot_be_used_changes_nothing(
    site: MakeSite, engine: str, certificate: Certificate, tmp_path: Path
) -> None:
    running = await site()
    server = running.app.server
    other = make_certificate(tmp_path)
    for wrong in (
        {"certfile": "nowhere.pem"},
        {"keyfile": other.keyfile},
        {"certfile": other.keyfile},
    ):
        with pytest.raises(CertificateError):
            await server.reload_certificate(**wrong)
    assert server.config.certfile == certificate.certfile
    assert await sees(engine, running.url, certificate)


def spoil(certfile: str) -> None:
    Path(certfile).write_text("renewed badly")


class Said(logging.Handler):
    """Lets a test wait for a line of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO:
            self.lines.put_nowait(record.getMessage())

    async def wait_for(self, text: str) -> str:
        while text not in (line := await within(self.lines.get())):
            pass
        return line


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    handler, logger = Said(), logging.getLogger("pywebtransport.server")
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, "pywebtransport"):
        yield handler
    logger.removeHandler(handler)


async def test_a_running_application_takes_files_that_change(
    engine: str, tmp_path: Path, said: Said
) -> None:
    first = make_certificate(tmp_path)
    config = ServerConfig(
        engine=engine,
        certfile=first.certfile,
        keyfile=first.keyfile,
        bind_host="127.0.0.1",
        bind_port=0,
    )
    app = ServerApp(config=config)
    app.route("/")(lambda session: session.wait_closed())
    async with app:
        serving = asyncio.create_task(app.serve())
        await said.wait_for("listening on")
        assert app.server.local_address is not None
        url = f"https://127.0.0.1:{app.server.local_address[1]}/"
        pinned = ClientConfig(engine=engine, server_certificate_hashes=[first.sha256])
        async with WebTransportClient(config=pinned) as client:
            session = await client.connect(url)

            spoil(first.certfile)
            line = await said.wait_for("stays")
            assert line == (
                f"the certificate in use stays: {first.certfile} holds no usable certificate: "
                "it has no -----BEGIN CERTIFICATE-----, as PEM files have"
            )
            assert await sees(engine, url, first)

            renewed = make_certificate(tmp_path)
            await said.wait_for(f"new connections see the certificate of {first.certfile}")
            assert await sees(engine, url, renewed)
            assert not await sees(engine, url, first)
            assert not session.is_closed
            await session.send_datagram(b"still here")
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_server_that_does_not_listen_says_so() -> None:
    async with WebTransportServer() as server:
        with pytest.raises(ServerError, match="listen"):
            await server.reload_certificate()
