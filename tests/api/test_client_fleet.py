"""Several clients used together: what one that fails does to the others. Without a network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.client import ClientFleet
from pywebtransport.exceptions import ClientError, ConnectionError


class Client(WebTransportClient):
    """Connects when it is told to."""

    def __init__(self, answer: Any = None) -> None:
        super().__init__()
        self.answer = answer
        self.gate = asyncio.Event()
        self.close_failure: Exception | None = None

    async def connect(self, **_: Any) -> Any:
        if self.answer is None:
            await self.gate.wait()
            return self
        raise self.answer

    async def close(self) -> None:
        await super().close()
        if self.close_failure is not None:
            raise self.close_failure


async def test_failure_leaves_those_that_are_still_connecting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow, failing = Client(), Client(ConnectionError("on purpose"))
    async with ClientFleet(clients=[slow, failing]) as fleet:
        connecting = asyncio.create_task(fleet.connect_all(url="https://example.org"))
        for _ in range(4):
            await asyncio.sleep(0)
        assert not connecting.done()
        slow.gate.set()
        sessions: list[Any] = await connecting
        assert sessions == [slow]
    assert "client 1 of the fleet did not connect" in caplog.text


async def test_client_that_cannot_be_entered_closes_all() -> None:
    closed = Client()
    await closed.close()
    others = [Client(), Client()]
    fleet = ClientFleet(clients=[others[0], closed, others[1]])
    with pytest.raises(ExceptionGroup) as caught:
        await fleet.__aenter__()
    assert [type(error) for error in caught.value.exceptions] == [ClientError]
    assert all(client.is_closed for client in others)
    assert fleet.get_client_count() == 0
    with pytest.raises(ClientError, match="not been activated"):
        await fleet.get_client()


async def test_client_that_cannot_be_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clients = [Client(), Client()]
    clients[0].close_failure = OSError("close is broken")
    async with ClientFleet(clients=clients) as fleet:  # type: ignore[arg-type]
        assert fleet.get_client_count() == 2
    assert clients[1].is_closed
    assert "close is broken" in caplog.text


async def test_cancelling_cancels_every_connect() -> None:
    clients = [Client(), Client()]
    async with ClientFleet(clients=clients) as fleet:  # type: ignore[arg-type]
        before = asyncio.all_tasks()
        connecting = asyncio.create_task(fleet.connect_all(url="https://example.org"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert asyncio.all_tasks() == before
