"""Sessions: their beginning, streams, datagrams, and end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ClientError,
    DatagramError,
    SessionClosedError,
    SessionError,
    StreamError,
    TimeoutError,
)
from pywebtransport.session import SessionDiagnostics, SessionStats, WebTransportSession
from pywebtransport.types import EventType, SessionState
from tests.api.ends import Ends, connections, ends, turns

# Beginning.


async def test_facts_of_an_established_session() -> None:
    async with ends() as both:
        assert (both.client.state, both.client.is_ready) == (SessionState.CONNECTED, True)
        assert both.client.path == both.server.path == "/test"
        assert both.server.headers[":path"] == "/test"
        assert both.server.headers["user-agent"].startswith("pywebtransport/")
        assert both.client.connection is both.client_connection
        assert both.server.remote_address == ("192.0.2.1", 4433)
        assert len(both.client.session_id) == 22
        assert both.client.session_id != both.server.session_id
        assert both.server.path_params == ()
        assert both.client.events is both.client
        await both.client.ready()
        headers = both.server.headers
        headers["x"] = "changed"
        assert "x" not in both.server.headers


async def test_uninitialized_session_says_so() -> None:
    async with ends() as both:
        session = WebTransportSession(both.client_connection, session_id="unknown")
        assert session.stream_manager is None
        assert session.path == "/"
        for operation in (
            session.create_bidirectional_stream,
            session.create_datagram_transport,
            session.accept_bidirectional_stream,
            session.ready,
            session.wait_closed,
        ):
            with pytest.raises(SessionError, match="not initialized"):
                await operation()
        with pytest.raises(SessionError, match="unknown"):
            await session.initialize()


async def test_an_application_may_make_the_session_object_itself() -> None:
    async with ends() as both:
        early = await both.server.create_unidirectional_stream()
        await early.write_all(data=b"early")
        await turns()
        session = WebTransportSession(both.client_connection, session_id=both.client.session_id)
        async with session:
            assert (session.path, session.is_ready) == ("/test", True)
            assert await (await session.accept_unidirectional_stream()).read_all() == b"early"
            stream = await session.create_bidirectional_stream()
            assert stream.session is session
        assert session.is_closed


async def test_ready_times_out() -> None:
    client, server = connections()
    server._on_request = lambda session: None
    session = await client.create_session_optimistic(authority="test", path="/")
    with pytest.raises(TimeoutError) as caught:
        await session.ready(timeout=0.01)
    assert caught.value.timeout_duration == 0.01
    await asyncio.gather(client.close(), server.close())
    with pytest.raises(SessionError, match="not ready"):
        await session.ready()


async def test_rejection_reaches_the_client_with_its_status() -> None:
    client, server = connections()
    requests: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    server._on_request = requests.put_nowait
    connecting = asyncio.create_task(client.create_session(authority="test", path="/"))
    request = await requests.get()
    with pytest.raises(ValueError, match="200"):
        await request.reject(status_code=200)
    await request.reject(status_code=418)
    assert request.is_closed
    with pytest.raises(ClientError, match="HTTP status 418"):
        await connecting
    with pytest.raises(SessionError):
        await request.accept()
    with pytest.raises(SessionError):
        await request.reject()
    await asyncio.gather(client.close(), server.close())


async def test_application_protocol_is_chosen() -> None:
    client, server = connections(server={"wt_available_protocols": ["b", "a"]})
    requests: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    server._on_request = requests.put_nowait

    async def connect(*protocols: str) -> tuple[WebTransportSession, asyncio.Task[Any]]:
        task = asyncio.create_task(
            client.create_session(
                authority="test", path="/", wt_available_protocols=list(protocols)
            )
        )
        return await requests.get(), task

    request, connecting = await connect("a", "b", "c")
    assert request.wt_available_protocols == ["a", "b", "c"]
    await request.accept()  # by the order of the server's configuration
    assert (request.wt_protocol, (await connecting).wt_protocol) == ("b", "b")
    request, connecting = await connect("a", "c")
    with pytest.raises(ValueError, match="did not offer"):
        request.wt_protocol = "z"
    request.wt_protocol = "c"
    await request.accept()
    assert (await connecting).wt_protocol == "c"
    with pytest.raises(SessionError):
        request.wt_protocol = "a"
    request, connecting = await connect("x")
    await request.accept()
    assert (await connecting).wt_protocol is None
    await asyncio.gather(client.close(), server.close())


async def test_optimistic_session_waits_where_it_has_to() -> None:
    client, server = connections()
    requests: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    server._on_request = requests.put_nowait
    session = await client.create_session_optimistic(authority="test", path="/")
    assert session.state is SessionState.CONNECTING
    opening = asyncio.create_task(session.create_bidirectional_stream())
    sending = asyncio.create_task(session.send_datagram(data=b"x"))
    await turns()
    assert not opening.done()
    await (await requests.get()).accept()
    stream = await opening
    await sending
    assert not stream.is_closed
    await asyncio.gather(client.close(), server.close())


# Streams.


async def test_streams_come_in_the_order_of_arrival() -> None:
    async with ends() as both:
        for _ in range(3):
            await both.client.create_bidirectional_stream()
            await both.client.create_unidirectional_stream()
        ids = []
        async for stream in both.server.incoming_streams():
            ids.append(stream.stream_id)
            if len(ids) == 6:
                break
        assert ids == [4, 2, 8, 6, 12, 10]  # 0 is the session's own


async def test_streams_of_one_kind() -> None:
    async with ends() as both:
        waiting = asyncio.create_task(both.server.accept_unidirectional_stream())
        await turns()
        await both.client.create_bidirectional_stream()
        await turns()
        assert not waiting.done()
        await both.client.create_unidirectional_stream()
        assert (await waiting).stream_id == 2
        async for stream in both.server.incoming_bidirectional_streams():
            assert stream.stream_id == 4
            break
        await both.client.create_unidirectional_stream()
        async for receiving in both.server.incoming_unidirectional_streams():
            assert receiving.stream_id == 6
            break


async def test_cancelled_accept_leaves_the_stream_to_the_next() -> None:
    async with ends() as both:
        first = asyncio.create_task(both.server.accept_bidirectional_stream())
        second = asyncio.create_task(both.server.accept_bidirectional_stream())
        await turns()
        stream = await both.client.create_bidirectional_stream()
        await turns(1)  # the notification: the first is woken, and runs in the next turn
        first.cancel()
        await asyncio.wait([first])
        assert (await second).stream_id == stream.stream_id


async def test_stream_that_ends_before_it_is_accepted_leaves_the_queue() -> None:
    async with ends() as both:
        for _ in range(50):
            stream = await both.client.create_bidirectional_stream()
            await stream.abort()
            await turns()
        assert both.server._incoming is not None
        assert len(both.server._incoming) == 0
        kept = await both.client.create_bidirectional_stream()
        assert (await both.server.accept_bidirectional_stream()).stream_id == kept.stream_id


async def test_own_limit_of_streams_is_an_error_at_once() -> None:
    async with ends(client={"max_streams": 2}) as both:
        streams = [await both.client.create_bidirectional_stream() for _ in range(2)]
        with pytest.raises(StreamError, match="max_streams=2"):
            await both.client.create_unidirectional_stream()
        assert (await both.client.diagnostics()).stats.stream_errors == 1
        await streams[0].abort()
        await both.client.create_unidirectional_stream()
    async with ends(server={"max_streams_per_connection": 1}) as both:
        await both.server.create_bidirectional_stream()
        with pytest.raises(StreamError, match="max_streams=1"):
            await both.server.create_bidirectional_stream()


async def test_limit_of_the_peer_is_waited_for_in_turn() -> None:
    async with ends(max_streams=2) as both:
        streams = [await both.client.create_bidirectional_stream() for _ in range(2)]
        opening = [asyncio.create_task(both.client.create_bidirectional_stream()) for _ in range(3)]
        await turns()
        assert not any(task.done() for task in opening)
        opening[1].cancel()
        for stream in streams:
            await stream.abort()
        first, third = await asyncio.gather(opening[0], opening[2])
        assert first.stream_id < third.stream_id
        assert both.client._local_streams == 2


async def test_limit_of_the_peer_times_out() -> None:
    async with ends(max_streams=1, client={"stream_creation_timeout": 7.0}) as both:
        await both.client.create_bidirectional_stream()
        opening = asyncio.create_task(both.client.create_bidirectional_stream())
        await turns()
        await both.clock.advance(7.1)
        with pytest.raises(StreamError, match=r"7\.0 s"):
            await opening
        opening = asyncio.create_task(both.client.create_bidirectional_stream(timeout=1.0))
        await turns()
        await both.clock.advance(1.1)
        with pytest.raises(StreamError):
            await opening
        assert (await both.client.diagnostics()).stats.stream_errors == 2
        assert both.client._local_streams == 1


async def test_stream_opened_for_a_cancelled_task_is_given_up() -> None:
    async with ends(max_streams=1) as both:
        stream = await both.client.create_bidirectional_stream()
        opening = asyncio.create_task(both.client.create_bidirectional_stream())
        await turns()
        await stream.abort()
        await turns(1)
        opening.cancel()  # the new stream's id is on its way to the task
        await asyncio.wait([opening])
        await turns()
        assert both.client._local_streams == 0
        await both.client.create_bidirectional_stream(timeout=1.0)


async def test_structured_streams_and_datagrams() -> None:
    from pywebtransport.serializer import JSONSerializer

    registry: dict[int, type[Any]] = {258: dict}
    async with ends() as both:
        stream = await both.client.create_structured_stream(
            serializer=JSONSerializer(), registry=registry
        )
        await stream.send_obj(obj={"x": 1, "y": "a"})
        other = await both.server.accept_bidirectional_stream()
        assert await other.read() == bytes.fromhex("010200000012") + b'{"x": 1, "y": "a"}'
        transport = await both.client.create_structured_datagram_transport(
            serializer=JSONSerializer(), registry=registry
        )
        receiving = await both.server.create_structured_datagram_transport(
            serializer=JSONSerializer(), registry=registry
        )
        await transport.send_obj(obj={"x": 2})
        assert await receiving.receive_obj(timeout=1) == {"x": 2}


async def test_stream_manager_is_a_view_of_the_session() -> None:
    async with ends() as both:
        manager = both.client.stream_manager
        assert manager is not None
        assert len(manager) == 0
        stream = await both.client.create_bidirectional_stream()
        assert stream.stream_id in manager
        assert [each async for each in manager] == [stream]
        other = await manager.create_unidirectional_stream()
        assert (await manager.get_stats())["current_count"] == 2
        await other.abort()
        assert len(manager) == 1
        assert other.stream_id not in manager
        for _ in range(3):
            await (await both.client.create_unidirectional_stream()).abort()
        stats = await manager.get_stats()
        assert (stats["total_created"], stats["total_closed"]) == (5, 4)
        assert (stats["current_count"], stats["active"], stats["max_concurrent"]) == (1, 1, 2)
        assert stats["directions"] == {stream.direction: 1}
        assert (stats["max_streams"], stats["semaphore_value"]) == (100, 99)
        await both.client.create_unidirectional_stream()
        await both.client.create_unidirectional_stream()
        assert (await manager.get_stats())["max_concurrent"] == 3


async def test_stream_manager_knows_only_the_session_s_streams() -> None:
    async with ends() as both:
        stream, peer = await both.bidirectional()
        await both.client_connection.create_session_optimistic(authority="test", path="/other")
        manager, other = (
            session.stream_manager for session in both.client_connection._sessions.values()
        )
        assert manager is not None
        assert other is not None
        assert await manager.get_resource(resource_id=stream.stream_id) == stream
        assert await other.get_resource(resource_id=stream.stream_id) is None
        assert (len(manager), len(other), stream.stream_id in other) == (1, 0, False)
        await manager.add_stream(stream=stream)
        with pytest.raises(StreamError, match="none of session"):
            await other.add_stream(stream=stream)
        assert await manager.remove_stream(stream_id=stream.stream_id) == stream
        assert await other.remove_stream(stream_id=stream.stream_id) is None
        await manager.shutdown()
        assert await peer.read_all() == b""


# Datagrams.


async def test_datagram_transport_is_one_per_session() -> None:
    async with ends() as both:
        transport = await both.client.create_datagram_transport()
        assert await both.client.create_datagram_transport() is transport
        receiving = await both.server.create_datagram_transport()
        await both.client.send_datagram(data="täxt")
        assert (await receiving.receive(timeout=1)).decode() == "täxt"


# The end.


async def test_closing_what_the_peer_ended_frees_the_connection() -> None:
    async with ends() as both:
        await both.server.close(close_connection=False)
        await both.client.wait_closed()
        await both.client.close(close_connection=False)
        assert both.client_connection.is_connected
        await both.client.close()
        assert both.client_connection.is_closing, "and the rest goes on behind"
        await both.client_connection.wait_closed()
    async with ends() as both:
        await both.client.close(close_connection=False)
        await both.client.close()
        assert both.client_connection.is_connected, "this side has said that it stays"


async def test_close_reaches_the_peer_with_code_and_reason() -> None:
    async with ends() as both:
        told: list[dict[str, Any]] = []

        async def closed(event: Event) -> None:
            await asyncio.sleep(0)
            assert event.data is not None
            told.append(event.data)

        both.client.on(event_type=EventType.SESSION_CLOSED, handler=closed)
        both.server.once(event_type=EventType.SESSION_CLOSED, handler=closed)
        waiting = asyncio.create_task(both.server.wait_closed())
        await turns()
        await both.client.close(code=4242, reason="bye é")
        assert both.client.session_id in [event["session_id"] for event in told], (
            "handlers run before close() returns"
        )
        await waiting
        assert [(each["code"], each["reason"]) for each in told] == [(4242, "bye é")] * 2
        assert {each["session_id"] for each in told} == {
            *(both.client.session_id, both.server.session_id)
        }
        assert both.client.is_closed
        assert both.server.is_closed
        assert both.client_connection.is_closed
        await both.client.close(code=1)
        await both.client.wait_closed()


async def test_close_can_leave_the_connection_open() -> None:
    async with ends() as both:
        await both.client.close(close_connection=False)
        assert both.client_connection.is_connected


async def test_close_leaves_the_connection_to_other_sessions() -> None:
    async with ends() as both:
        connecting = asyncio.create_task(
            both.client_connection.create_session(authority="test", path="/second")
        )
        await turns()
        second_at_server = next(
            session
            for session in both.server_connection._sessions.values()
            if session.path == "/second"
        )
        await second_at_server.accept()
        second = await connecting
        await both.client.close()
        assert both.client_connection.is_connected
        await second.close()
        assert both.client_connection.is_closing
        await both.client_connection.wait_closed()


@pytest.mark.parametrize(("code", "is_good"), [(0, True), (2**32 - 1, True), (2**32, False)])
async def test_close_codes_are_32_bits(code: int, is_good: bool) -> None:
    async with ends() as both:
        if not is_good:
            with pytest.raises(ValueError, match=str(code)):
                await both.client.close(code=code)
            return
        await both.client.close(code=code)
        await turns()
        assert both.server._close_code == code


@pytest.mark.parametrize("size", [1023, 1024, 1025])
async def test_reason_is_cut_at_a_character_of_1024_bytes(size: int) -> None:
    async with ends() as both:
        reason = "x" * (size - 2) + "é"
        await both.client.close(reason=reason)
        await turns()
        expected = reason if size <= 1024 else "x" * (size - 2)
        assert both.server._close_reason == expected


async def test_close_of_the_peer_wakes_everything() -> None:
    async with ends(max_streams=1) as both:
        await both.client.create_bidirectional_stream()
        transport = await both.client.create_datagram_transport()

        async def iterate() -> int:
            return len([stream async for stream in both.client.incoming_streams()])

        tasks = [
            asyncio.create_task(coroutine)
            for coroutine in (
                iterate(),
                both.client.accept_bidirectional_stream(),
                both.client.accept_unidirectional_stream(),
                both.client.create_bidirectional_stream(),
                transport.receive(),
                both.client.wait_closed(),
            )
        ]
        await turns()
        await both.server.close(code=5, reason="enough")
        async with asyncio.timeout(1):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == 0
        for result in results[1:4]:
            assert isinstance(result, SessionClosedError)
            assert result.error_code == 5
            assert "enough" in str(result)
        assert isinstance(results[4], DatagramError)
        assert results[5] is None
        with pytest.raises(SessionClosedError):
            await both.client.create_bidirectional_stream()
        with pytest.raises(SessionError):
            await both.client.ensure_ready()


async def test_accepting_tasks_run_before_those_of_streams() -> None:
    """So that a handler that ends with its session can cancel what it has started."""
    async with ends() as both:
        order = []

        async def read(stream: Any) -> None:
            try:
                await stream.read()
            except StreamError:
                order.append("stream")

        async def accept() -> None:
            async for stream in both.server.incoming_streams():
                reading.append(asyncio.create_task(read(stream)))
            order.append("session")

        reading: list[asyncio.Task[None]] = []
        accepting = asyncio.create_task(accept())
        await both.client.create_bidirectional_stream()
        await turns()
        await both.server_connection.close()
        await accepting
        await asyncio.gather(*reading)
        assert order == ["session", "stream"]


async def test_loss_of_the_connection_ends_the_session() -> None:
    async with ends() as both:
        waiting = asyncio.create_task(both.client.wait_closed())
        await turns()
        both.client_engine.lose()
        await waiting
        assert both.client.is_closed
        with pytest.raises(SessionClosedError, match="idle timeout"):
            await both.client.accept_bidirectional_stream()


async def test_closing_cancelled_in_the_middle_has_closed() -> None:
    async with ends(window=10) as both:
        stream, _ = await both.bidirectional()
        await stream.write(data=b"x" * 20, wait_flush=False)
        closing = asyncio.create_task(both.client.close())
        await turns()
        assert both.client.state is SessionState.CLOSING
        closing.cancel()
        await asyncio.wait([closing])
        assert both.client.is_closed


async def test_close_waits_bounded_for_what_is_written() -> None:
    async with ends(window=10, client={"close_timeout": 3.0}) as both:
        stream, other = await both.bidirectional()
        await stream.write(data=b"x" * 20, wait_flush=False)
        closing = asyncio.create_task(both.client.close())
        await turns()
        assert not closing.done()
        assert await other.readexactly(n=20) == b"x" * 20
        await closing


async def test_close_does_not_wait_for_a_reader_that_does_not_read() -> None:
    async with ends(window=10, client={"close_timeout": 3.0}) as both:
        stream, _ = await both.bidirectional()
        await stream.write(data=b"x" * 20, wait_flush=False)
        closing = asyncio.create_task(both.client.close())
        await turns()
        await both.clock.advance(3.1)
        await closing
        assert both.client.is_closed


async def test_draining_is_told_and_the_session_stays_usable() -> None:
    async with ends() as both:
        told: list[Event] = []
        both.client.on(event_type=EventType.SESSION_DRAINING, handler=told.append)
        both.server_engine.drain_session(0)
        await turns()
        assert both.client.state is SessionState.DRAINING
        assert len(told) == 1
        await both.client.create_bidirectional_stream()
        await both.client.close()


# Looking at it.


async def test_diagnostics() -> None:
    async with ends() as both:
        stream, _ = await both.bidirectional()
        transport = await both.client.create_datagram_transport()
        await transport.send(data=b"x")
        diagnostics = await both.client.diagnostics()
        stats = diagnostics.stats
        assert (stats.streams_created, stats.bidirectional_streams, stats.active_streams) == (
            *(1, 1),
            1,
        )
        assert stats.datagrams_sent == 1
        assert diagnostics.is_connection_active
        assert diagnostics.issues == []
        assert stats.uptime > 0
        await stream.abort()
        assert stats.active_streams == 0
        assert stats.to_dict()["active_streams"] == 0


def test_issues() -> None:
    stats = SessionStats(session_id="s", created_at=0, ready_at=1.0)
    stats.streams_created = stats.streams_closed = 100
    stats.stream_errors = 20
    issues = SessionDiagnostics(
        stats=stats,
        state=SessionState.DRAINING,
        is_connection_active=False,
        datagram_receive_buffer_size=101,
        send_credit_available=0,
        receive_credit_available=0,
    ).issues
    assert len(issues) == 5
    assert SessionStats(session_id="s", created_at=0).uptime == 0.0


async def test_health_monitor_warns_after_silence(caplog: pytest.LogCaptureFixture) -> None:
    async with ends() as both:
        both.client_connection._last_activity = 1.0
        with caplog.at_level(logging.WARNING, "pywebtransport"):
            monitoring = asyncio.create_task(both.client.monitor_health())
            await turns()
            await both.client.close()
            await monitoring
        assert "no activity" in caplog.text


async def test_keying_material() -> None:
    async with ends() as both:
        assert await both.client.export_keying_material(
            label="label", context=b"context", length=14
        ) == (b"labelcontext..")
        await both.client.close()
        with pytest.raises(SessionError):
            await both.client.export_keying_material(label="l", context="", length=1)


async def test_nothing_is_left_when_a_session_has_ended() -> None:
    async with ends() as both:
        await fill(both)
        await both.client.close(close_connection=False)
        await turns()
        for connection in (both.client_connection, both.server_connection):
            link = connection._link
            assert link is not None
            assert not link.streams
            assert not link.sessions
            assert not connection._sessions


async def fill(both: Ends) -> None:
    for _ in range(20):
        stream, _ = await both.bidirectional()
        await stream.write(data=b"x")
        sender, _ = await both.unidirectional()
        await sender.write(data=b"x")
    await both.client.send_datagram(data=b"x")
