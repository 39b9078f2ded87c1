"""The live page of `pywebtransport demo`, in browsers. Pictures go to .cache/screenshots."""

from __future__ import annotations

import asyncio
import importlib
import math
import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from pywebtransport.demo import Demo
from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / ".cache" / "screenshots"
DESKTOP, PHONE = {"width": 1360, "height": 960}, {"width": 390, "height": 844}
WAIT = 40_000
EXPECTED_WHEN_AWAY = "net::ERR_CONNECTION_REFUSED"

expect.set_options(timeout=WAIT)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo() -> AsyncIterator[Demo]:
    async with Demo(port=free_port()) as demo:
        yield demo


@asynccontextmanager
async def visit(
    browser: Browser, url: str, *, expected: str | None = None, script: str = "", quiet: bool = True
) -> AsyncIterator[Page]:
    """A page whose console stays clean; a quiet one leaves the machine to the others."""
    complaints: list[str] = []
    context = await browser.new_context(viewport=DESKTOP, ignore_https_errors=True)
    page = await context.new_page()
    page.set_default_timeout(WAIT)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type in ("error", "warning")
            and not (expected is not None and expected in message.text)
            else None
        ),
    )
    await page.add_init_script(script)
    await page.goto(url)
    if quiet:
        await page.check("input[name=pace][value=off]")
    try:
        yield page
    finally:
        await context.close()
    assert complaints == []


async def until(page: Page, condition: str, **values: Any) -> None:
    """Until an expression holds in the page; playwright's own way is eval(), which ours forbids."""
    async with asyncio.timeout(WAIT / 1000):
        await page.evaluate(
            f"""(values) => new Promise((resolve) => {{
              const look = () => (({condition}) ? resolve() : setTimeout(look, 50));
              look();
            }})""",
            values,
        )


async def connected(page: Page) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-state", "open")


async def above_zero(page: Page, *ids: str) -> None:
    for each in ids:
        await until(page, "parseFloat(document.getElementById(values.id).textContent) > 0", id=each)


async def test_the_figures_and_plots_move(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url, quiet=False) as page:
        await connected(page)
        await above_zero(page, "down-rate", "up-rate", "rtt-median", "rtt-high", "fact-handshake")
        for plot in ("down-plot", "up-plot", "rtt-plot"):
            before = await page.evaluate(f"document.getElementById('{plot}').toDataURL()")
            await until(
                page,
                "document.getElementById(values.plot).toDataURL() !== values.before",
                plot=plot,
                before=before,
            )
        await until(page, "document.querySelector('#session td').textContent.endsWith(' ms')")
        await expect(page.locator("#session")).to_contain_text("this browser has no getStats()")


async def test_full_speed_is_faster_and_off_is_silence(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url, quiet=False) as page:
        await above_zero(page, "down-rate", "up-rate")
        await page.check("input[name=pace][value=full]")
        await until(
            page,
            "parseFloat(document.getElementById('down-peak').textContent) > 60"
            " || document.getElementById('down-peak').textContent.endsWith('Gbit/s')",
        )
        await page.check("input[name=pace][value=off]")
        await expect(page.locator("#down-rate")).to_have_text("0.0")
        await expect(page.locator("#up-rate")).to_have_text("0.0")


async def test_datagrams_that_the_server_drops_are_counted(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url) as page:
        await above_zero(page, "rtt-median")
        await page.check("input[name=drop][value='25']")
        await above_zero(page, "loss", "lost-count")


async def test_words_and_cursors_reach_a_second_page(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url) as first, visit(browser, demo.url) as second:
        await together(first, second)
        await first.fill("#name", "Ada")
        await first.press("#name", "Enter")
        await first.fill("#text", "<b>hello</b> there")
        await first.click("#say button")
        await expect(second.locator("#log li p")).to_have_text("<b>hello</b> there")
        await expect(second.locator("#log li b")).to_have_text("Ada")
        await expect(second.locator("#people")).to_contain_text("Ada")
        await expect(first.locator("#text")).to_have_value("")

        board = first.locator("#board")
        await board.hover(position={"x": 120, "y": 60})
        width, height = await first.evaluate("[board.clientWidth, board.clientHeight]")
        cursor = second.locator('.cursor[data-name="Ada"]')
        await expect(cursor).to_be_visible()
        await at_place(second, 120 / width, 60 / height)
        await above_zero(first, "room-trip")
        await first.close()
        await expect(second.locator("#people")).not_to_contain_text("Ada")
        await expect(cursor).to_have_count(0)


async def together(*pages: Page) -> None:
    """Until each has seen the others, and so will hear what they say."""
    names = [await page.input_value("#name") for page in pages]
    for page in pages:
        for name in names:
            await expect(page.locator("#people")).to_contain_text(name)


async def at_place(page: Page, x: float, y: float) -> None:
    """Until Ada's cursor stands at these shares of the board, to a pixel or two."""
    await until(
        page,
        """(() => {
          const cursor = document.querySelector('.cursor[data-name="Ada"]');
          if (!cursor) return false;
          const at = new DOMMatrix(getComputedStyle(cursor).transform);
          const [x, y] = [values.x * board.clientWidth, values.y * board.clientHeight];
          return Math.hypot(at.e - x, at.f - y) < 2;
        })()""",
        x=x,
        y=y,
    )


async def test_all_of_it_works_by_keyboard(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url) as first, visit(browser, demo.url) as second:
        await together(first, second)
        await first.focus("#name")
        await first.keyboard.press("Control+A")
        await first.keyboard.type("Ada")
        await first.keyboard.press("Tab")
        await first.keyboard.type("typed")
        await first.keyboard.press("Enter")
        await expect(second.locator("#log li p")).to_have_text("typed")

        await first.focus("#board")
        for _ in range(5):
            await first.keyboard.press("ArrowRight")
        await first.keyboard.press("Shift+ArrowDown")
        await first.keyboard.press(" ")
        await at_place(second, 0.6, 0.58)

        # The radio buttons of a group are one stop, and arrows choose.
        await first.focus("input[name=pace][value=off]")
        await first.keyboard.press("ArrowRight")
        await above_zero(first, "down-rate")

        # Everything that can be focused shows it, from the first Tab on.
        await first.reload()
        for name in ("skip", "theme"):
            await first.keyboard.press("Tab")
            focused = await first.evaluate(
                "[document.activeElement.id || document.activeElement.className,"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            assert focused == [name, "solid"]
        await first.keyboard.press("Enter")
        assert await first.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_it_connects_again_when_the_server_is_back(browser: Browser) -> None:
    port = free_port()
    async with Demo(port=port) as demo:
        url = demo.url
        context = visit(browser, url, expected=EXPECTED_WHEN_AWAY)
        page = await context.__aenter__()
        await connected(page)
    try:
        status = page.locator("#status")
        await expect(status).to_have_attribute("data-state", "waiting")
        await expect(status).to_contain_text("server")
        async with Demo(port=port):
            await page.click("#retry")
            await connected(page)
            await page.check("input[name=pace][value=gentle]")
            await above_zero(page, "down-rate", "up-rate")
            await page.close()
    finally:
        await context.__aexit__(None, None, None)


async def test_a_browser_without_webtransport_is_told(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url, script="delete window.WebTransport", quiet=False) as page:
        await expect(page.locator("#notice-title")).to_have_text("This browser has no WebTransport")
        await expect(page.locator("#status-text")).to_have_text("No WebTransport here")


async def test_away_from_loopback_the_page_comes_by_https(browser: Browser) -> None:
    async with Demo(host="0.0.0.0", port=free_port()) as demo:
        assert re.fullmatch(rf"https://[\d.]+:{demo.port}/", demo.url)
        async with visit(browser, demo.url) as page:
            await connected(page)


async def test_the_browsers_own_figures_stand_beside_ours(demo: Demo) -> None:
    arguments = [*ARGUMENTS, "--enable-experimental-web-platform-features"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        async with visit(browser, demo.url) as page:
            await until(
                page,
                "[...document.querySelectorAll('#session td:last-child')]"
                ".filter((cell) => /[1-9]/.test(cell.textContent)).length > 2",
            )
        await browser.close()


async def test_what_wants_no_motion_gets_none(browser: Browser, demo: Demo) -> None:
    async with visit(browser, demo.url) as page:
        await page.emulate_media(reduced_motion="reduce")
        await connected(page)
        animation = "getComputedStyle(document.querySelector('.lamp')).animationName"
        assert await page.evaluate(animation) == "none"
        await above_zero(page, "rtt-median")


async def test_pictures(browser: Browser, demo: Demo) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    async with visit(browser, demo.url, quiet=False) as page, visit(browser, demo.url) as other:
        await together(page, other)
        await other.check("input[name=ping][value='10']")
        await above_zero(page, "down-rate", "up-rate", "rtt-median")
        await page.check("input[name=drop][value='5']")
        await say(other, "Heron", "Is this all one connection?")
        await say(page, "Ada", "Streams, datagrams and this chat: yes.")
        await say(other, "Heron", "Move on the board, I can see you.")
        await expect(page.locator("#log li p")).to_have_count(3)
        await above_zero(page, "lost-count")
        # A picture shows half a minute of streams.
        await until(page, "performance.now() > 15000")
        for name, size, scheme in (
            ("desktop-light", DESKTOP, "light"),
            ("desktop-dark", DESKTOP, "dark"),
            ("phone-light", PHONE, "light"),
            ("phone-dark", PHONE, "dark"),
        ):
            await page.set_viewport_size(size)
            await page.emulate_media(color_scheme=scheme)
            await circle(other, 0.68)
            await circle(page, 0.3)
            await page.evaluate("scrollTo(0, 0)")
            path = SCREENSHOTS / f"demo-{name}.png"
            await page.screenshot(path=path, full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert path.stat().st_size > 50_000


async def say(page: Page, name: str, text: str) -> None:
    await page.fill("#name", name)
    await page.fill("#text", text)
    await page.press("#text", "Enter")


async def circle(page: Page, middle: float) -> None:
    board = page.locator("#board")
    await board.scroll_into_view_if_needed()
    box = await board.bounding_box()
    assert box is not None
    for i in range(24):
        x = box["x"] + box["width"] * (middle + 0.16 * math.cos(i / 5))
        y = box["y"] + box["height"] * (0.5 + 0.3 * math.sin(i / 5))
        await page.mouse.move(x, y)
    await page.mouse.click(x, y)


async def test_firefox_too(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "interop" / "peers")
    browsers = importlib.import_module("browser")
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as profile:
        firefox = browsers.Firefox(profile)
        await firefox.start()
        try:
            page = await firefox.page(demo.url)
            moving = (
                "['down-rate', 'up-rate', 'rtt-median', 'fact-visitors'].every("
                "(id) => parseFloat(document.getElementById(id).textContent) > 0)"
            )
            assert await firefox.evaluate(
                page,
                "new Promise((resolve) => { const look = () =>"
                f" {moving} ? resolve(true) : setTimeout(look, 200); look(); }})",
            )
        finally:
            firefox._socket.close()
            firefox.process.kill()
            await firefox.process.wait()
