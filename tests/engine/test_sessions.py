"""Sessions: request, answer, close, drain."""

from __future__ import annotations

import pytest

from pywebtransport._engine.base import EngineClosed, SessionRefused

from .conftest import Connect
from .observer import Pair

FLOW_CONTROL = {
    "initial_max_data": 1 << 20,
    "initial_max_streams_bidi": 50,
    "initial_max_streams_uni": 50,
}
ENDS = ["client", "server"]


def other(end: str) -> str:
    return "server" if end == "client" else "client"


async def test_request_reaches_the_server_as_it_was_made(connect: Connect) -> None:
    pair = await connect()
    pair.client.connection.open_session(
        authority="localhost:4433",
        path="/chat?room=1",
        headers={"origin": "https://example.org", "x-token": "a b"},
        protocols=["v2", "v1"],
    )
    (request,) = await pair.server.next("session_requested")
    assert request.authority == "localhost:4433"
    assert request.path == "/chat?room=1"
    assert request.headers["origin"] == "https://example.org"
    assert request.headers["x-token"] == "a b"
    assert request.headers[":method"] == "CONNECT"
    assert list(request.protocols) == ["v2", "v1"]
    assert request.dialect == "15"


async def test_answer_reaches_the_client_as_it_was_made(connect: Connect) -> None:
    pair = await connect()
    session_id = pair.client.connection.open_session(
        authority="localhost", path="/", headers={}, protocols=["v2", "v1"]
    )
    await pair.server.next("session_requested")
    pair.server.connection.accept_session(session_id, protocol="v1", headers={"x-answer": "yes"})
    told, protocol, headers = await pair.client.next("session_established")
    assert (told, protocol) == (session_id, "v1")
    assert headers["x-answer"] == "yes"
    assert headers[":status"] == "200"


@pytest.mark.parametrize("status", [403, 404, 429, 503])
async def test_rejection_carries_its_status(connect: Connect, status: int) -> None:
    pair = await connect()
    session_id = pair.client.connection.open_session(authority="localhost", path="/", headers={})
    await pair.server.next("session_requested")
    pair.server.connection.reject_session(session_id, status=status, headers={"x-why": "so"})
    told, told_status, headers, _ = await pair.client.next("session_rejected")
    assert (told, told_status, headers["x-why"]) == (session_id, status, "so")
    assert not pair.client.of("session_closed")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("code", "reason"), [(0, ""), (4242, "bye é"), (2**32 - 1, "x" * 1024)])
async def test_close_carries_code_and_reason(
    connect: Connect, end: str, code: int, reason: str
) -> None:
    pair = await connect()
    session_id = await pair.session()
    pair.end(end).connection.close_session(session_id, code=code, reason=reason)
    assert await pair.end(end).next("session_closed") == (session_id, code, reason, "local")
    told = await pair.end(other(end)).next("session_closed")
    assert told == (session_id, code, reason, "remote")


@pytest.mark.parametrize("end", ENDS)
async def test_close_tells_open_streams_before_the_session(connect: Connect, end: str) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"x")
    await pair.server.next("stream_opened")
    pair.end(end).connection.close_session(session_id, code=1, reason="")
    for observer in (pair.client, pair.server):
        await observer.next("session_closed")
        names = [name for name, *_ in observer.told]
        for ended in ("stream_reset", "stream_stopped"):
            assert observer.of(ended, stream_id) == [(stream_id, None)]
            assert names.index(ended) < names.index("session_closed")


async def test_session_is_closed_once_though_both_ends_close(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    pair.client.connection.close_session(session_id, code=1, reason="a")
    pair.server.connection.close_session(session_id, code=2, reason="b")
    await pair.client.closed_with()
    await pair.server.closed_with()
    assert pair.client.of("session_closed") == [(session_id, 1, "a", "local")]
    assert pair.server.of("session_closed") == [(session_id, 2, "b", "local")]


@pytest.mark.parametrize("end", ENDS)
async def test_drain_is_told_and_the_session_stays_usable(connect: Connect, end: str) -> None:
    pair = await connect()
    session_id = await pair.session()
    pair.end(end).connection.drain_session(session_id)
    assert await pair.end(other(end)).next("session_draining") == (session_id,)
    await check_echo(pair, session_id)


async def test_goaway_drains_every_session(connect: Connect) -> None:
    pair = await connect(**FLOW_CONTROL)
    sessions = [await pair.session(), await pair.session()]
    pair.server.connection.send_goaway()
    drained = {(await pair.client.next("session_draining"))[0] for _ in sessions}
    assert drained == set(sessions)
    with pytest.raises(SessionRefused):
        pair.client.connection.open_session(authority="localhost", path="/", headers={})


async def test_sessions_of_one_connection_do_not_meet(connect: Connect) -> None:
    pair = await connect(**FLOW_CONTROL)
    first, second = await pair.session("/1"), await pair.session("/2")
    for session_id in (first, second):
        stream_id = await pair.client.open(session_id)
        await pair.client.write(stream_id, str(session_id).encode(), fin=True)
        assert await pair.server.next("stream_opened", session_id) == (session_id, stream_id)
        assert await pair.server.read_all(stream_id) == str(session_id).encode()
    pair.client.connection.send_datagram(second, b"two")
    assert await pair.server.datagram(second) == b"two"
    assert pair.server.connection.receive_datagram(first) is None
    pair.client.connection.close_session(first, code=0, reason="")
    await pair.server.next("session_closed", first)
    await check_echo(pair, second)


async def test_second_session_without_flow_control_is_refused(connect: Connect) -> None:
    pair = await connect(session_credit=False)
    await pair.session()
    second = pair.client.connection.open_session(authority="localhost", path="/", headers={})
    told, status, _, _ = await pair.client.next("session_rejected")
    assert told == second
    assert status in (0, 429)


async def test_sessions_share_a_connection_by_default(connect: Connect) -> None:
    pair = await connect()
    sessions = [await pair.session() for _ in range(3)]
    for session_id in sessions:
        flow = pair.server.connection.session_flow(session_id)
        assert flow["local_max_data"] == flow["peer_max_data"] == 1 << 56
        await check_echo(pair, session_id)


async def test_session_can_follow_a_session(connect: Connect) -> None:
    pair = await connect()
    for _ in range(3):
        session_id = await pair.session()
        await check_echo(pair, session_id)
        pair.client.connection.close_session(session_id, code=0, reason="")
        await pair.server.next("session_closed", session_id)


async def test_ended_session_refuses_every_verb(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    connection = pair.client.connection
    connection.close_session(session_id, code=0, reason="")
    for verb in (
        lambda: connection.close_session(session_id, code=0, reason=""),
        lambda: connection.drain_session(session_id),
        lambda: connection.open_stream(session_id, False),
        lambda: connection.send_datagram(session_id, b"x"),
    ):
        with pytest.raises(SessionRefused):
            verb()
    assert connection.receive_datagram(session_id) is None


async def test_unknown_session_refuses_every_verb(connect: Connect) -> None:
    pair = await connect()
    with pytest.raises(SessionRefused):
        pair.server.connection.accept_session(0)
    with pytest.raises(SessionRefused):
        pair.server.connection.reject_session(0, status=404)
    with pytest.raises(SessionRefused):
        pair.client.connection.open_stream(0, True)


async def test_closed_connection_refuses_every_verb(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    connection = pair.client.connection
    connection.close(code=0x100, reason="")
    await connection.wait_closed()
    connection.close(code=0x100, reason="again")
    assert pair.client.of("session_closed") == [(session_id, 0, "", "local")]
    assert connection.stream_read(4, -1) == (b"", True)
    for verb in (
        lambda: connection.open_session(authority="localhost", path="/", headers={}),
        lambda: connection.open_stream(session_id, False),
        lambda: connection.stream_write(4, b"x", False),
        lambda: connection.send_goaway(),
    ):
        with pytest.raises(EngineClosed):
            verb()


async def check_echo(pair: Pair, session_id: int) -> None:
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"ping", fin=True)
    await pair.server.next("stream_opened", session_id)
    assert await pair.server.read_all(stream_id) == b"ping"
    await pair.server.write(stream_id, b"pong", fin=True)
    assert await pair.client.read_all(stream_id) == b"pong"
