"""JSON-RPC 2.0 on request: the examples of its specification (§7), batches, and mixed peers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pywebtransport.rpc import InvalidParamsError, MethodNotFoundError, RpcError, RpcErrorCode
from tests.support.rpc_ends import Raw, both, manager, raw
from tests.support.stream_pair import stream_pair

Json = dict[str, Any]


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() <= {asyncio.current_task()}


def code_of(answer: Json) -> Any:
    """The answer with nothing left of its error but the code."""
    if "error" in answer:
        return answer | {"error": answer["error"]["code"]}
    return answer


INVALID = {"jsonrpc": "2.0", "id": None, "error": RpcErrorCode.INVALID_REQUEST}


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        (
            '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
            {"jsonrpc": "2.0", "result": 19, "id": 1},
        ),
        (
            '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
            {"jsonrpc": "2.0", "result": -19, "id": 2},
        ),
        (
            '{"jsonrpc": "2.0", "method": "subtract", '
            '"params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
            {"jsonrpc": "2.0", "result": 19, "id": 3},
        ),
        (
            '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
            {"jsonrpc": "2.0", "error": -32601, "id": "1"},
        ),
        (
            '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
            {"jsonrpc": "2.0", "error": -32700, "id": None},
        ),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', INVALID),
        ('{"jsonrpc": "2.0", "method": "add", "params": "bar"}', INVALID),
        ('{"jsonrpc": "2.0", "method": "add", "id": [1]}', INVALID),
        ('{"jsonrpc": "2.0", "method": "add", "id": true}', INVALID),
        ('{"foo": 1}', INVALID),
        ("3", INVALID),
        (
            '{"jsonrpc": "2.0", "method": "add", "params": [1], "id": 4}',
            {"jsonrpc": "2.0", "error": -32602, "id": 4},
        ),
        (
            '{"jsonrpc": "2.0", "method": "add", "params": {"a": 1, "z": 2}, "id": 4.5}',
            {"jsonrpc": "2.0", "error": -32602, "id": 4.5},
        ),
        (
            '{"jsonrpc": "2.0", "method": "fail", "id": null}',
            {"jsonrpc": "2.0", "error": -32603, "id": None},
        ),
        ("[]", INVALID),
    ],
)
async def test_single_messages(request_text: str, answer: Json) -> None:
    async with raw(jsonrpc=True) as (peer, _, _):
        assert code_of(await peer.ask(request_text.encode())) == answer


@pytest.mark.parametrize(
    ("request_text", "answers"),
    [
        ("[1]", [INVALID]),
        ("[1,2,3]", [INVALID, INVALID, INVALID]),
        (
            '[{"jsonrpc": "2.0", "method": "total", "params": [1,2,4], "id": "1"},'
            ' {"jsonrpc": "2.0", "method": "note", "params": [7]},'
            ' {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},'
            ' {"foo": "boo"},'
            ' {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"}]',
            [
                {"jsonrpc": "2.0", "result": 7, "id": "1"},
                {"jsonrpc": "2.0", "result": 19, "id": "2"},
                INVALID,
                {"jsonrpc": "2.0", "error": -32601, "id": "5"},
            ],
        ),
    ],
)
async def test_batches(request_text: str, answers: list[Json]) -> None:
    async with raw(jsonrpc=True) as (peer, _, _):
        assert [code_of(each) for each in await peer.ask(request_text.encode())] == answers


async def test_notifications_are_not_answered_alone_or_in_a_batch() -> None:
    notes = [{"jsonrpc": "2.0", "method": "note", "params": [n]} for n in range(2)]
    async with raw(jsonrpc=True) as (peer, _, functions):
        await peer.ignored(notes)
        await peer.ignored({"jsonrpc": "2.0", "method": "missing"})
        await peer.ignored({"jsonrpc": "2.0", "method": "note", "params": {"wrong": 1}})
        assert sorted(functions.seen) == [(0,), (1,)]


async def test_a_batch_at_the_limit_and_one_past_it() -> None:
    request = {"jsonrpc": "2.0", "method": "total", "id": 1}
    async with raw(jsonrpc=True, max_batch_size=3) as (peer, _, _):
        assert len(await peer.ask([request] * 3)) == 3
        assert code_of(await peer.ask([request] * 4)) == INVALID


async def test_a_batch_with_results_that_cannot_be_sent() -> None:
    def request(method: str, request_id: int, *params: Any) -> Json:
        return {"jsonrpc": "2.0", "method": method, "params": list(params), "id": request_id}

    async with raw(jsonrpc=True, max_message_size=2000) as (peer, _, _):
        answers = await peer.ask([request("unserialisable", 1), request("add", 2, 1, 1)])
        assert [code_of(each).get("error") for each in answers] == [-32603, None]
        assert answers[1]["result"] == 2
        answers = await peer.ask([request("large", 1, 3000), request("large", 2, 10)])
        assert [code_of(each).get("error") for each in answers] == [-32603, None]
        answers = await peer.ask([request("large", 1, 1500), request("large", 2, 1500)])
        assert [code_of(each).get("error") for each in answers] == [-32603, -32603]


async def test_the_bytes_of_a_request_and_a_notification() -> None:
    one, other = stream_pair()
    async with manager(one, jsonrpc=True) as client:
        call = asyncio.create_task(client.call("m", named={"a": 1}))
        peer = Raw(other)
        payload = await peer.payload()
        request_id = json.loads(payload)["id"]
        head = f'{{"jsonrpc": "2.0", "id": "{request_id}", "method": "m", '
        assert payload == f'{head}"params": {{"a": 1}}}}'.encode()
        await peer.send({"jsonrpc": "2.0", "id": request_id, "result": 1})
        assert await call == 1
        await client.notify("m", 1)
        assert await peer.payload() == b'{"jsonrpc": "2.0", "method": "m", "params": [1]}'


async def test_named_parameters_and_a_batch_of_calls() -> None:
    async with both(jsonrpc=True) as (client, _, functions):
        assert await client.call("subtract", named={"subtrahend": 1, "minuend": 3}) == 2
        batch = client.batch()
        batch.call("add", 1, 2)
        batch.notify("note", "in a batch")
        batch.call("missing")
        batch.call("subtract", named={"minuend": 9, "subtrahend": 4})
        assert len(batch) == 4
        first, second, third = await batch.send()
        assert (first, third) == (3, 5)
        assert isinstance(second, MethodNotFoundError)
        assert functions.seen == [("in a batch",)]
        assert await batch.send() == []
        batch.notify("note", "alone")
        assert await batch.send() == []


async def test_what_a_function_raises_keeps_its_code_and_its_data() -> None:
    async with both(jsonrpc=True) as (client, _, _):
        with pytest.raises(RpcError, match="mine") as caught:
            await client.call("own_error")
        assert caught.value.error_code == -32000
        assert caught.value.details == {"why": "because"}
        with pytest.raises(InvalidParamsError, match="missing"):
            await client.call("add", 1)


@pytest.mark.parametrize(
    ("data", "details"), [({"k": 1}, {"k": 1}), ([1], {"data": [1]}), (None, {})]
)
async def test_the_data_of_an_error_becomes_its_details(data: Any, details: Json) -> None:
    one, other = stream_pair()
    async with manager(one, jsonrpc=True) as client:
        call = asyncio.create_task(client.call("m"))
        peer = Raw(other)
        request = await peer.receive()
        error = {"code": -32001, "message": "m", "data": data}
        await peer.send({"jsonrpc": "2.0", "id": request["id"], "error": error})
        with pytest.raises(RpcError) as caught:
            await call
        assert caught.value.details == details


async def test_what_needs_the_option() -> None:
    async with both() as (client, _, _):
        with pytest.raises(ValueError, match="jsonrpc=True"):
            await client.call("add", named={"a": 1, "b": 2})
        with pytest.raises(ValueError, match="jsonrpc=True"):
            client.batch()
    async with both(jsonrpc=True) as (client, _, _):
        with pytest.raises(ValueError, match="either"):
            await client.call("add", 1, named={"b": 2})


@pytest.mark.parametrize(("here", "there"), [(True, False), (False, True)])
async def test_either_setting_works_with_peers_of_both_kinds(here: bool, there: bool) -> None:
    one, other = stream_pair()
    async with (
        manager(one, jsonrpc=here) as client,
        manager(other, jsonrpc=there) as server,
    ):
        server.register(func=lambda a: a, name="same")
        client.register(func=lambda a: a, name="same")
        assert await client.call("same", 1) == 1
        assert await server.call("same", 2) == 2
        batch = (client if here else server).batch()
        batch.call("same", 3)
        assert await batch.send(timeout=1) == [3]
    assert b"jsonrpc" in one.written
    assert b"jsonrpc" in other.written


async def test_a_manager_without_the_option_answers_what_says_that_it_is_version_2() -> None:
    request = {"jsonrpc": "2.0", "method": "total", "params": [1, 2], "id": 1}
    async with raw(max_batch_size=3) as (peer, _, _):
        answers = await peer.ask([request, {"foo": 1}, 7])
        assert [code_of(each) for each in answers] == [
            {"jsonrpc": "2.0", "result": 3, "id": 1},
            *(INVALID, INVALID),
        ]
        assert code_of(await peer.ask([request] * 4)) == INVALID
        assert code_of(await peer.ask({"jsonrpc": "2.0", "id": 1})) == INVALID


async def test_a_peer_of_0_8_gets_answers_of_0_8_from_a_manager_with_the_option() -> None:
    async with raw(jsonrpc=True) as (peer, _, _):
        await peer.send({"id": "1", "method": "add", "params": [1, 2]})
        assert await peer.payload() == b'{"id": "1", "result": 3}'
        answer = await peer.ask({"id": "2", "method": "own_error", "params": []})
        assert answer["error"]["code"] == -32603


async def test_responses_in_a_batch_find_their_calls() -> None:
    one, other = stream_pair()
    async with manager(one, jsonrpc=True) as client:
        calls = [asyncio.create_task(client.call("m", n)) for n in range(2)]
        peer = Raw(other)
        ids = [(await peer.receive())["id"] for _ in calls]
        await peer.send([{"jsonrpc": "2.0", "id": each, "result": each} for each in ids])
        assert await asyncio.gather(*calls) == ids


async def test_errors_are_never_answered_with_errors() -> None:
    async with raw(jsonrpc=True) as (peer, _, _):
        error = {"code": -32700, "message": "parse error"}
        await peer.ignored({"jsonrpc": "2.0", "id": None, "error": error})
        await peer.ignored([{"jsonrpc": "2.0", "id": None, "error": error}])
