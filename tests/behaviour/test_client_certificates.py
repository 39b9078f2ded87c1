"""A server that wants to see certificates: who comes in, and what the others are told."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.exceptions import ClientError, ServerError
from tests.support.certificate import Authority

from .conftest import MakeSite
from .site import Site, within

MODES = [ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    folder = tmp_path / "stranger"
    folder.mkdir()
    return Authority(folder)


def asking(authority: Authority, mode: ssl.VerifyMode) -> dict[str, Any]:
    return {"verify_mode": mode, "ca_certs": authority.certfile}


def showing(authority: Authority) -> dict[str, Any]:
    shown = authority.issue("client")
    return {"certfile": shown.certfile, "keyfile": shown.keyfile}


async def check_echo(site: Site) -> None:
    near, far = await (await site.pair()).stream()
    await near.write(data=b"hello", end_stream=True)
    assert await within(far.read_all()) == b"hello"


@pytest.mark.parametrize("engine", ["native"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
async def test_trusted_client_comes_in(
    site: MakeSite, authority: Authority, mode: ssl.VerifyMode
) -> None:
    await check_echo(await site(server=asking(authority, mode), client=showing(authority)))


@pytest.mark.parametrize("engine", ["native"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
async def test_client_of_another_authority_is_refused(
    site: MakeSite, authority: Authority, stranger: Authority, mode: ssl.VerifyMode
) -> None:
    running = await site(server=asking(authority, mode), client=showing(stranger))
    with pytest.raises(ClientError, match="certificate"):
        await running.client.connect(url=running.url)
    assert running.sessions.empty()


@pytest.mark.parametrize("engine", ["native"], indirect=True)
async def test_client_without_a_certificate_is_refused_where_one_is_required(
    site: MakeSite, authority: Authority
) -> None:
    running = await site(server=asking(authority, ssl.CERT_REQUIRED))
    with pytest.raises(ClientError, match="certificate"):
        await running.client.connect(url=running.url)
    assert running.sessions.empty()


async def test_client_without_a_certificate_comes_in_where_one_is_optional(
    site: MakeSite, authority: Authority
) -> None:
    await check_echo(await site(server=asking(authority, ssl.CERT_OPTIONAL)))


@pytest.mark.parametrize("engine", ["aioquic"], indirect=True)
async def test_engine_that_cannot_ask_says_so(site: MakeSite, authority: Authority) -> None:
    with pytest.raises(ServerError, match="engine='native'"):
        await site(server=asking(authority, ssl.CERT_REQUIRED))
