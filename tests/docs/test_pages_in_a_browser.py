"""What the documents write for a page runs in Chromium, and does what they say."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.docs.snippets import ROOT, Page, snippets
from tests.support.laboratory import Laboratory


async def test_two_windows_of_the_chat_hear_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with (
        Page(ROOT / "docs/tutorial/browser.md", tmp_path) as tutorial,
        async_playwright() as playwright,
    ):
        await tutorial.run()
        port = tutorial.ports["8000"]
        serving = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert serving.stdout is not None
            assert b"Serving HTTP" in await serving.stdout.readline()
            browser = await playwright.chromium.launch(
                executable_path=find_chromium(), args=ARGUMENTS
            )
            windows = []
            for name in ("anna", "bert"):
                window = await browser.new_page()
                await window.goto(f"http://localhost:{port}/chat.html")
                await expect(window.locator("#log")).to_have_text("connected\n")
                await window.fill("input", name)
                await window.press("input", "Enter")
                windows.append(window)
            # A second line of each: the server has both names when it has answered.
            for window, text in zip(windows, ("hello", "who is there?"), strict=True):
                await window.fill("input", text)
                await window.press("input", "Enter")
                await expect(window.locator("#log")).to_contain_text(text)
            await windows[0].fill("input", "it is me")
            await windows[0].press("input", "Enter")
            await expect(windows[1].locator("#log")).to_contain_text("anna: it is me")
            await browser.close()
        finally:
            serving.terminate()
            await serving.communicate()


async def test_the_lines_for_a_page_of_the_guide_connect() -> None:
    text = (ROOT / "docs/howto/browser.md").read_text()
    (code,) = [snippet.code for snippet in snippets(text) if snippet.language == "js"]
    async with Laboratory() as laboratory, async_playwright() as playwright:
        assert "https://127.0.0.1:4433" in code
        code = code.replace("https://127.0.0.1:4433", laboratory.url)
        assert "…64 hexadecimal digits…" in code
        code = code.replace("…64 hexadecimal digits…", laboratory.certificate_hash)
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        page = await browser.new_page()
        # A file is a secure context, and about:blank is none.
        await page.goto(f"file://{ROOT}/docs/peers.svg")
        assert (
            await page.evaluate(f"(async () => {{ {code} return 'connected' }})()") == "connected"
        )
        await browser.close()
