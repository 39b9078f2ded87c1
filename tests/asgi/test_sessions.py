"""Sessions as ASGI messages."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pywebtransport._engine.base import CloseInfo
from pywebtransport.asgi import SPEC_VERSION, ClientDisconnected, StreamEnded
from pywebtransport.exceptions import (
    ConnectionError,
    InvalidStateError,
    StreamResetError,
    WebTransportError,
)
from tests.asgi.conftest import MakeSite, within

Scope = dict[str, Any]


class Told:
    """An application that accepts, and gives a test its scope and both callables."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Told.Call] = asyncio.Queue()

    class Call:
        def __init__(self, scope: Scope, receive: Any, send: Any) -> None:
            self.scope, self.receive, self.send = scope, receive, send
            self.over = asyncio.Event()

        async def say(self, kind: str, **fields: Any) -> None:
            await within(self.send({"type": f"webtransport.{kind}", **fields}))

        async def next(self, kind: str) -> dict[str, Any]:
            message = await within(self.receive())
            assert message["type"] == f"webtransport.{kind}", message
            return message

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        call = self.Call(scope, receive, send)
        await call.next("connect")
        await send({"type": "webtransport.accept"})
        self.calls.put_nowait(call)
        await call.over.wait()


async def test_the_scope_is_the_request(site: MakeSite) -> None:
    app = Told()
    there = await site(app, client={"headers": {"x-room": "7"}})
    session = await there.connect("/a%20b/c?d=%20e")
    call = await within(app.calls.get())
    scope = call.scope
    about = scope.pop("webtransport")
    assert about == {
        "spec_version": SPEC_VERSION,
        "session_id": scope["extensions"]["pywebtransport"]["session"].session_id,
    }
    assert scope.pop("extensions")["webtransport"] == about
    assert dict(scope.pop("headers")).items() >= {
        (b"host", f"127.0.0.1:{there.port}".encode()),
        (b"x-room", b"7"),
    }
    assert scope.pop("client") == session.connection.local_address
    assert scope == {
        "type": "webtransport",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "3",
        "method": "CONNECT",
        "scheme": "https",
        "path": "/a b/c",
        "raw_path": b"/a%20b/c",
        "query_string": b"d=%20e",
        "root_path": "",
        "server": ("127.0.0.1", there.port),
        "state": {},
        "subprotocols": [],
    }
    call.over.set()
    await within(session.wait_closed())
    assert (session.close_code, session.closed_by) == (0, "remote")


@pytest.mark.parametrize("text", ["é", "日本€"])
async def test_text_that_is_not_ascii_comes_as_it_was_sent(site: MakeSite, text: str) -> None:
    app = Told()
    there = await site(app, client={"headers": {"x-room": text}})
    await there.connect("/日本/%FF%zz?é=€")
    call = await within(app.calls.get())
    assert (b"x-room", text.encode()) in call.scope["headers"]
    assert call.scope["path"] == "/日本/\ufffd%zz"
    assert call.scope["raw_path"] == b"/%E6%97%A5%E6%9C%AC/%FF%zz"
    assert call.scope["query_string"] == b"%C3%A9=%E2%82%AC"
    call.over.set()


async def test_streams_of_the_client(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    stream = await session.create_bidirectional_stream()
    await stream.write(b"hello", end_stream=True)
    opened = await call.next("stream.open")
    number = stream.stream_id
    assert opened == {
        "type": "webtransport.stream.open",
        "stream": number,
        "stream_id": number,
        "direction": "bidirectional",
        "bidirectional": True,
        "initiated_by": "client",
    }
    first = await call.next("stream.receive")
    assert first == {
        "type": "webtransport.stream.receive",
        "stream": number,
        "stream_id": number,
        "data": b"hello",
        "end_stream": False,
        "more_data": True,
        "more_body": True,
    }
    last = await call.next("stream.receive")
    assert (last["data"], last["end_stream"], last["more_data"]) == (b"", True, False)
    await call.say("stream.send", stream=number, data=b"wo")
    await call.say("stream.send", stream=number, data=b"rld", end_stream=True)
    assert await within(stream.read_all()) == b"world"
    with pytest.raises(StreamEnded, match=f"no stream {number}, or it has ended"):
        await call.say("stream.send", stream=number, data=b"!")
    one_way = await session.create_unidirectional_stream()
    await one_way.write(b"x")
    opened = await call.next("stream.open")
    assert (opened["stream"], opened["direction"]) == (one_way.stream_id, "unidirectional")
    with pytest.raises(StreamEnded, match="is receive_only"):
        await call.say("stream.send", stream=one_way.stream_id, data=b"!")
    call.over.set()


@pytest.mark.parametrize(
    "last", [{"end_stream": True}, {"more_data": False}, {"more_body": False}, {"finish": True}]
)
async def test_the_names_of_other_servers_end_a_stream(
    site: MakeSite, last: dict[str, bool]
) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    await call.say("stream.open", bidirectional=False)
    opened = await call.next("stream.opened")
    assert opened["bidirectional"] is False
    (name,) = last
    await call.say("stream.send", stream_id=opened["stream"], data=b"a", **{name: not last[name]})
    await call.say("stream.send", stream=opened["stream"], data=b"b", **last)
    stream = await within(session.accept_unidirectional_stream())
    assert stream.stream_id == opened["stream"]
    assert await within(stream.read_all()) == b"ab"
    call.over.set()


async def test_streams_of_the_application_are_answered_in_order(site: MakeSite) -> None:
    app = Told()
    there = await site(app, client={"quic_max_concurrent_bidi_streams": 1})
    session = await there.connect()
    call = await within(app.calls.get())
    opened: list[int] = []
    while True:
        question = {"type": "webtransport.stream.open", "bidirectional": True}
        both_ways = asyncio.ensure_future(call.send(question))
        if not (await asyncio.wait([both_ways], timeout=0.3))[0]:
            break
        opened.append((await call.next("stream.opened"))["stream"])
    one_way = asyncio.ensure_future(
        call.send({"type": "webtransport.stream.open", "bidirectional": False})
    )
    # It is allowed at once, but was asked for later.
    assert not (await asyncio.wait([one_way], timeout=0.1))[0]
    for number in opened:
        await call.say("stream.send", stream=number, end_stream=True)
        stream = await within(session.accept_bidirectional_stream())
        await stream.write(b"", end_stream=True)
        assert await within(stream.read()) == b""
    messages = [await within(call.receive()) for _ in range(len(opened) + 2)]
    kinds = [each["bidirectional"] for each in messages if "bidirectional" in each]
    assert kinds == [True, False]
    await within(asyncio.gather(both_ways, one_way))
    # What the client writes on one comes as data of that stream.
    number = next(each["stream"] for each in messages if each.get("bidirectional"))
    await call.say("stream.send", stream=number, data=b"?")
    stream = await within(session.accept_bidirectional_stream())
    await stream.write(b"!")
    answer = await call.next("stream.receive")
    assert (answer["stream"], answer["data"]) == (number, b"!")
    call.over.set()


async def test_resets_and_stops_go_both_ways(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())

    stream = await session.create_bidirectional_stream()
    await stream.write(b"x")
    await call.next("stream.open")
    await call.next("stream.receive")
    await stream.reset(error_code=7)
    last = await call.next("stream.receive")
    assert (last["data"], last["end_stream"], last["more_data"]) == (b"", False, False)
    cut = await call.next("stream.reset")
    assert (cut["stream"], cut["code"]) == (stream.stream_id, 7)
    await stream.stop_receiving(error_code=8)
    stop = await call.next("stream.stop_sending")
    assert (stop["stream"], stop["code"]) == (stream.stream_id, 8)
    with pytest.raises(StreamEnded):
        await call.say("stream.send", stream=stream.stream_id, data=b"!")

    stream = await session.create_bidirectional_stream()
    await stream.write(b"x")
    await call.next("stream.open")
    await call.next("stream.receive")
    await call.say("stream.reset", stream=stream.stream_id, code=9)
    with pytest.raises(StreamResetError) as reset:
        await within(stream.read())
    assert reset.value.error_code == 9
    await call.say("stream.stop_receiving", stream=stream.stream_id, code=10)
    await within(stream.wait_closed())
    with pytest.raises(StreamResetError) as stopped:
        await stream.write(b"y")
    assert stopped.value.error_code == 10
    with pytest.raises(ValueError, match=r"in 0\.\.4294967295"):
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x")
        number = (await call.next("stream.open"))["stream"]
        await call.say("stream.reset", stream=number, code=1 << 32)
    call.over.set()


async def test_a_stop_of_a_stream_that_was_not_told_of_is_not_told(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    for _ in range(300):
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x")
        await stream.reset(error_code=1)
        await stream.stop_receiving(error_code=1)
    transport = await session.create_datagram_transport()
    await transport.send(b"after")
    seen = set()
    while (message := await within(call.receive()))["type"] != "webtransport.datagram.receive":
        seen.add(message["type"])
    assert "webtransport.stream.stop_sending" not in seen
    call.over.set()


async def test_datagrams(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    transport = await session.create_datagram_transport()
    await transport.send(b"ping")
    assert await call.next("datagram.receive") == {
        "type": "webtransport.datagram.receive",
        "data": b"ping",
    }
    await call.say("datagram.send", data=bytearray(b"pong"))
    assert await within(transport.receive()) == b"pong"
    call.over.set()


async def test_a_slow_application_stops_its_client(site: MakeSite) -> None:
    app = Told()
    there = await site(app, client={"write_timeout": 60})
    session = await there.connect()
    call = await within(app.calls.get())
    stream = await session.create_unidirectional_stream()
    size = 64 << 20
    writing = asyncio.ensure_future(stream.write(bytes(size), end_stream=True))
    await call.next("stream.open")
    first = await call.next("stream.receive")
    sent, still = -1, 0
    while still < 5:
        still = still + 1 if stream.stats().bytes_written == sent else 0
        sent = stream.stats().bytes_written
        await asyncio.sleep(0.05)
    acknowledged = session.stats().bytes_sent
    assert not writing.done()
    assert acknowledged < size // 2, f"{acknowledged} bytes went to an application that waits"
    received = len(first["data"])
    while received < size:
        message = await call.next("stream.receive")
        assert len(message["data"]) <= 1 << 16
        received += len(message["data"])
    assert (await call.next("stream.receive"))["end_stream"]
    await within(writing)
    call.over.set()


async def test_a_paused_stream_waits_and_others_do_not(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    quiet, busy = [await session.create_unidirectional_stream() for _ in range(2)]
    await quiet.write(b"1")
    messages = [await within(call.receive()) for _ in range(3)]
    kinds = [each["type"].removeprefix("webtransport.") for each in messages]
    assert sorted(kinds) == ["stream.open", "stream.open", "stream.receive"]
    await call.say("stream.pause", stream=quiet.stream_id)
    await quiet.write(b"2")
    await busy.write(b"3", end_stream=True)
    assert (await call.next("stream.receive"))["data"] == b"3"
    assert (await call.next("stream.receive"))["end_stream"]
    waiting = asyncio.ensure_future(call.receive())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await call.say("stream.resume", stream=quiet.stream_id)
    assert (await within(waiting))["data"] == b"2"
    # The end is told after what has arrived, of a paused stream as well.
    await call.say("stream.pause", stream=quiet.stream_id)
    await quiet.write(b"4", end_stream=True)
    await session.close(code=5, reason="enough")
    assert (await call.next("stream.receive"))["data"] == b"4"
    assert (await call.next("stream.receive"))["end_stream"]
    end = await call.next("disconnect")
    assert end == {
        "type": "webtransport.disconnect",
        "code": 5,
        "reason": "enough",
        "clean": True,
    }
    with pytest.raises(ClientDisconnected, match="no further message: the peer closed the session"):
        await call.receive()
    call.over.set()


async def test_a_cancelled_receive_takes_nothing(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    stream = await session.create_unidirectional_stream()
    for number in range(50):
        waiting = asyncio.ensure_future(call.receive())
        await stream.write(b"%d," % number)
        await asyncio.sleep(0 if number % 2 else 0.002)
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled():
            # It had been given before: put it back to the front for the count below.
            call.receive = _after([waiting.result()], call.receive)
    await stream.write(b"", end_stream=True)
    data = b""
    while not (message := await within(call.receive())).get("end_stream"):
        data += message.get("data", b"")
    assert data == b"".join(b"%d," % number for number in range(50))
    call.over.set()


def _after(messages: list[dict[str, Any]], receive: Any) -> Any:
    async def first() -> dict[str, Any]:
        return messages.pop(0) if messages else await receive()

    return first


async def test_the_application_closes(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    await call.say("close", code=12, reason="done")
    await within(session.wait_closed())
    assert (session.close_code, session.close_reason) == (12, "done")
    end = await call.next("disconnect")
    assert (end["code"], end["reason"], end["clean"]) == (12, "done", True)
    await call.say("close")
    for kind, fields in (("datagram.send", {"data": b""}), ("stream.open", {}), ("accept", {})):
        with pytest.raises(ClientDisconnected, match=f"webtransport.{kind} was not sent") as error:
            await call.say(kind, **fields)
        assert isinstance(error.value, OSError)
        assert isinstance(error.value, ConnectionError)
    call.over.set()


async def test_a_write_that_waits_learns_of_the_end(site: MakeSite) -> None:
    app = Told()
    session = await (await site(app)).connect()
    call = await within(app.calls.get())
    await call.say("stream.open")
    number = (await call.next("stream.opened"))["stream"]
    writing = asyncio.ensure_future(call.say("stream.send", stream=number, data=bytes(64 << 20)))
    await within(session.accept_bidirectional_stream())
    await session.close(code=3)
    with pytest.raises(ClientDisconnected):
        await within(writing)
    call.over.set()


async def test_a_write_that_waits_learns_of_a_loss(site: MakeSite) -> None:
    app = Told()
    await (await site(app)).connect()
    call = await within(app.calls.get())
    await call.say("stream.open")
    number = (await call.next("stream.opened"))["stream"]
    writing = asyncio.ensure_future(call.say("stream.send", stream=number, data=bytes(64 << 20)))
    await asyncio.sleep(0)
    session = call.scope["extensions"]["pywebtransport"]["session"]
    session.connection._link.closed(CloseInfo(0, "idle timeout", "transport"))
    with pytest.raises(ClientDisconnected, match="the connection was lost"):
        await within(writing)
    call.over.set()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({}, 403),
        ({"code": 404}, 404),
        ({"code": 7}, 403),
        ({"code": 0, "status": 401}, 401),
    ],
)
async def test_a_refusal_has_its_status(
    site: MakeSite, answer: dict[str, int], status: int
) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        await receive()
        headers = [(b"Retry-After", b"5"), (b"vary", b"a"), (b"vary", b"b")]
        await send({"type": "webtransport.close", "headers": headers, **answer})
        assert (await receive())["type"] == "webtransport.disconnect"

    there = await site(app)
    with pytest.raises(WebTransportError, match=str(status)) as refused:
        await there.connect()
    fields = refused.value.headers  # type: ignore[attr-defined]
    assert (fields["retry-after"], fields["vary"]) == ("5", "a, b")


async def test_an_acceptance_has_protocol_and_headers(site: MakeSite) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        await receive()
        chosen = scope["subprotocols"][-1]
        headers = [(b"x-served-by", "é".encode())]
        await send({"type": "webtransport.accept", "subprotocol": chosen, "headers": headers})
        await receive()

    there = await site(app, client={"wt_available_protocols": ["chat-2", "chat-1"]})
    session = await there.connect()
    assert session.wt_protocol == "chat-1"
    assert session.response_headers["x-served-by"] == "é"


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        ({"type": "webtransport.shout"}, ValueError, "no 'webtransport.shout', but webtransport.a"),
        ({"type": "websocket.send"}, ValueError, "no 'websocket.send'"),
        ({"type": "webtransport.accept"}, InvalidStateError, "accepted already"),
        ({"type": "webtransport.stream.send"}, TypeError, "stream must be an integer"),
        ({"type": "webtransport.stream.send", "stream": 77}, StreamEnded, "no stream 77"),
    ],
)
async def test_what_cannot_be_sent(
    site: MakeSite, message: dict[str, Any], error: type[Exception], words: str
) -> None:
    app = Told()
    await (await site(app)).connect()
    call = await within(app.calls.get())
    with pytest.raises(error, match=words):
        await call.send(message)
    call.over.set()


async def test_nothing_is_sent_before_the_answer(site: MakeSite) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        with pytest.raises(InvalidStateError, match=r"before webtransport\.accept"):
            await send({"type": "webtransport.datagram.send", "data": b""})
        await send({"type": "webtransport.close", "status": 418})

    with pytest.raises(WebTransportError, match="418"):
        await (await site(app)).connect()


async def test_failures_are_told_and_logged(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        if scope["path"] == "/before":
            raise LookupError("first")
        if scope["path"] == "/never":
            return
        await send({"type": "webtransport.accept"})
        raise LookupError("second")

    there = await site(app)
    with caplog.at_level(logging.ERROR):
        for path in ("/before", "/never"):
            with pytest.raises(WebTransportError, match="500"):
                await there.connect(path)
        session = await there.connect("/after")
        await within(session.wait_closed())
    assert session.close_code == 1
    texts = [record.getMessage() for record in caplog.records]
    assert texts[0].startswith('application failed before it answered: path="/before" session=')
    assert texts[1].startswith('application returned without an answer: path="/never" session=')
    assert texts[2].startswith('application failed: path="/after" session=')
    assert len(texts) == 3
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        "first",
        "second",
    ]


async def test_an_application_that_takes_no_sessions_does_not_fill_the_log(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise ValueError(f"this takes no {scope['type']}")

    there = await site(app)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(WebTransportError, match="500"):
                await there.connect()
    (record,) = caplog.records
    assert record.exc_info
    assert str(record.exc_info[1]) == "this takes no webtransport"


async def test_a_client_that_leaves_is_no_failure(
    site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        await send({"type": "webtransport.accept"})
        try:
            while True:
                await send({"type": "webtransport.datagram.send", "data": b"tick"})
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    session = await (await site(app)).connect()
    with caplog.at_level(logging.WARNING):
        await session.close()
        await within(ended.wait())
    assert not caplog.records


async def test_a_lost_client_is_no_clean_end(site: MakeSite) -> None:
    app = Told()
    await (await site(app)).connect()
    call = await within(app.calls.get())
    session = call.scope["extensions"]["pywebtransport"]["session"]
    # As an engine tells that nothing came for too long.
    session.connection._link.closed(CloseInfo(0, "idle timeout", "transport"))
    end = await call.next("disconnect")
    assert (end["clean"], end["reason"]) == (False, "idle timeout")
    with pytest.raises(ClientDisconnected, match="the connection was lost"):
        await call.say("datagram.send", data=b"")
    call.over.set()


async def test_the_end_of_the_server_ends_the_application(site: MakeSite) -> None:
    cancelled = asyncio.Event()

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "webtransport"
        await send({"type": "webtransport.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    there = await site(app, graceful_timeout=0.1)
    session = await there.connect()
    await within(there.server.shutdown())
    await within(cancelled.wait())
    await within(session.wait_closed())
    assert (session.close_code, session.close_reason) == (0, "server shutdown")
