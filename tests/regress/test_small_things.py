"""The review's low findings, one test each."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import pywebtransport.monitor
import pywebtransport.pool
from pywebtransport.client import WebTransportBrowser
from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.server.router import RequestRouter
from pywebtransport.session import WebTransportSession


@pytest.mark.parametrize(
    ("path", "fits"),
    [("/x/admin", True), ("/x/admin?y", True), ("/x?/admin", False), ("/?x=/admin", False)],
)
def test_a_query_chooses_no_pattern(path: str, fits: bool) -> None:
    async def handler(session: WebTransportSession) -> None: ...

    router = RequestRouter()
    router.add_pattern_route(pattern=".*/admin", handler=handler)
    session: Any = type("Session", (), {"_path": path, "path_params": ()})()
    assert (router.route_request(session=session) is handler) is fits


def test_every_logger_is_below_the_library_s() -> None:
    assert pywebtransport.pool
    assert pywebtransport.monitor
    names = set(logging.getLogger().manager.loggerDict)
    assert {"pywebtransport.pool", "pywebtransport.monitor"} <= names
    assert not names & {"pool", "monitor"}


class Token(bytes):
    """Bytes by another name."""


def test_a_number_does_not_choose_how_many_bytes_there_are() -> None:
    data = b"100000000000"
    assert JSONSerializer().deserialize(data=data, obj_type=Token) == 100_000_000_000
    with pytest.raises(SerializationError, match="number"):
        JSONSerializer(strict=True).deserialize(data=data, obj_type=Token)


async def test_a_browser_s_history_is_bounded() -> None:
    class Client:
        async def connect(self, *, url: str) -> Any:
            return Session()

    class Session:
        is_ready = True

        async def close(self) -> None: ...

    client: Any = Client()
    async with WebTransportBrowser(client=client) as browser:
        for number in range(1005):
            await browser.navigate(url=str(number))
        history = await browser.get_history()
        assert (len(history), history[0], history[-1]) == (1000, "5", "1004")
        assert await browser.forward() is None
        await browser.back()
        assert await browser.forward() is not None
