"""The scenarios of page.js, called from Python."""

from __future__ import annotations

from typing import Any

from playwright.async_api import Page


class Scenarios:
    """Runs a named scenario in the page and prints what came of it."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def __call__(self, name: str, **arguments: Any) -> Any:
        result = await self._page.evaluate(
            "([name, arguments]) => scenarios[name](arguments)", [name, arguments]
        )
        print(f"{name}({arguments}) -> {str(result)[:400]}")
        return result
