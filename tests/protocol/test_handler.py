"""The protocol handler, driven in memory over aioquic, qh3 and pywebtransport.quic."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from pywebtransport.config import ClientConfig
from pywebtransport.exceptions import (
    ConnectionError,
    DatagramError,
    ProtocolError,
    SessionError,
    StreamError,
    TimeoutError,
)
from pywebtransport.protocol import WebTransportProtocolHandler
from pywebtransport.types import ConnectionState, EventType, SessionState, StreamState
from tests.support.certificate import Certificate

from .link import Link, quic_connection


async def test_session_is_requested_and_ready(link: Link) -> None:
    token, stream_id = await link.client.handler.create_webtransport_session(
        path="/chat?a=b", headers={"x-name": "value"}
    )
    info = link.client.handler.get_session_info(session_id=token)
    assert info is not None
    assert (info.state, info.stream_id) == (SessionState.CONNECTING, stream_id)
    await link.settle()
    request = link.server.last(EventType.SESSION_REQUEST)
    assert request["path"] == "/chat?a=b"
    assert request["headers"]["x-name"] == "value"
    assert request["headers"][":authority"] == "localhost"
    assert request["control_stream_id"] == stream_id
    assert request["session_id"] != token
    link.server.handler.accept_webtransport_session(
        stream_id=stream_id, session_id=request["session_id"]
    )
    await link.settle()
    assert link.client.last(EventType.SESSION_READY)["session_id"] == token
    assert link.server.last(EventType.SESSION_READY)["session_id"] == request["session_id"]
    assert info.state is SessionState.CONNECTED
    assert info.ready_at is not None


async def test_session_that_ended_is_not_accepted(aioquic_link: Link) -> None:
    link = aioquic_link
    token, stream_id = await link.client.handler.create_webtransport_session(path="/")
    await link.settle()
    link.client.handler.close_webtransport_session(session_id=token)
    await link.settle()
    request = link.server.last(EventType.SESSION_REQUEST)
    with pytest.raises(ProtocolError, match="closed"):
        link.server.handler.accept_webtransport_session(
            stream_id=stream_id, session_id=request["session_id"]
        )
    assert not link.server.of(EventType.SESSION_READY)
    assert link.server.handler.get_health_status()["active_sessions"] == 0


async def test_host_header_is_the_authority(aioquic_link: Link) -> None:
    await aioquic_link.client.handler.create_webtransport_session(
        path="/", headers={"host": "example.org:8443"}
    )
    await aioquic_link.settle()
    headers = aioquic_link.server.last(EventType.SESSION_REQUEST)["headers"]
    assert headers[":authority"] == "example.org:8443"
    assert "host" not in headers


async def test_rejection_closes_the_session_with_its_status(link: Link) -> None:
    token, stream_id = await link.client.handler.create_webtransport_session(path="/")
    await link.settle()
    link.server.handler.reject_session_request(stream_id=stream_id, status_code=404)
    await link.settle()
    closed = link.client.last(EventType.SESSION_CLOSED)
    assert closed == {"session_id": token, "code": 1, "reason": "HTTP status 404"}


@pytest.mark.parametrize("is_unidirectional", [False, True], ids=["bidi", "uni"])
@pytest.mark.parametrize("opener", ["client", "server"])
async def test_stream_data_arrives(link: Link, opener: str, is_unidirectional: bool) -> None:
    token, server_token, _ = await link.session()
    sender, receiver = link.client, link.server
    if opener == "server":
        sender, receiver, token = link.server, link.client, server_token
    stream_id = sender.handler.create_webtransport_stream(
        session_id=token, is_unidirectional=is_unidirectional
    )
    sender.handler.send_webtransport_stream_data(stream_id=stream_id, data=b"first")
    await link.settle()
    opened = receiver.last(EventType.STREAM_OPENED)
    assert opened["stream_id"] == stream_id
    assert opened["initial_payload"]["end_stream"] is False
    sender.handler.send_webtransport_stream_data(
        stream_id=stream_id, data=b" second", end_stream=True
    )
    await link.settle()
    parts = [opened["initial_payload"]["data"]]
    parts += [event["data"] for event in receiver.of(EventType.STREAM_DATA_RECEIVED)]
    assert b"".join(parts) == b"first second"
    assert receiver.last(EventType.STREAM_DATA_RECEIVED)["end_stream"] is True
    if is_unidirectional:
        assert receiver.last(EventType.STREAM_CLOSED)["stream_id"] == stream_id
        return
    assert not receiver.of(EventType.STREAM_CLOSED)
    receiver.handler.send_webtransport_stream_data(
        stream_id=stream_id, data=b"answer", end_stream=True
    )
    await link.settle()
    assert sender.last(EventType.STREAM_DATA_RECEIVED)["data"] == b"answer"
    for end in (sender, receiver):
        assert end.last(EventType.STREAM_CLOSED)["stream_id"] == stream_id


async def test_whole_stream_in_one_packet_is_one_event(link: Link) -> None:
    token, _, _ = await link.session()
    stream_id = link.client.handler.create_webtransport_stream(
        session_id=token, is_unidirectional=True
    )
    link.client.handler.send_webtransport_stream_data(
        stream_id=stream_id, data=b"all", end_stream=True
    )
    await link.settle()
    payload = link.server.last(EventType.STREAM_OPENED)["initial_payload"]
    rest = link.server.of(EventType.STREAM_DATA_RECEIVED)
    assert payload["data"] + b"".join(event["data"] for event in rest) == b"all"
    assert (rest[-1] if rest else payload)["end_stream"] is True


async def test_much_data_arrives(link: Link) -> None:
    token, _, _ = await link.session()
    data = bytes(range(256)) * 4000
    stream_id = link.client.handler.create_webtransport_stream(session_id=token)
    sent = link.client.handler.write_stream_chunked(stream_id=stream_id, data=data)
    assert sent == len(data)
    await link.settle()
    parts = [link.server.last(EventType.STREAM_OPENED)["initial_payload"]["data"]]
    parts += [event["data"] for event in link.server.of(EventType.STREAM_DATA_RECEIVED)]
    assert b"".join(parts) == data
    info = link.server.handler.get_all_sessions()[0]
    assert (info.peer_data_sent, info.peer_streams_bidi_opened) == (len(data), 1)
    mine = link.client.handler.get_all_sessions()[0]
    assert (mine.local_data_sent, mine.local_streams_bidi_opened) == (len(data), 1)


@pytest.mark.parametrize("code", [0, 29, 30, 2**32 - 1])
async def test_abort_carries_the_application_code(link: Link, code: int) -> None:
    token, _, _ = await link.session()
    stream_id = link.client.handler.create_webtransport_stream(session_id=token)
    link.client.handler.send_webtransport_stream_data(stream_id=stream_id, data=b"x")
    await link.settle()
    link.client.handler.abort_stream(stream_id=stream_id, error_code=code)
    await link.settle()
    assert link.server.last(EventType.STREAM_ERROR)["error_code"] == code
    for end in (link.client, link.server):
        closed = end.last(EventType.STREAM_CLOSED)
        assert (closed["stream_id"], closed["error_code"]) == (stream_id, code)
    with pytest.raises(ProtocolError):
        link.client.handler.send_webtransport_stream_data(stream_id=stream_id, data=b"more")


async def test_abort_with_a_wire_code_sends_it_as_it_is(link: Link) -> None:
    token, _, _ = await link.session()
    stream_id = link.client.handler.create_webtransport_stream(session_id=token)
    link.client.handler.send_webtransport_stream_data(stream_id=stream_id, data=b"x")
    await link.settle()
    link.client.handler.abort_stream(stream_id=stream_id, error_code=0x3_0000_0000)
    await link.settle()
    error = link.server.last(EventType.STREAM_ERROR)
    assert (error["error_code"], error["http_code"]) == (None, 0x3_0000_0000)
    link.client.handler.abort_stream(stream_id=999, error_code=1)


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_close_carries_code_and_reason(link: Link, closer: str) -> None:
    token, server_token, _ = await link.session()
    stream_id = link.client.handler.create_webtransport_stream(session_id=token)
    ends = {"client": (link.client, token), "server": (link.server, server_token)}
    near, near_token = ends.pop(closer)
    far, far_token = next(iter(ends.values()))
    near.handler.close_webtransport_session(session_id=near_token, code=42, reason="bye é")
    near.handler.close_webtransport_session(session_id=near_token, code=43)
    near.handler.close_webtransport_session(session_id="unknown")
    await link.settle()
    await asyncio.sleep(0)
    for end, session_id in ((near, near_token), (far, far_token)):
        assert end.of(EventType.SESSION_CLOSED) == [
            {"session_id": session_id, "code": 42, "reason": "bye é"}
        ]
        info = end.handler.get_session_info(session_id=session_id)
        assert info is not None
        assert (info.state, info.close_code) == (SessionState.CLOSED, 42)
        with pytest.raises(ProtocolError):
            end.handler.create_webtransport_stream(session_id=session_id)
    assert link.client.last(EventType.STREAM_CLOSED)["stream_id"] == stream_id


async def test_datagrams_arrive(link: Link) -> None:
    token, server_token, _ = await link.session()
    link.client.handler.send_webtransport_datagram(session_id=token, data=b"ping")
    link.server.handler.send_webtransport_datagram(session_id=server_token, data=b"pong")
    await link.settle()
    received = link.server.last(EventType.DATAGRAM_RECEIVED)
    assert received == {"session_id": server_token, "data": b"ping"}
    assert link.client.last(EventType.DATAGRAM_RECEIVED)["data"] == b"pong"
    assert link.client.handler.stats["datagrams_sent"] == 1
    assert link.server.handler.stats["datagrams_received"] == 1


async def test_too_large_datagram_blocks_nothing(link: Link) -> None:
    token, _, _ = await link.session()
    with pytest.raises(DatagramError) as caught:
        link.client.handler.send_webtransport_datagram(session_id=token, data=bytes(70_000))
    assert caught.value.datagram_size == 70_000
    limit = caught.value.max_size
    assert limit is not None
    assert limit > 1000
    link.client.handler.send_webtransport_datagram(session_id=token, data=bytes(limit))
    await link.settle()
    assert link.server.last(EventType.DATAGRAM_RECEIVED)["data"] == bytes(limit)


async def test_connection_that_ends_closes_its_sessions(link: Link) -> None:
    token, server_token, _ = await link.session()
    link.server.quic.close(error_code=0x100, reason_phrase="done")
    await link.settle()
    link.now += 5
    for end in (link.client, link.server):
        if end.quic.get_timer() is not None:
            end.quic.handle_timer(link.now)
    await link.settle()
    for end, session_id in ((link.client, token), (link.server, server_token)):
        assert end.last(EventType.SESSION_CLOSED)["session_id"] == session_id
        assert end.handler.connection_state is ConnectionState.CLOSED


async def test_session_requested_before_the_handshake(certificate: Certificate) -> None:
    link = Link("aioquic", "aioquic", certificate)
    token, _ = await link.client.handler.create_webtransport_session(path="/early")
    assert not link.client.handler.is_connected
    await link.settle()
    assert link.server.last(EventType.SESSION_REQUEST)["path"] == "/early"
    assert link.client.handler.is_connected
    assert link.client.handler.get_session_info(session_id=token) is not None


async def test_roles_are_kept_apart(aioquic_link: Link) -> None:
    link = aioquic_link
    with pytest.raises(ProtocolError):
        await link.server.handler.create_webtransport_session(path="/")
    with pytest.raises(ProtocolError):
        link.client.handler.accept_webtransport_session(stream_id=0, session_id="x")
    with pytest.raises(ProtocolError):
        link.client.handler.reject_session_request(stream_id=0, status_code=404)
    with pytest.raises(ProtocolError):
        link.server.handler.accept_webtransport_session(stream_id=0, session_id="x")
    with pytest.raises(ProtocolError):
        link.server.handler.reject_session_request(stream_id=0, status_code=404)


async def test_what_is_not_connected_does_not_send(aioquic_link: Link) -> None:
    link = aioquic_link
    token, _ = await link.client.handler.create_webtransport_session(path="/")
    for session_id in (token, "unknown"):
        with pytest.raises(ProtocolError):
            link.client.handler.create_webtransport_stream(session_id=session_id)
        with pytest.raises(ProtocolError):
            link.client.handler.send_webtransport_datagram(session_id=session_id, data=b"")
    with pytest.raises(ProtocolError):
        link.client.handler.send_webtransport_stream_data(stream_id=0, data=b"")


async def pump(link: Link, until: asyncio.Task[Any]) -> None:
    while not until.done():
        await link.settle()
        await asyncio.sleep(0)


async def accept_all(link: Link) -> None:
    def accept(event: Any) -> None:
        link.server.handler.accept_webtransport_session(
            stream_id=event.data["control_stream_id"], session_id=event.data["session_id"]
        )

    link.server.handler.on(event_type=EventType.SESSION_REQUEST, handler=accept)


async def test_establish_session_waits(link: Link) -> None:
    await accept_all(link)
    task = asyncio.create_task(link.client.handler.establish_session(path="/"))
    await pump(link, task)
    token, stream_id = task.result()
    info = link.client.handler.get_session_info(session_id=token)
    assert info is not None
    assert (info.state, info.control_stream_id) == (SessionState.CONNECTED, stream_id)


async def test_establish_session_tells_a_refusal_and_a_timeout(aioquic_link: Link) -> None:
    link = aioquic_link
    with pytest.raises(TimeoutError) as caught:
        await link.client.handler.establish_session(path="/", timeout=0.01)
    assert caught.value.operation == "establish_session"
    assert link.client.handler.get_all_sessions()[0].state is SessionState.CLOSED

    def reject(event: Any) -> None:
        link.server.handler.reject_session_request(
            stream_id=event.data["control_stream_id"], status_code=403
        )

    link.server.handler.on(event_type=EventType.SESSION_REQUEST, handler=reject)
    await link.settle()
    task = asyncio.create_task(link.client.handler.establish_session(path="/"))
    await pump(link, task)
    with pytest.raises(SessionError, match="HTTP status 403"):
        task.result()


async def test_establish_session_needs_a_connection(certificate: Certificate) -> None:
    link = Link("aioquic", "aioquic", certificate)
    with pytest.raises(ConnectionError):
        await link.client.handler.establish_session(path="/")


async def test_recover_session_asks_again(aioquic_link: Link) -> None:
    link = aioquic_link
    await accept_all(link)
    first = asyncio.create_task(
        link.client.handler.establish_session(path="/room", headers={"x-key": "1"})
    )
    await pump(link, first)
    token, _ = first.result()
    link.client.handler.close_webtransport_session(session_id=token)
    await link.settle()
    assert not await link.client.handler.recover_session(session_id="unknown")
    again = asyncio.create_task(link.client.handler.recover_session(session_id=token))
    await pump(link, again)
    assert again.result() is True
    requests = link.server.of(EventType.SESSION_REQUEST)
    assert [request["path"] for request in requests] == ["/room", "/room"]
    assert requests[1]["headers"]["x-key"] == "1"


async def test_recover_session_waits_longer_each_time(
    aioquic_link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = aioquic_link
    token, _, _ = await link.session()
    attempts, pauses = 0, []

    async def refuse(**request: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise SessionError("refused")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(link.client.handler, "establish_session", refuse)
    monkeypatch.setattr(asyncio, "sleep", pause)
    assert not await link.client.handler.recover_session(session_id=token, max_retries=4)
    assert (attempts, pauses) == (4, [1, 2, 4])


async def test_read_stream_complete_joins(aioquic_link: Link) -> None:
    link = aioquic_link
    token, _, _ = await link.session()
    stream_id = link.client.handler.create_webtransport_stream(session_id=token)
    link.client.handler.send_webtransport_stream_data(stream_id=stream_id, data=b"?")
    await link.settle()
    task = asyncio.create_task(link.client.handler.read_stream_complete(stream_id=stream_id))
    await asyncio.sleep(0)
    link.server.handler.write_stream_chunked(
        stream_id=stream_id, data="text of 20 characters", chunk_size=5
    )
    await pump(link, task)
    assert task.result() == b"text of 20 characters"
    with pytest.raises(TimeoutError):
        await link.client.handler.read_stream_complete(stream_id=stream_id, timeout=0.01)


@pytest.mark.parametrize("end", ["reset", "session"])
async def test_read_stream_complete_tells_a_reset(aioquic_link: Link, end: str) -> None:
    link = aioquic_link
    token, server_token, _ = await link.session()
    stream_id = link.client.handler.create_webtransport_stream(session_id=token)
    link.client.handler.send_webtransport_stream_data(stream_id=stream_id, data=b"?")
    await link.settle()
    task = asyncio.create_task(link.client.handler.read_stream_complete(stream_id=stream_id))
    await asyncio.sleep(0)
    if end == "reset":
        link.server.handler.abort_stream(stream_id=stream_id, error_code=7)
    else:
        link.server.handler.close_webtransport_session(session_id=server_token)
    await pump(link, task)
    error = task.exception()
    assert isinstance(error, StreamError)
    assert error.stream_id == stream_id
    if end == "reset":
        assert error.error_code == 7


async def test_draining_is_told(link: Link) -> None:
    token, _, session_id = await link.session()
    link.server.handler._driver.core.drain_session(session_id)
    link.server.handler._flush()
    await link.settle()
    assert link.client.of(EventType.SESSION_DRAINING) == [{"session_id": token}]
    info = link.client.handler.get_session_info(session_id=token)
    assert info is not None
    assert info.state is SessionState.DRAINING


async def test_connection_is_kept_weakly(certificate: Certificate) -> None:
    owner: Any = type("Owner", (), {"config": ClientConfig()})()
    handler = WebTransportProtocolHandler(
        quic_connection=quic_connection("aioquic", certificate, is_client=True), connection=owner
    )
    assert handler.connection is owner
    del owner
    gc.collect()
    assert handler.connection is None


async def test_health_and_stats(aioquic_link: Link) -> None:
    link = aioquic_link
    await link.session()
    health = link.client.handler.get_health_status()
    assert (health["status"], health["active_sessions"]) == ("healthy", 1)
    stats = link.client.handler.stats
    stats["errors"] = 99
    assert link.client.handler.stats["errors"] == 0
    assert link.client.transmissions > 0
    with pytest.raises(ValueError):
        await link.client.handler.create_webtransport_session(path="/#fragment")
    link.client.handler.write_stream_chunked(stream_id=999, data=b"to nobody")
    assert link.client.handler.get_health_status()["status"] == "degraded"


async def test_close_ends_sessions_and_is_idempotent(aioquic_link: Link) -> None:
    link = aioquic_link
    token, _, _ = await link.session()
    await link.client.handler.close()
    await link.client.handler.close()
    assert link.client.of(EventType.SESSION_CLOSED)[0]["session_id"] == token
    assert link.client.handler.connection_state is ConnectionState.CLOSED
    assert link.client.handler.get_health_status()["status"] == "unhealthy"


async def test_early_data_waits_for_its_session(link: Link) -> None:
    """Stream bytes that arrive before the session is accepted are kept and come after."""
    token, stream_id = await link.client.handler.create_webtransport_session(path="/")
    await link.settle()
    server_token = link.server.last(EventType.SESSION_REQUEST)["session_id"]
    link.server.handler.accept_webtransport_session(stream_id=stream_id, session_id=server_token)
    early = link.server.handler.create_webtransport_stream(
        session_id=server_token, is_unidirectional=True
    )
    link.server.handler.send_webtransport_stream_data(
        stream_id=early, data=b"early", end_stream=True
    )
    await link.settle()
    kinds = [kind for kind, _ in link.client.emitted]
    assert kinds.index(EventType.SESSION_READY) < kinds.index(EventType.STREAM_OPENED)
    assert link.client.last(EventType.SESSION_READY)["session_id"] == token


async def test_stream_states_are_reported(aioquic_link: Link) -> None:
    link = aioquic_link
    token, _, _ = await link.session()
    handler = link.client.handler
    stream_id = handler.create_webtransport_stream(session_id=token)
    handler.send_webtransport_stream_data(stream_id=stream_id, data=b"x")
    await link.settle()
    assert link.server.last(EventType.STREAM_OPENED)["state"] == StreamState.OPEN


def test_verbs_without_asyncio_are_told_with_the_next_event(certificate: Certificate) -> None:
    """A driver of another kind runs the coroutines itself."""

    def run(coroutine: Any) -> Any:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("the handler waited for something")

    link = Link("aioquic", "aioquic", certificate)
    run(link.settle())
    token, _, _ = run(link.session())
    link.client.handler.close_webtransport_session(session_id=token, code=5)
    run(link.settle())
    assert link.client.last(EventType.SESSION_CLOSED)["code"] == 5
    assert link.server.last(EventType.SESSION_CLOSED)["code"] == 5
