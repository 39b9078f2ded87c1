"""What `pywebtransport serve --dev` prints works when it is pasted into a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.cli.program import Program

SERVER = """
from pywebtransport import ServerApp

app = ServerApp()

@app.route("/greet")
async def greet(session):
    stream = await session.create_unidirectional_stream()
    await stream.write_all(b"hello from --dev")
    await session.wait_closed()
"""
ANSWER = """
const {{ value: stream }} = await transport.incomingUnidirectionalStreams.getReader().read();
return await new Response(stream).text();
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_printed_line_connects(page: Page, tmp_path: Path, engine: str) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    arguments = ("serve", "server:app", "--dev", "--port", "0", "--engine", engine)
    async with Program(*arguments, folder=tmp_path) as program:
        line = await program.line_with("new WebTransport(")
        answer = await page.evaluate(f"async () => {{ {line} {ANSWER.format()} }}")
        assert answer == "hello from --dev"
