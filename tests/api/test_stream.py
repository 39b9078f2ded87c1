"""Bidirectional streams: state, figures, events, health."""

from __future__ import annotations

import asyncio
import logging

import pytest

from pywebtransport.events import Event
from pywebtransport.exceptions import StreamError
from pywebtransport.stream import (
    StreamStats,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.types import EventType, StreamDirection, StreamState
from tests.api.ends import ends, turns


async def test_kinds_directions_and_identity() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        sender, receiver = await both.unidirectional()
        assert isinstance(stream, WebTransportStream)
        assert isinstance(other, WebTransportStream)
        assert isinstance(sender, WebTransportSendStream)
        assert isinstance(receiver, WebTransportReceiveStream)
        assert not isinstance(receiver, WebTransportSendStream)
        assert [each.direction for each in (stream, sender, receiver)] == [
            StreamDirection.BIDIRECTIONAL,
            StreamDirection.SEND_ONLY,
            StreamDirection.RECEIVE_ONLY,
        ]
        assert stream.stream_id == other.stream_id
        assert (stream.is_remote, other.is_remote) == (False, True)
        assert stream.session is both.client
        assert stream.events is stream


async def test_halves_close_one_after_the_other() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        assert stream.state is StreamState.OPEN
        await stream.close()
        assert stream.state is StreamState.HALF_CLOSED_LOCAL
        assert (stream.is_readable, stream.is_writable) == (True, False)
        assert await other.read() == b""
        assert other.state is StreamState.HALF_CLOSED_REMOTE
        assert (other.is_readable, other.is_writable) == (True, True)
        await other.write(data=b"answer", end_stream=True)
        assert other.state is StreamState.CLOSED
        assert await stream.read_all() == b"answer"
        assert stream.state is StreamState.CLOSED
        await asyncio.gather(stream.wait_closed(), other.wait_closed())


async def test_abort_ends_both_directions_with_the_code() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        waiting = asyncio.create_task(other.wait_closed())
        reading = asyncio.create_task(other.read())
        await turns()
        await stream.abort(code=5)
        assert stream.state is StreamState.RESET_SENT
        assert stream.is_closed
        await waiting
        with pytest.raises(StreamError) as caught:
            await reading
        assert caught.value.error_code == 5
        with pytest.raises(StreamError) as caught:
            await other.write(data=b"x")
        assert caught.value.error_code == 5
        assert other.state is StreamState.RESET_RECEIVED


async def test_reset_of_one_direction_leaves_the_other() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        await stream.reset(error_code=1)
        await turns()
        assert stream.state is StreamState.HALF_CLOSED_LOCAL
        assert other.state is StreamState.HALF_CLOSED_REMOTE
        await other.write(data=b"still", end_stream=True)
        assert await stream.read_all() == b"still"
        assert stream.state is StreamState.RESET_SENT
        assert other.state is StreamState.RESET_RECEIVED


async def test_context_of_a_bidirectional_stream() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        async with stream:
            await stream.write(data=b"x")
        assert await other.read_all() == b"x"
        assert stream.state is StreamState.HALF_CLOSED_LOCAL
        stream, other = await both.bidirectional()
        with pytest.raises(KeyError):
            async with stream:
                raise KeyError
        assert stream.state is StreamState.RESET_SENT


async def test_events_are_told_to_those_who_listen() -> None:
    async with ends() as both:
        told: list[Event] = []
        both.server.on(event_type=EventType.STREAM_OPENED, handler=told.append)
        both.server.on(event_type=EventType.STREAM_CLOSED, handler=told.append)
        stream, other = await both.bidirectional()
        other.on(event_type=EventType.STREAM_CLOSED, handler=told.append)
        await stream.abort(code=7)
        await other.wait_closed()
        await turns()
        assert [event.type for event in told] == [
            EventType.STREAM_OPENED,
            EventType.STREAM_CLOSED,
            EventType.STREAM_CLOSED,
        ]
        assert all(event.data["stream_id"] == stream.stream_id for event in told)
        assert told[0].data["stream"] is other
        assert {event.data.get("code") for event in told} == {None, 7}


async def test_figures() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        for _ in range(3):
            await stream.write(data=b"12345")
            await other.readexactly(n=5)
        stats = stream.diagnostics.stats
        assert (stats.bytes_sent, stats.writes_count, stats.total_write_time) == (15, 3, 0.0)
        stats = other.diagnostics.stats
        assert (stats.bytes_received, stats.reads_count) == (15, 3)
        assert stats.closed_at is None
        assert stats.uptime >= 0
        assert set(stats.to_dict()) >= {"stream_id", "bytes_sent", "max_read_time"}


def test_averages_are_zero_before_the_first() -> None:
    stats = StreamStats(stream_id=1, created_at=100.0, closed_at=103.0)
    assert (stats.avg_read_time, stats.avg_write_time, stats.uptime) == (0.0, 0.0, 3.0)
    stats = StreamStats(stream_id=1, created_at=0, reads_count=4, total_read_time=2.0)
    assert stats.avg_read_time == 0.5


async def test_issues_are_described() -> None:
    async with ends(client={"read_timeout": 5.0}) as both:
        stream, _ = await both.bidirectional()
        assert stream.diagnose_issues() == []
        assert "stale" in stream.diagnose_issues(stale_threshold=-1.0)[0]
        for _ in range(11):
            reading = asyncio.create_task(stream.read())
            await turns()
            await both.clock.advance(5.1)
            await asyncio.wait([reading])
            reading.exception()
        issues = stream.diagnose_issues()
        assert any("read error rate: 11/11" in issue for issue in issues)
        await stream.abort()
        assert any("reset" in issue for issue in stream.diagnose_issues())


async def test_health_monitor_warns_and_ends_with_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with ends() as both:
        stream, _ = await both.bidirectional()
        stream._count().write_errors = 11
        with caplog.at_level(logging.WARNING, "pywebtransport"):
            monitoring = asyncio.create_task(stream.monitor_health(check_interval=10))
            await turns()
            await both.clock.advance(11)
        assert "11 of 11" in caplog.text
        await stream.abort()
        await monitoring


async def test_a_thousand_streams_leave_nothing_behind() -> None:
    async with ends(max_streams=2000, client={"max_streams": 2000}) as both:
        for _ in range(1000):
            stream, other = await both.bidirectional()
            await stream.write_all(data=b"x")
            await other.write_all(data=await other.read_all())
            assert await stream.read_all() == b"x"
        for connection in (both.client_connection, both.server_connection):
            assert connection._link is not None
            assert not connection._link.streams
        assert not both.client_engine.streams
        assert not both.server_engine.streams
        assert both.client._local_streams == 0


async def test_stream_is_small() -> None:
    async with ends() as both:
        stream, _ = await both.bidirectional()
        assert not vars(stream), "an attribute outside of the slots"
