"""A server's certificate is replaced while it serves; a browser-like client pins what it sees."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportServer
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


async def test_server_that_does_not_listen_says_so() -> None:
    async with WebTransportServer() as server:
        with pytest.raises(ServerError, match="listen"):
            await server.reload_certificate()
