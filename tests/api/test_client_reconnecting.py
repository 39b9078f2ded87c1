"""The loop of a ReconnectingClient: pauses, what ends it, what it tells. Without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig
from pywebtransport.client import ReconnectingClient
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    SessionError,
    TimeoutError,
)
from pywebtransport.types import EventType

URL = "https://example.org/"


class Session:
    """As much of a session as the loop looks at."""

    is_ready = True

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def wait_closed(self) -> None:
        await self.closed.wait()

    async def close(self) -> None:
        self.is_ready = False
        self.closed.set()


class Client:
    """Answers ``connect`` from a list; then for ever with its last entry."""

    is_closed = False

    def __init__(self, *answers: Exception | Session, **options: Any) -> None:
        self.config = ClientConfig(**options)
        self.answers = list(answers)
        self.urls: list[str] = []

    async def connect(self, *, url: str) -> Session:
        self.urls.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await turn(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


turn = asyncio.sleep


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the loop sleeps, which takes no time here."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await turn(0)

    monkeypatch.setattr("pywebtransport.client.reconnecting.asyncio.sleep", sleep)
    monkeypatch.setattr("pywebtransport.client.reconnecting.random.uniform", lambda low, high: high)
    return slept


def reconnecting(client: Client) -> tuple[ReconnectingClient, asyncio.Queue[Event]]:
    made = ReconnectingClient(url=URL, client=client)  # type: ignore[arg-type]
    told: asyncio.Queue[Event] = asyncio.Queue()
    made.on_any(handler=told.put_nowait)
    return made, told


async def test_pauses_grow_to_the_cap_and_until_a_session_has_lived(
    pauses: list[float],
) -> None:
    error = ConnectionError("on purpose")
    first, last = Session(), Session()
    client = Client(*[error] * 4, first, error, TimeoutError("late"), last, max_retries=4)
    client.config = client.config.update(retry_delay=1.0, retry_backoff=3.0, max_retry_delay=10.0)
    made, told = reconnecting(client)
    async with made:
        event = await told.get()
        assert (event.type, event.data) == (
            EventType.CONNECTION_ESTABLISHED,
            {"session": first, "attempt": 5},
        )
        assert await made.get_session() is first
        assert pauses == [1.0, 3.0, 9.0, 10.0]
        first.closed.set()
        lost = await told.get()
        assert (lost.type, lost.data) == (EventType.CONNECTION_LOST, {"url": URL})
        assert (await told.get()).data == {"session": last, "attempt": 8}
        assert pauses[4:] == [10.0, 10.0, 10.0]
    assert client.urls == [URL] * 8
    assert last.closed.is_set()
    assert told.empty(), "closing is no loss"


async def test_defaults_are_one_second_doubled_and_three_retries(pauses: list[float]) -> None:
    error = ClientError("on purpose")
    made, told = reconnecting(Client(error))
    async with made:
        event = await told.get()
        assert event.type is EventType.CONNECTION_FAILED
        assert event.data == {"reason": "max_retries_exceeded", "last_error": error}
        assert pauses == [1.0, 2.0, 4.0]
        assert await made.get_session(wait_timeout=60) is None
        assert not made.is_connected


async def test_a_great_many_failures_do_not_overflow_the_pause(pauses: list[float]) -> None:
    made, told = reconnecting(Client(ConnectionError("on purpose"), max_retries=2000))
    async with made:
        await told.get()
    assert len(pauses) == 2000
    assert pauses[-1] == 30.0


@pytest.mark.parametrize("error", [ConfigurationError("bad URL"), SessionError("x"), OSError("y")])
async def test_other_errors_end_it_at_once(pauses: list[float], error: Exception) -> None:
    made, told = reconnecting(Client(error))
    async with made:
        assert (await told.get()).data == {"reason": "not_retriable", "last_error": error}
        assert await made.get_session(wait_timeout=60) is None
    assert pauses == []


async def test_closed_client_ends_it(pauses: list[float]) -> None:
    error = ClientError("the client is closed")
    client = Client(error)
    client.is_closed = True
    made, told = reconnecting(client)
    async with made:
        assert (await told.get()).data == {"reason": "client_closed", "last_error": error}
    assert pauses == []


async def test_handlers_may_close_it() -> None:
    session = Session()
    before = asyncio.all_tasks()
    made, _ = reconnecting(Client(session))

    async def close(event: Event) -> None:
        await made.close()

    made.on(event_type=EventType.CONNECTION_ESTABLISHED, handler=close)
    async with made, asyncio.timeout(10):
        await session.closed.wait()
    assert not made.is_connected
    assert asyncio.all_tasks() == before


async def test_closing_while_it_connects_or_pauses_ends_it() -> None:
    for answer in (ConnectionError("on purpose"), Session()):
        before = asyncio.all_tasks()
        made, told = reconnecting(Client(answer, retry_delay=60.0))
        async with made:
            await turn(0)
            assert not made.is_connected
        assert asyncio.all_tasks() == before
        assert told.empty()
        await made.close()
