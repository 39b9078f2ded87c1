"""The sending half: any buffer, any size, back-pressure, the ways it ends, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport.exceptions import StreamError, TimeoutError
from pywebtransport.types import StreamState
from tests.api.ends import ends, turns


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"xviewx")[1:5], b"view"),
        (memoryview(b"a.b.c.")[::2], b"abc"),
        (memoryview(b"\x01\x00\x02\x00").cast("H"), b"\x01\x00\x02\x00"),
        ("täxt", "täxt".encode()),
    ],
)
async def test_every_kind_of_buffer(data: Any, expected: bytes) -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=data, end_stream=True)
        assert await receiver.read_all() == expected


async def test_what_is_no_buffer_is_refused_by_name() -> None:
    async with ends() as both:
        sender, _ = await both.unidirectional()
        with pytest.raises(TypeError, match="int"):
            await sender.write(data=5)
        assert sender.is_writable


async def test_empty_write_is_nothing_without_an_end() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=b"")
        assert both.client_engine.calls.count("stream_write") == 0
        await sender.write(data=b"", end_stream=True)
        assert await receiver.read() == b""
        assert sender.state is StreamState.CLOSED


async def test_write_of_many_buffers_waits_for_the_reader() -> None:
    """16 MiB through a window of 64 KiB: larger than every buffer of the configuration."""
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        data = bytes(range(256)) * (1 << 16)
        writing = asyncio.create_task(sender.write(data=data, end_stream=True))
        await turns()
        assert not writing.done()
        assert sender.diagnostics.write_buffer_size == len(data) - 65536
        assert await receiver.read_all() == data
        await writing
        stats = sender.diagnostics.stats
        assert (stats.bytes_sent, stats.writes_count) == (len(data), 1)


async def test_writes_of_several_tasks_stay_whole_and_in_order() -> None:
    async with ends(window=100) as both:
        sender, receiver = await both.unidirectional()
        pieces = [bytes([number]) * 250 for number in range(10)]
        writing = [asyncio.create_task(sender.write(data=piece)) for piece in pieces]
        for piece in pieces:
            assert await receiver.readexactly(n=250) == piece
        await asyncio.gather(*writing)


async def test_write_without_waiting_returns_up_to_the_buffer_size() -> None:
    limits = {"stream_buffer_size": 500, "max_stream_buffer_size": 1000}
    async with ends(client=limits, window=100) as both:
        sender, receiver = await both.unidirectional()
        data = bytearray(b"x" * 1100)
        await sender.write(data=data, wait_flush=False)  # 100 with the engine, 1000 buffered
        data[:] = b"y" * 1100  # has been copied
        one_more = asyncio.create_task(sender.write(data=b"z", wait_flush=False))
        await turns()
        assert not one_more.done()
        assert await receiver.readexactly(n=1100) == b"x" * 1100
        await one_more
        await sender.close()
        assert await receiver.read_all() == b"z"


async def test_flush_waits_for_what_was_buffered() -> None:
    async with ends(window=100) as both:
        sender, receiver = await both.unidirectional()
        await sender.flush()
        await sender.write(data=b"x" * 300, wait_flush=False)
        flushing = asyncio.create_task(sender.flush())
        await turns()
        assert not flushing.done()
        assert await receiver.readexactly(n=300) == b"x" * 300
        await flushing


async def test_write_times_out_without_credit_and_says_what_is_left() -> None:
    async with ends(client={"write_timeout": 5.0}, window=100) as both:
        sender, receiver = await both.unidirectional()
        writing = asyncio.create_task(sender.write(data=b"x" * 250))
        await turns()
        await both.clock.advance(5.1)
        with pytest.raises(TimeoutError, match="150 bytes") as caught:
            await writing
        assert caught.value.operation == "write"
        # What has begun is completed, so that the peer never sees half a message.
        assert await receiver.readexactly(n=250) == b"x" * 250
        assert sender.diagnostics.stats.write_errors == 1


async def test_write_that_makes_progress_does_not_time_out() -> None:
    async with ends(client={"write_timeout": 5.0}, window=100) as both:
        sender, receiver = await both.unidirectional()
        writing = asyncio.create_task(sender.write(data=b"x" * 500))
        for _ in range(4):
            await both.clock.advance(3)
            await receiver.readexactly(n=100)
            await turns()
        await writing


async def test_cancelled_write_that_had_not_begun_leaves_no_trace() -> None:
    async with ends(window=100) as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=b"a" * 100)
        writing = asyncio.create_task(sender.write(data=b"b" * 10, end_stream=True))
        await turns()
        writing.cancel()
        await asyncio.wait([writing])
        assert sender.is_writable
        assert await receiver.readexactly(n=100) == b"a" * 100
        await sender.write(data=b"c", end_stream=True)
        assert await receiver.read_all() == b"c"


async def test_cancelled_write_that_had_begun_is_completed() -> None:
    async with ends(window=100) as both:
        sender, receiver = await both.unidirectional()
        data = bytearray(b"x" * 250)
        writing = asyncio.create_task(sender.write(data=data))
        await turns()
        writing.cancel()
        await asyncio.wait([writing])
        data[:] = b"y" * 250  # the rest was copied
        assert await receiver.readexactly(n=250) == b"x" * 250
        await sender.write(data=b"next")
        assert await receiver.read() == b"next"


async def test_write_after_the_end_is_refused() -> None:
    async with ends() as both:
        sender, _ = await both.unidirectional()
        await sender.close()
        with pytest.raises(StreamError, match="not writable") as caught:
            await sender.write(data=b"x")
        assert caught.value.stream_id == sender.stream_id
        await sender.close()
        await sender.reset()
        await sender.wait_closed()
        assert not sender.can_write


async def test_no_write_follows_a_queued_end() -> None:
    async with ends(window=10) as both:
        sender, receiver = await both.unidirectional()
        ending = asyncio.create_task(sender.write(data=b"x" * 20, end_stream=True))
        await turns()
        assert sender.state is StreamState.HALF_CLOSED_LOCAL
        with pytest.raises(StreamError):
            await sender.write(data=b"y")
        assert await receiver.read_all() == b"x" * 20
        await ending
        assert sender.is_closed


async def test_reset_wakes_the_writer_and_tells_the_code() -> None:
    async with ends(window=10) as both:
        sender, receiver = await both.unidirectional()
        writing = asyncio.create_task(sender.write(data=b"x" * 20))
        await turns()
        await sender.reset(error_code=9)
        with pytest.raises(StreamError):
            await writing
        assert sender.state is StreamState.RESET_SENT
        await turns()
        with pytest.raises(StreamError) as caught:
            await receiver.read()
        assert caught.value.error_code == 9


async def test_stop_of_the_peer_wakes_the_writer_with_its_code() -> None:
    async with ends(window=10) as both:
        sender, receiver = await both.unidirectional()
        writing = asyncio.create_task(sender.write(data=b"x" * 20))
        await turns()
        await receiver.abort(code=55)
        with pytest.raises(StreamError) as caught:
            await writing
        assert caught.value.error_code == 55
        assert not sender.is_writable


@pytest.mark.parametrize("end", ["session", "connection", "network"])
@pytest.mark.parametrize("operation", ["write", "flush"])
async def test_end_of_the_session_wakes_the_writer(end: str, operation: str) -> None:
    async with ends(window=10) as both:
        sender, _ = await both.unidirectional()
        await sender.write(data=b"x" * 20, wait_flush=False)
        waiting = asyncio.create_task(
            sender.flush() if operation == "flush" else sender.write(data=b"y")
        )
        await turns()
        if end == "session":
            await both.server.close(code=5, reason="bye")
        elif end == "connection":
            await both.server_connection.close()
        else:
            both.client_engine.lose()
        with pytest.raises(StreamError):
            async with asyncio.timeout(1):
                await waiting
        assert sender.is_closed


async def test_write_all_sends_the_end() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write_all(data=b"abc", chunk_size=1)
        assert await receiver.read_all() == b"abc"
        stream, other = await both.bidirectional()
        await stream.write_all(data=b"abc", end_stream=False)
        assert await other.read() == b"abc"
        assert stream.is_writable


async def test_write_all_aborts_with_code_1_when_it_fails() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        await other.stop_receiving(error_code=3)
        await turns()
        with pytest.raises(StreamError):
            await stream.write_all(data=b"x")
        await turns()
        with pytest.raises(StreamError) as caught:
            await other.write(data=b"x")
        assert caught.value.error_code == 1


async def test_context_ends_or_aborts() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        async with sender:
            await sender.write(data=b"clean")
        assert await receiver.read_all() == b"clean"
        sender, receiver = await both.unidirectional()
        with pytest.raises(RuntimeError):
            async with sender:
                raise RuntimeError
        await turns()
        with pytest.raises(StreamError):
            await receiver.read()


async def test_close_while_data_waits_sends_the_end_after_it() -> None:
    async with ends(window=10) as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=b"x" * 30, wait_flush=False)
        closing = asyncio.create_task(sender.close())
        assert await receiver.read_all() == b"x" * 30
        await closing


async def test_busy_writer_leaves_the_loop_to_others() -> None:
    async with ends(window=1 << 24) as both:
        sender, _ = await both.unidirectional()
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(6_500):
            await sender.write(data=b"0123456789")
        task.cancel()
        assert others >= 100
