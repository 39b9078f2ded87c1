"""What pages say of their programs, beyond that these run (test_snippets.py), is true."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
)
from tests.docs.snippets import ROOT, snippets
from tests.support.certificate import make_certificate
from tests.support.laboratory import free_port


def programs(page: str) -> list[str]:
    found = snippets((ROOT / page).read_text())
    return [snippet.code for snippet in found if snippet.language == "python" and snippet.is_shown]


def test_the_readme_begins_with_its_installation_and_thirty_lines() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("pip install pywebtransport-native") < 60
    assert sum(len(code.splitlines()) for code in programs("README.md")) <= 30


def test_figures_of_the_readme_are_those_of_the_benchmarks() -> None:
    measured = (ROOT / "docs/peers.md").read_text()
    table = (ROOT / "README.md").read_text().partition("## Speed")[2].partition("\n## ")[0]
    figures = re.findall(r"[\d,.]*\d(?= (?:MB/s|ms|/s|KB) )", table)
    assert len(figures) == 12
    decimals = [
        float(each.replace(",", "")) for each in re.findall(r"\d[\d,]*(?:\.\d+)?", measured)
    ]
    for figure in figures:
        digits = len(figure.partition(".")[2])
        assert float(figure.replace(",", "")) in {round(each, digits) for each in decimals}, figure


async def test_a_server_lives_as_long_as_an_asgi_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trusted = ClientConfig(ca_certs=make_certificate(tmp_path).certfile)
    page: dict[str, Any] = {}
    port = str(free_port())
    text = (ROOT / "docs/howto/asgi.md").read_text()
    (code,) = re.findall(r"```python server_beside.py\n(.*?)```", text, re.DOTALL)
    exec(code.replace("4435", port), page)
    async with WebTransportClient(config=trusted) as client:
        async with page["lifespan"](None):
            session = await client.connect(f"https://127.0.0.1:{port}/live")
            (served,) = page["sessions"]
            await served.send_datagram("hello")
            transport = await session.create_datagram_transport()
            assert await transport.receive(timeout=5) == b"hello"
        await session.wait_closed()
    assert (session.close_code, session.close_reason) == (0, "server shutdown")
    assert not page["sessions"]


async def test_a_handler_learns_of_the_shutdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trusted = ClientConfig(ca_certs=make_certificate(tmp_path).certfile)
    page: dict[str, Any] = {}
    for code in programs("docs/howto/shutdown.md"):
        exec(code, page)
    app = page["app"]
    async with WebTransportClient(config=trusted) as client:
        async with app:
            await app.server.listen(host="127.0.0.1", port=free_port())
            session = await client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/clock")
            transport = await session.create_datagram_transport()
            assert await transport.receive(timeout=5) == b"tick"
        await session.wait_closed()
    # The handler returned by itself: one that is cancelled has the reason "server shutdown".
    assert (session.close_code, session.close_reason) == (0, "")


async def test_figures_of_who_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pair = make_certificate(tmp_path)
    app = ServerApp(config=ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile))
    lines: asyncio.Queue[str] = asyncio.Queue()

    def told(*words: object) -> None:
        lines.put_nowait(" ".join(map(str, words)))

    page: dict[str, Any] = {"ServerConfig": ServerConfig, "print": told}
    (code,) = [each for each in programs("docs/howto/observability.md") if "def show(" in each]
    exec(code, page)

    @app.route("/stay")
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with app, WebTransportClient(config=ClientConfig(ca_certs=pair.certfile)) as client:
        await app.server.listen(host="127.0.0.1", port=free_port())
        assert app.server.local_address is not None
        await client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/stay?token=1")
        await page["show"](app)
        session = await lines.get()
    assert re.match(r"\('127.0.0.1', \d+\) /stay\?token=1 \d+\.\d ms \S", session)
