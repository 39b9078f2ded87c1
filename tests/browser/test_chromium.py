"""A real browser against our server (in the test's own process), everything in page.js."""

from __future__ import annotations

import pytest

from tests.browser.scenarios import Scenarios
from tests.support.laboratory import Laboratory

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("size", [1, 1 << 20, 20 << 20], ids=["1B", "1MiB", "20MiB"])
@pytest.mark.timeout(180)
async def test_bidirectional_echo_returns_the_same_bytes(run: Scenarios, size: int) -> None:
    result = await run("bidirectionalEcho", size=size)
    assert result["bytes"] == size
    assert result["received"] == result["sent"]


async def test_a_hundred_concurrent_streams_echo(run: Scenarios) -> None:
    results = await run("concurrentStreams", count=100, size=10_000)
    assert len(results) == 100
    assert all(result["received"] == result["sent"] for result in results)


async def test_150_unidirectional_streams_echo_on_server_streams(run: Scenarios) -> None:
    result = await run("unidirectionalEcho", count=150)
    assert sorted(result["received"]) == sorted(result["sent"])


async def test_server_opens_streams_of_both_kinds(run: Scenarios, laboratory: Laboratory) -> None:
    result = await run("serverStreams", count=3)
    assert sorted(result["bidirectional"]) == [f"bidirectional {i}" for i in range(3)]
    assert sorted(result["unidirectional"]) == [f"unidirectional {i}" for i in range(3)]
    assert result["closed"]["settled"] == "resolved"
    answers = {await laboratory.observed.get() for _ in range(3)}
    assert answers == {("answer", f"answer to bidirectional {i}") for i in range(3)}


async def test_a_hundred_datagrams_echo(run: Scenarios) -> None:
    result = await run("datagramEcho", count=100, size=900)
    assert result["equal"] == 100
    assert result["maxDatagramSize"] >= 1000


async def test_codes_of_the_page_reach_the_server(run: Scenarios, laboratory: Laboratory) -> None:
    result = await run("resetByPage", resetCode=77, stopCode=255)
    assert result["settled"] == "resolved"
    observed = [await laboratory.observed.get() for _ in range(2)]
    assert observed == [("reset me", 77), ("stop me", 255)]


async def test_reset_code_of_the_server_reaches_the_page(run: Scenarios) -> None:
    result = await run("resetByServer")
    assert result["name"] == "WebTransportError"
    assert result["source"] == "stream"
    assert result["code"] == 77


async def test_stop_code_of_the_server_reaches_the_page(run: Scenarios) -> None:
    result = await run("stopByServer")
    assert result["name"] == "WebTransportError"
    assert result["code"] == 55


async def test_close_of_the_page_reaches_the_server(run: Scenarios, laboratory: Laboratory) -> None:
    result = await run("closeByPage", code=4242, reason="bye é")
    assert result["value"] == {"closeCode": 4242, "reason": "bye é"}
    assert await laboratory.observed.get() == ("closed", 4242, "bye é")


@pytest.mark.parametrize("path", ["/close", "/close-later"])
async def test_close_of_the_server_reaches_the_page(run: Scenarios, path: str) -> None:
    result = await run("closeByServer", path=path)
    assert result["value"] == {"closeCode": 4242, "reason": "bye é"}


async def test_unknown_path_is_rejected(run: Scenarios) -> None:
    result = await run("rejected", path="/nowhere")
    assert result["ready"]["settled"] == result["closed"]["settled"] == "rejected"
    assert result["ready"]["name"] == "WebTransportError"


async def test_two_sessions_in_one_page(run: Scenarios) -> None:
    results = await run("twoSessions")
    assert len(results) == 2
    assert all(result["received"] == result["sent"] for result in results)


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["chat.v2", "chat.v1"], "chat.v1"), (["other"], "")]
)
async def test_application_protocol_is_negotiated(
    run: Scenarios, offered: list[str], chosen: str
) -> None:
    assert await run("protocol", path="/chat", protocols=offered) == chosen


async def test_twenty_sessions_in_a_row(run: Scenarios) -> None:
    times = await run("sessionsInARow", count=20)
    assert len(times) == 20
