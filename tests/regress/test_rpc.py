"""RPC at its limit goes on reading answers; a peer cannot fill the log; errors need not be told."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from pywebtransport.rpc import RpcError
from pywebtransport.rpc.exceptions import RpcErrorCode
from tests.behaviour.site import within
from tests.support.rpc_ends import both, raw

LIMIT = 8


@pytest.mark.parametrize("calls", [LIMIT - 1, LIMIT, LIMIT + 5])
async def test_calls_that_call_back_are_answered_at_the_limit(calls: int) -> None:
    async with both(max_pending_requests=LIMIT) as (client, server, _):

        async def through(number: int) -> Any:
            return await server.call("base", number)

        server.register(func=through)
        client.register(func=lambda number: number + 1, name="base")
        asked = (client.call("through", number, timeout=5) for number in range(calls))
        assert await within(asyncio.gather(*asked)) == list(range(1, calls + 1))


@pytest.mark.parametrize("is_version_2", [False, True])
async def test_what_waits_is_bounded_and_the_rest_refused(is_version_2: bool) -> None:
    version = {"jsonrpc": "2.0"} if is_version_2 else {}
    async with raw(max_pending_requests=1, max_message_size=400) as (peer, _, functions):
        await peer.send({"id": "runs", "method": "wait"})
        await within(functions.entered.wait())
        for name in ("waits", "too much"):
            note = {"id": name, "method": "note", "params": ["x" * 250]}
            await peer.send(version | note)
        refused = await within(peer.receive())
        assert refused["id"] == "too much"
        assert refused["error"]["code"] == RpcErrorCode.OVERLOADED == -32000
        assert refused.get("jsonrpc") == version.get("jsonrpc")
        functions.leave.set()
        assert [(await within(peer.receive()))["id"] for _ in range(2)] == ["runs", "waits"]
        assert functions.seen == [("x" * 250,)]


async def test_a_notification_without_room_is_dropped_without_a_word() -> None:
    async with raw(max_pending_requests=1, max_message_size=100) as (peer, _, functions):
        await peer.send({"id": "runs", "method": "wait"})
        await within(functions.entered.wait())
        for _ in range(3):
            await peer.send({"jsonrpc": "2.0", "method": "note", "params": ["x" * 40]})
        functions.entered.clear()
        functions.leave.set()
        assert (await within(peer.receive()))["id"] == "runs"
        await within(functions.entered.wait())
        await within(peer.ignored({"method": "note", "params": []}))
        assert functions.seen == [("x" * 40,), ()]


@pytest.mark.parametrize("version", [{}, {"jsonrpc": "2.0"}])
async def test_wrong_parameters_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, version: dict[str, str]
) -> None:
    async with raw() as (peer, _, _functions):
        for number in range(100):
            answer = await within(
                peer.ask(version | {"id": number, "method": "add", "params": [1]})
            )
            assert "missing" in answer["error"]["message"]
            assert answer["error"]["code"] == (-32602 if version else -32603)
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_junk_and_failures_are_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with raw() as (peer, _, _functions):
        for number in range(100):
            await peer.send(b"[junk")
            await peer.send(b"17")
            assert "boom" in str(await within(peer.ask({"id": number, "method": "fail"})))
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


async def test_what_a_function_raised_need_not_be_told() -> None:
    async with raw(expose_errors=False) as (peer, _, _functions):
        answer = await within(peer.ask({"id": 1, "method": "fail"}))
        assert answer["error"] == {"code": -32603, "message": "Error executing 'fail'"}
        answer = await within(peer.ask({"jsonrpc": "2.0", "id": 3, "method": "refuse"}))
        assert answer["error"]["message"] == "not like that"
        answer = await within(peer.ask({"id": 4, "method": "nothing"}))
        assert answer["error"]["message"] == "Method 'nothing' not found."


async def test_an_answered_error_cannot_forge_a_log() -> None:
    async with both() as (client, server, _):

        def lie() -> None:
            raise RpcError("bad\n2026 INFO forged \x1b[2J" + "x" * 5000)

        server.register(func=lie)
        with pytest.raises(RpcError) as raised:
            await within(client.call("lie"))
    text = str(raised.value)
    assert text.isprintable()
    assert r"bad\n2026 INFO forged \x1b[2J" in text
    assert len(text) < 1200


async def test_an_answered_error_is_freed_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        freed: list[weakref.ref[RpcError]] = []
        async with both() as (client, _, _):
            try:
                await within(client.call("unknown"))
            except RpcError as error:
                freed.append(weakref.ref(error))
        assert [reference() for reference in freed] == [None]
    finally:
        gc.enable()
