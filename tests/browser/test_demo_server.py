"""What `make demo-server` prints works when it is pasted."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_printed_line_gets_an_answer(page: Page) -> None:
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.demo_server", "--port", str(free_port())),
        stdout=PIPE,
        cwd=ROOT,
    )
    try:
        assert server.stdout is not None
        while not (line := (await server.stdout.readline()).decode()).startswith("const "):
            assert line, "the server ended before it printed its line"
        async with page.expect_console_message() as message:
            await page.evaluate(f"async () => {{ {line} }}")
        assert (await message.value).text == "hello over WebTransport"
    finally:
        server.send_signal(signal.SIGINT)
        assert b"server stopped" in (await server.communicate())[0]
    assert server.returncode == 0
