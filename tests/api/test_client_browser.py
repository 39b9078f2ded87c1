"""The history of a WebTransportBrowser, and navigations that fail. Without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport.client import WebTransportBrowser
from pywebtransport.exceptions import ClientError


class Session:
    """As much of a session as a browser looks at."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_ready = True
        self.failure: Exception | None = None

    async def close(self) -> None:
        self.is_ready = False
        if self.failure is not None:
            raise self.failure


class Client:
    """Connects to everything but what is ``down``."""

    is_closed = False

    def __init__(self) -> None:
        self.made: list[Session] = []
        self.down: set[str] = set()

    async def connect(self, *, url: str) -> Session:
        await asyncio.sleep(0)
        if url in self.down:
            raise ClientError("on purpose")
        self.made.append(Session(url))
        return self.made[-1]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def browser(client: Client) -> Any:
    return WebTransportBrowser(client=client)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "use",
    [
        lambda browser: browser.navigate(url="a"),
        lambda browser: browser.back(),
        lambda browser: browser.forward(),
        lambda browser: browser.refresh(),
        lambda browser: browser.get_history(),
        lambda browser: browser.close(),
    ],
)
async def test_every_method_needs_entering(
    browser: Any, use: Callable[[Any], Awaitable[Any]]
) -> None:
    assert browser.current_session is None
    with pytest.raises(ClientError, match="has not been activated"):
        await use(browser)


async def test_failed_steps_keep_the_session_and_move_the_position(
    browser: Any, client: Client
) -> None:
    async with browser:
        for url in "abc":
            await browser.navigate(url=url)
        current = browser.current_session
        client.down = {"b"}
        with pytest.raises(ClientError, match="on purpose"):
            await browser.back()
        assert browser.current_session is current
        assert current.is_ready
        assert (await browser.back()).url == "a"
        with pytest.raises(ClientError):
            await browser.forward()
        assert (await browser.forward()).url == "c"
        assert await browser.get_history() == ["a", "b", "c"]


async def test_present_url_again(browser: Any, client: Client) -> None:
    async with browser:
        first = await browser.navigate(url="a")
        assert await browser.navigate(url="a") is first
        await first.close()
        second = await browser.navigate(url="a")
        assert second is not first
        assert await browser.get_history() == ["a"]
        assert (await browser.refresh()) is client.made[2]
        assert browser.current_session is client.made[2]
    assert not second.is_ready


async def test_history_is_a_copy_and_is_forgotten(browser: Any, client: Client) -> None:
    async with browser:
        await browser.navigate(url="a")
        (await browser.get_history()).append("b")
        assert await browser.get_history() == ["a"]
        await browser.close()
        assert await browser.get_history() == []
        assert browser.current_session is None
        assert await browser.refresh() is None
    assert not client.is_closed


async def test_one_step_at_a_time(browser: Any, client: Client) -> None:
    async with browser:
        await asyncio.gather(*(browser.navigate(url=url) for url in "abc"))
        assert await browser.get_history() == ["a", "b", "c"]
        assert browser.current_session is client.made[-1]
    assert not any(session.is_ready for session in client.made)


async def test_left_session_that_cannot_be_closed_is_logged(
    browser: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    async with browser:
        (await browser.navigate(url="a")).failure = OSError("close is broken")
        await browser.navigate(url="b")
    assert "close is broken" in caplog.text
    assert asyncio.all_tasks() == before
