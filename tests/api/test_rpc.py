"""RPC on a stream in memory: the documented calls, the bytes of both formats, every bad input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import StreamError
from pywebtransport.rpc import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcError,
    RpcErrorCode,
    RpcErrorResponse,
    RpcRequest,
    RpcSuccessResponse,
    RpcTimeoutError,
)
from pywebtransport.rpc.protocol import FrameDecoder, encode_frame
from tests.support.rpc_ends import Functions, Raw, both, manager, raw
from tests.support.stream_pair import stream_pair

Json = dict[str, Any]


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() <= {asyncio.current_task()}


# Calls.


@pytest.mark.parametrize("jsonrpc", [False, True])
async def test_calls_both_ways_on_one_stream(jsonrpc: bool) -> None:
    async with both(jsonrpc=jsonrpc) as (client, server, _):
        client.register(func=lambda text: text.upper(), name="shout")
        assert await client.call("add", 1, 2) == 3
        assert await client.call("subtract", 5, 2) == 3
        assert await server.call("shout", "héllo") == "HÉLLO"


async def test_many_calls_at_once_get_their_own_answers() -> None:
    async with both() as (client, _, _):
        results = await asyncio.gather(*(client.call("add", n, n) for n in range(3000)))
    assert results == [n * 2 for n in range(3000)]


async def test_a_call_inside_a_called_function() -> None:
    async with both() as (client, server, _):
        server.register(func=lambda: server.call("base"), name="through")
        client.register(func=lambda: 42, name="base")
        assert await client.call("through") == 42


async def test_the_later_registration_wins_and_a_name_is_needed() -> None:
    async with both() as (client, server, _):
        server.register(func=lambda: 1, name="which")
        server.register(func=lambda: 2, name="which")
        assert await client.call("which") == 2
        with pytest.raises(ValueError, match="name"):
            server.register(func=Functions().add, name="")


@pytest.mark.parametrize("method", ["", None, 5])
async def test_a_method_that_is_no_name(method: Any) -> None:
    async with both() as (client, _, _):
        with pytest.raises(ValueError, match="name"):
            await client.call(method)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_timeout_that_is_not_positive(timeout: float) -> None:
    async with both() as (client, _, _):
        with pytest.raises(ValueError, match="positive"):
            await client.call("add", 1, 2, timeout=timeout)


@pytest.mark.parametrize(
    ("method", "params", "code", "text"),
    [
        ("missing", (), -32601, "missing"),
        ("add", (1,), -32603, "Error executing 'add'"),
        ("fail", (), -32603, "Error executing 'fail': boom"),
        ("refuse", (), -32602, "not like that"),
        ("own_error", (), -32603, "Error executing 'own_error'"),
        ("unserialisable", (), -32603, "not JSON serializable"),
        ("large", (2 << 20,), -32603, "larger than"),
        ("lose_a_task", (), -32603, "Error executing 'lose_a_task'"),
    ],
)
async def test_errors_of_the_other_side(
    method: str, params: tuple[Any, ...], code: int, text: str
) -> None:
    async with both() as (client, _, _):
        with pytest.raises(RpcError, match=text) as caught:
            await client.call(method, *params)
        assert caught.value.error_code == code
        assert caught.value.session_id == "C"
        assert caught.value.message.startswith("[Session:C] ")
        assert await client.call("add", 1, 2) == 3


async def test_errors_have_classes() -> None:
    async with both() as (client, _, _):
        with pytest.raises(MethodNotFoundError):
            await client.call("missing")
        with pytest.raises(InvalidParamsError):
            await client.call("refuse")


@pytest.mark.parametrize("params", [(object(),), ("x" * (1 << 20),)])
async def test_parameters_that_cannot_be_sent(params: tuple[Any, ...]) -> None:
    async with both() as (client, _, _):
        with pytest.raises(InvalidParamsError):
            await client.call("note", *params)
        assert await client.call("add", 1, 2) == 3


async def test_no_answer_in_time() -> None:
    async with both() as (client, _, functions):
        with pytest.raises(RpcTimeoutError, match=r"0\.01") as caught:
            await client.call("wait", timeout=0.01)
        assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR
        functions.leave.set()
        # The late answer has no call any more and disturbs nobody.
        assert await client.call("add", 1, 2) == 3
        assert client._calls == {}


async def test_a_cancelled_call_leaves_the_manager_whole() -> None:
    async with both() as (client, _, functions):
        call = asyncio.create_task(client.call("wait"))
        await functions.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert client._calls == {}
        functions.leave.set()
        assert await client.call("add", 1, 2) == 3


async def test_a_call_cancelled_while_the_stream_takes_nothing_is_not_sent() -> None:
    one, other = stream_pair(window=1)
    async with manager(one) as client:
        first = asyncio.create_task(client.call("note", 1))
        second = asyncio.create_task(client.call("note", 2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second.cancel()
        peer = Raw(other)
        request = await peer.receive()
        await peer.send({"id": request["id"], "result": None})
        await first
        third = asyncio.create_task(client.call("note", 3))
        assert (await peer.receive())["params"] == [3]
        third.cancel()
        await asyncio.gather(second, third, return_exceptions=True)


async def test_the_concurrency_limit() -> None:
    one, other = stream_pair()
    functions = Functions()
    async with manager(one) as client, manager(other, concurrency_limit=2) as server:
        functions.register(server)
        calls = [asyncio.create_task(client.call("wait")) for _ in range(5)]
        await functions.entered.wait()
        functions.leave.set()
        assert await asyncio.gather(*calls) == ["left"] * 5
        assert functions.most_running == 2


@pytest.mark.parametrize("limit", [0, None])
async def test_no_concurrency_limit(limit: int | None) -> None:
    one, other = stream_pair()
    functions = Functions()
    async with manager(one) as client, manager(other, concurrency_limit=limit) as server:
        functions.register(server)
        calls = [asyncio.create_task(client.call("wait")) for _ in range(50)]
        while functions.running < 50:
            functions.entered.clear()
            await functions.entered.wait()
        functions.leave.set()
        assert await asyncio.gather(*calls) == ["left"] * 50


async def test_pending_requests_at_the_limit_hold_the_stream_back() -> None:
    async with raw(max_pending_requests=3) as (peer, server, functions):
        for number in range(4):
            await peer.send({"id": number, "method": "wait"})
        await peer.send({"method": "note", "params": ["late"]})
        while functions.running < 3:
            functions.entered.clear()
            await functions.entered.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (functions.running, functions.seen) == (3, [])
        functions.leave.set()
        assert sorted([(await peer.receive())["id"] for _ in range(4)]) == [0, 1, 2, 3]
        await peer.ignored({"method": "note", "params": []})
        assert functions.seen == [("late",), ()]
        assert len(server._serving) <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency_limit": -1},
        {"max_message_size": 0},
        {"max_pending_requests": 0},
        {"max_batch_size": 0},
    ],
)
async def test_limits_that_make_no_sense(options: Json) -> None:
    with pytest.raises(ValueError, match="must"):
        manager(stream_pair()[0], **options)


# The end.


async def test_a_manager_that_was_not_entered() -> None:
    client = manager(stream_pair()[0])
    with pytest.raises(RpcError, match="has not been activated"):
        await client.call("add")
    await client.close()


async def test_a_manager_is_entered_once() -> None:
    client = manager(stream_pair()[0])
    async with client:
        with pytest.raises(RpcError, match="entered before"):
            await client.__aenter__()
    with pytest.raises(RpcError, match="entered before"):
        await client.__aenter__()


async def test_closing_fails_pending_calls_and_ends_the_stream() -> None:
    one, other = stream_pair()
    async with manager(one) as client:
        call = asyncio.create_task(client.call("wait"))
        peer = Raw(other)
        await peer.receive()
        await client.close()
        await client.close()
        with pytest.raises(RpcError, match="RPC manager shutting down"):
            await call
        with pytest.raises(RpcError, match="closed"):
            await client.call("add", 1, 2)
    assert one.finished
    assert await other.read() == b""


async def test_closing_cancels_running_functions() -> None:
    async with both() as (client, server, functions):
        call = asyncio.create_task(client.call("wait"))
        await functions.entered.wait()
        await server.close()
        assert functions.running == 0
        with pytest.raises(RpcError, match="ended the stream"):
            await call
        await client.wait_closed()


async def test_a_function_may_close_its_own_manager() -> None:
    async with raw() as (peer, server, _):
        finished: list[str] = []

        async def stop() -> None:
            await server.close()
            finished.append("stopped")

        server.register(func=stop)
        await peer.send({"id": 1, "method": "stop"})
        await server.wait_closed()
        assert await peer.stream.read() == b""
        await asyncio.sleep(0)
        assert finished == ["stopped"]


async def test_the_end_of_the_stream_closes_the_manager_after_its_answers() -> None:
    async with raw() as (peer, server, functions):
        await peer.send({"method": "note", "params": ["last words"]})
        await peer.send({"id": 1, "method": "wait"})
        await peer.stream.close()
        await functions.entered.wait()
        functions.leave.set()
        assert await peer.receive() == {"id": 1, "result": "left"}
        await server.wait_closed()
        assert functions.seen == [("last words",)]
        with pytest.raises(RpcError, match="closed"):
            await server.call("add")


async def test_a_function_that_never_ends_does_not_hold_up_close() -> None:
    async with raw() as (peer, server, functions):
        await peer.send({"id": 1, "method": "wait"})
        await functions.entered.wait()
        await peer.stream.close()
        await asyncio.wait_for(server.close(), 1)
        assert functions.running == 0


async def test_a_reset_fails_pending_calls() -> None:
    one, other = stream_pair()
    async with manager(one) as client:
        call = asyncio.create_task(client.call("wait"))
        await Raw(other).receive()
        await other.abort(code=7)
        with pytest.raises(RpcError, match="reset"):
            await call
        await client.wait_closed()
        with pytest.raises(RpcError):
            await client.notify("note")


async def test_a_stream_that_cannot_be_written() -> None:
    one, _ = stream_pair()
    await one.close()
    async with manager(one) as client:
        with pytest.raises(RpcError, match="finished") as caught:
            await client.call("add", 1, 2)
        assert isinstance(caught.value.__cause__, StreamError)


# The bytes of PyWebTransport 0.8.


async def test_a_request_as_0_8_writes_it() -> None:
    one, other = stream_pair()
    async with manager(one) as client:
        call = asyncio.create_task(client.call("add", 1, "é"))
        payload = await Raw(other).payload()
        request_id = json.loads(payload)["id"]
        expected = f'{{"id": "{request_id}", "method": "add", "params": [1, "\\u00e9"]}}'
        assert bytes(one.written) == len(expected).to_bytes(4) + expected.encode()
        assert len(request_id) == 36
        frame = b'\x00\x00\x00\x3b{"id": "%s", "result": 3}' % request_id.encode()
        await other.write(data=frame)
        assert await call == 3


@pytest.mark.parametrize(
    ("request_text", "answer"),
    [
        ('{"id": "1", "method": "add", "params": [1, 2]}', '{"id": "1", "result": 3}'),
        ('{"id": 2, "method": "note"}', '{"id": 2, "result": null}'),
        (
            '{"id": 3, "method": "add", "params": {"a": 1, "b": 2}}',
            '{"id": 3, "error": {"code": -32602, '
            '"message": "[Session:S] Parameters must be a list."}}',
        ),
        (
            '{"id": 4, "method": "nothing", "params": []}',
            '{"id": 4, "error": {"code": -32601, '
            '"message": "[Session:S] Method \'nothing\' not found."}}',
        ),
        (
            '{"id": 5, "method": "fail", "params": []}',
            '{"id": 5, "error": {"code": -32603, '
            '"message": "[Session:S] Error executing \'fail\': boom"}}',
        ),
        (
            '{"id": 6, "method": "refuse", "params": []}',
            '{"id": 6, "error": {"code": -32602, "message": "not like that"}}',
        ),
    ],
)
async def test_answers_as_0_8_writes_them(request_text: str, answer: str) -> None:
    async with raw() as (peer, _, _):
        await peer.send(request_text.encode())
        assert await peer.payload() == answer.encode()


async def test_a_notification_runs_and_is_not_answered() -> None:
    async with raw() as (peer, _, functions):
        await peer.ignored({"method": "note", "params": [1]})
        await peer.ignored({"id": None, "method": "note", "params": [2]})
        await peer.ignored({"method": "missing", "params": []})
        assert functions.seen == [(1,), (2,)]
    one, other = stream_pair()
    async with manager(one) as client:
        await client.notify("note", 1)
    assert await Raw(other).payload() == b'{"method": "note", "params": [1]}'


# Bad input.


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 10_000,
        b"3",
        b'"text"',
        b"null",
        b"[]",
        b"[1]",
        b"{}",
        b'{"id": "unknown", "result": 1}',
        b'{"id": ["a"], "result": 1}',
        b'{"id": null, "error": {"code": 1, "message": "m"}}',
        b'{"foo": 1}',
    ],
)
async def test_what_is_no_request_is_ignored_in_the_format_of_0_8(message: bytes) -> None:
    async with raw() as (peer, _, _):
        await peer.ignored(message)


@pytest.mark.parametrize("method", [None, 5, ["add"], {"a": 1}, "", "x" * 5000])
async def test_a_method_that_no_function_has(method: Any) -> None:
    async with raw() as (peer, _, _):
        answer = await peer.ask({"id": 1, "method": method, "params": []})
        assert answer["error"]["code"] == -32601
        assert len(answer["error"]["message"]) < 200


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ({"error": {"code": -1, "message": "remote"}}, -1, "remote"),
        ({"error": {}}, -32603, "no reason"),
        ({"error": "text"}, -32603, "malformed"),
        ({"error": {"code": "x", "message": 5}}, -32603, "5"),
        ({"error": {"code": True}}, -32603, "no reason"),
    ],
)
async def test_odd_error_answers(answer: Json, code: int, text: str) -> None:
    one, other = stream_pair()
    async with manager(one) as client:
        call = asyncio.create_task(client.call("x"))
        peer = Raw(other)
        request = await peer.receive()
        await peer.send({"id": request["id"]} | answer)
        with pytest.raises(RpcError, match=text) as caught:
            await call
        assert caught.value.error_code == code


async def test_a_result_beside_a_null_error_is_a_result() -> None:
    one, other = stream_pair()
    async with manager(one) as client:
        call = asyncio.create_task(client.call("x"))
        peer = Raw(other)
        request = await peer.receive()
        await peer.send({"id": request["id"], "result": 5, "error": None})
        await peer.send({"id": request["id"], "result": 6})
        assert await call == 5


async def test_a_frame_at_the_limit_and_one_past_it() -> None:
    async with raw(max_message_size=100) as (peer, server, functions):
        text = json.dumps({"method": "note", "params": [""]})
        at_limit = json.dumps({"method": "note", "params": ["x" * (100 - len(text))]})
        assert len(at_limit) == 100
        await peer.send(at_limit.encode())
        await functions.entered.wait()
        call = asyncio.create_task(server.call("pending"))
        assert (await peer.receive())["method"] == "pending"
        await peer.stream.write(data=(101).to_bytes(4))
        with pytest.raises(RpcError, match="101 bytes"):
            await call
        await server.wait_closed()
        assert server._stream.aborted is not None  # type: ignore[attr-defined]


async def test_a_length_that_lies_costs_no_memory() -> None:
    async with raw() as (peer, server, _):
        await peer.stream.write(data=b"\xff\xff\xff\xff{}")
        await server.wait_closed()


@pytest.mark.parametrize("rest", [b"\x00", b"\x00\x00\x00\x10", b"\x00\x00\x00\x10{"])
async def test_a_stream_that_ends_inside_a_frame(rest: bytes) -> None:
    async with raw() as (peer, server, _):
        call = asyncio.create_task(server.call("pending"))
        await peer.receive()
        await peer.stream.write(data=rest, end_stream=True)
        with pytest.raises(RpcError, match="inside a frame"):
            await call
        await server.wait_closed()


async def test_frames_in_pieces_of_any_size() -> None:
    async with raw() as (peer, _, functions):
        data = b"".join(encode_frame({"method": "note", "params": [n]}) for n in range(3))
        for byte in data:
            await peer.stream.write(data=bytes([byte]))
        await peer.ignored({"method": "note", "params": [3]})
        assert functions.seen == [(0,), (1,), (2,), (3,)]


@given(st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_a_decoder_gives_back_what_was_framed(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(len(payload).to_bytes(4) + payload for payload in payloads)
    decoder = FrameDecoder(max_size=30)
    found: list[bytes] = []
    position = index = 0
    while position < len(data):
        size = cuts[index % len(cuts)]
        found += decoder.feed(data[position : position + size])
        position += size
        index += 1
    assert found == payloads
    assert decoder.size == 0


# The plain holders and the exceptions.


def test_holders() -> None:
    assert RpcRequest(id=1, method="m", params=[]).method == "m"
    assert RpcSuccessResponse(id="1", result=2).result == 2
    assert RpcErrorResponse(id=None, error={"code": 1}).error == {"code": 1}


def test_exceptions() -> None:
    error = RpcError("m", error_code=5, session_id="S")
    assert error.to_dict() == {"code": 5, "message": "[Session:S] m"}
    assert (InvalidParamsError("m").error_code, str(InvalidParamsError("m"))) == (
        RpcErrorCode.INVALID_PARAMS,
        "[-0x7f5a] m",
    )
    assert MethodNotFoundError("m").to_dict() == {"code": -32601, "message": "m"}
    assert RpcTimeoutError("m").error_code == RpcErrorCode.INTERNAL_ERROR
