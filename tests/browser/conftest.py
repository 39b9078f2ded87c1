"""A Chromium for the run, a page per test, and our server in the test's own process."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.scenarios import Scenarios
from tests.support.laboratory import Laboratory

SCRIPT = Path(__file__).with_name("page.js")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str:
    """The browser named by CHROMIUM, or the first one on the path."""
    named = os.environ.get("CHROMIUM", "")
    for name in (named, "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    pytest.fail("no Chromium: run `make chromium`, or name one with CHROMIUM=/path/to/it")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        print(f"Chromium {browser.version}")
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origin() -> AsyncIterator[str]:
    """An http://localhost page: a secure context with the scenarios in it."""
    body = f"<!doctype html><script>{SCRIPT.read_text()}</script>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, origin: str) -> AsyncIterator[Page]:
    """A page of its own: Chromium slows a page's next handshake down after a failed one."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(origin)
    yield page
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def laboratory(engine: str) -> AsyncIterator[Laboratory]:
    async with Laboratory(engine=engine) as laboratory:
        yield laboratory


@pytest_asyncio.fixture(loop_scope="module")
async def run(page: Page, laboratory: Laboratory) -> Scenarios:
    await page.evaluate(
        "(target) => { window.target = target }",
        {"url": laboratory.url, "hash": laboratory.certificate_hash},
    )
    return Scenarios(page)
