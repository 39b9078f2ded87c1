"""Each example as a process of its own, used as its reader would: from its page, in Chromium."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.support.backplane_server import RedisServer
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "examples" / "README.md").read_text()
LISTED = sorted(set(re.findall(r"\]\((\w+\.py)\)", README)))
LONGEST = 120
WAIT = 20_000

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Its pages have nothing to complain of."""
    context = await browser.new_context()
    context.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    yield context
    await context.close()
    assert complaints == []


@asynccontextmanager
async def program(name: str, *arguments: str) -> AsyncIterator[tuple[int, Process]]:
    """A running example: its port, once it has told where it is, and its process."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"examples.{name}", "--port", str(port), *arguments),
        stdout=PIPE,
        stderr=PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        if not line:
            pytest.fail((await process.communicate())[1].decode())
        assert line.decode() == f"Open http://localhost:{port}/\n"
        await asyncio.wait_for(answered(port), 20)
        yield port, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            _, log = await process.communicate()
    assert process.returncode in (0, -signal.SIGTERM), log.decode()
    assert b"Traceback" not in log, log.decode()


async def answered(port: int) -> None:
    """uvicorn binds its port some time after the line, and says nothing when it has."""
    while True:
        try:
            _, writer = await asyncio.open_connection("localhost", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return await writer.wait_closed()


async def open_page(context: BrowserContext, port: int) -> Page:
    page = await context.new_page()
    await page.goto(f"http://localhost:{port}/")
    return page


async def test_the_readme_lists_them_all() -> None:
    folder = ROOT / "examples"
    programs = {path.name for path in folder.glob("*.py") if "__main__" in path.read_text()}
    assert programs == set(LISTED)
    for path in [*folder.glob("*.py"), *folder.glob("pages/*")]:
        if path.name != "demo.py":  # which measures, for `make demo`
            assert len(path.read_text().splitlines()) <= LONGEST, path.name


async def test_echo(context: BrowserContext) -> None:
    async with program("echo") as (port, _):
        page = await open_page(context, port)
        await expect(page.locator("#log")).to_contain_text("connected")
        await page.fill("#text", "ping")
        await page.press("#text", "Enter")
        await expect(page.locator("#log li")).to_have_text(
            ["connected", "stream: ping", "datagram: ping"]
        )


async def test_chat(context: BrowserContext) -> None:
    async with program("chat") as (port, _):
        ada, bob = await open_page(context, port), await open_page(context, port)
        for page, name in ((ada, "Ada"), (bob, "Bob")):
            await page.fill("#name", name)
            await page.press("#name", "Enter")
            await expect(page.locator("#log")).to_contain_text(f"{name} comes in")
        await ada.fill("#text", "hello")
        await ada.press("#text", "Enter")
        await expect(bob.locator("#log")).to_contain_text("Ada: hello")
        await ada.close()
        await expect(bob.locator("#log")).to_contain_text("Ada leaves")


async def test_game(context: BrowserContext) -> None:
    async with program("game") as (port, _):
        first, second = await open_page(context, port), await open_page(context, port)
        for page in (first, second):
            await expect(page.locator("#count")).to_have_text("2")
        await first.focus("#board")
        await first.keyboard.down("ArrowRight")
        await expect(first.locator("#place")).to_have_text("1000, 500")
        await first.keyboard.up("ArrowRight")
        await first.keyboard.press("ArrowDown", delay=100)
        await expect(first.locator("#place")).not_to_have_text("1000, 500")
        await expect(second.locator("#place")).to_have_text("500, 500")
        rate = first.locator("#rate")
        await expect(rate).to_have_text(re.compile(r"^[2-9]\d$"))
        await first.close()
        await expect(second.locator("#count")).to_have_text("1")


async def test_upload_resumes(context: BrowserContext, tmp_path: Path) -> None:
    chosen, folder = tmp_path / "film.bin", tmp_path / "received"
    data = bytes(range(256)) * 40_000
    chosen.write_bytes(data)
    folder.mkdir()
    (folder / "film.bin").write_bytes(data[:3_000_000])  # what a broken upload left
    async with program("upload", "--folder", str(folder)) as (port, _):
        page = await open_page(context, port)
        await page.set_input_files("#file", chosen)
        await page.click("text=Upload >> nth=-1")
        log = page.locator("#log li")
        await expect(log.first).to_have_text(f"from byte 3000000 of {len(data)}")
        await expect(log.last).to_have_text(f"complete, SHA-256 {hashlib.sha256(data).hexdigest()}")
        await expect(page.locator("#percent")).to_have_text("100 %")
    assert (folder / "film.bin").read_bytes() == data


async def test_upload_goes_on_where_it_was_broken_off(
    context: BrowserContext, tmp_path: Path
) -> None:
    chosen, folder = tmp_path / "film.bin", tmp_path / "received"
    chosen.write_bytes(bytes(100_000_000))
    async with program("upload", "--folder", str(folder)) as (port, _):
        page = await open_page(context, port)
        await page.set_input_files("#file", chosen)
        await page.click("button >> nth=0")
        await expect(page.locator("#percent")).not_to_have_text("0 %")
        await page.click("#pause")
        await expect(page.locator("#log li").last).to_contain_text("broken off")
        assert 0 < (folder / "film.bin").stat().st_size < 100_000_000
        await page.click("button >> nth=0")
        await expect(page.locator("#log li").last).to_contain_text("complete", timeout=60_000)
        begins = await page.locator("#log li").all_text_contents()
        assert int(re.findall(r"from byte (\d+)", begins[-2])[0]) > 0


async def test_rpc(context: BrowserContext) -> None:
    async with program("rpc") as (port, _):
        page = await open_page(context, port)
        log = page.locator("#log li")
        await expect(log).to_have_text(["connected"])
        for call, shown in (
            ("divide(6, 3)", "divide(6, 3) = 2"),
            ("divide(1, 0)", "divide(1, 0): -32602 "),
            ("primes(1000)", "primes(1000) = 168"),
            ('greet("Ada")', 'greet("Ada") = "Hello Ada, your language is en-US"'),
            ("nothing()", "nothing(): -32601 "),
        ):
            await page.fill("#code", call)
            await page.press("#code", "Enter")
            await expect(log.last).to_contain_text(shown)


async def test_telemetry(context: BrowserContext) -> None:
    async with program("telemetry") as (port, _):
        page = await open_page(context, port)
        sensors = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.telemetry", "--sensors", "5", "--port", str(port)),
            cwd=ROOT,
            stderr=PIPE,
        )
        try:
            await expect(page.locator("#count")).to_have_text("5")
            first = page.locator("#rows tr").first
            await expect(first.locator("td").first).to_have_text("sensor-000")
            await expect(first.locator("td").nth(2)).to_have_text(re.compile(r"^\d{2,}$"))
        finally:
            sensors.send_signal(signal.SIGINT)
            await sensors.communicate()
        await expect(page.locator("#count")).to_have_text("0")


async def test_fastapi(context: BrowserContext) -> None:
    async with program("fastapi_app") as (port, _):
        first, second = await open_page(context, port), await open_page(context, port)
        for page in (first, second):
            await page.wait_for_load_state("networkidle")
        await first.fill("#what", "two teas")
        await first.click("text=Post over HTTP")
        await expect(second.locator("#log")).to_contain_text("order: two teas")
        await expect(first.locator("#log")).to_contain_text("told 2 pages")


async def test_two_workers_with_redis(context: BrowserContext) -> None:
    async with RedisServer() as redis, program("workers", "--redis", redis.url) as (port, _):
        # The workers listen a little later than the first process tells.
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("localhost", port)
                except OSError:
                    await asyncio.sleep(0.1)
                    continue
                writer.close()
                await writer.wait_closed()
                break
        by_process: dict[str, Page] = {}
        for _ in range(40):  # chance alone would miss one of two once in 2 ** 39 times
            page = await open_page(context, port)
            await expect(page.locator("#log li")).to_have_text("in the room")
            process = await page.inner_text("#process")
            if by_process.setdefault(process, page) is not page:
                await page.close()
            if len(by_process) == 2:
                break
        (one, first), (_, second) = by_process.items()
        await first.fill("#text", "hello over there")
        await first.press("#text", "Enter")
        for page in (first, second):
            await expect(page.locator("#log li").last).to_have_text(f"{one}: hello over there")
