"""The receiving half: every way to read, the ways it ends, cancellation, fairness."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from pywebtransport.exceptions import StreamError, TimeoutError
from pywebtransport.types import StreamState
from tests.api.ends import ends, turns


async def test_read_returns_what_has_arrived_up_to_size() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=b"abcdef")
        assert await receiver.read(size=4) == b"abcd"
        assert await receiver.read(size=-1) == b"ef"


async def test_read_waits_for_data_and_returns_nothing_at_the_end() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read())
        await turns()
        assert not reading.done()
        await sender.write(data=b"late")
        assert await reading == b"late"
        await sender.close()
        assert await receiver.read() == b""
        assert await receiver.read() == b""
        assert receiver.state is StreamState.CLOSED


async def test_read_of_size_zero_waits_and_takes_nothing() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read(size=0))
        await turns()
        assert not reading.done()
        await sender.write(data=b"x", end_stream=True)
        assert await reading == b""
        assert await receiver.read() == b"x"
        assert await receiver.read(size=0) == b""


async def test_read_times_out_and_can_be_repeated() -> None:
    async with ends(server={"read_timeout": 5.0}) as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read())
        await turns()
        await both.clock.advance(4.9)
        assert not reading.done()
        await both.clock.advance(0.2)
        with pytest.raises(TimeoutError) as caught:
            await reading
        assert (caught.value.timeout_duration, caught.value.operation) == (5.0, "read")
        await sender.write(data=b"after all")
        assert await receiver.read() == b"after all"
        stats = receiver.diagnostics.stats
        assert (stats.read_errors, stats.reads_count) == (1, 1)
        assert stats.max_read_time >= 5.0


async def test_one_timer_serves_all_readers_each_in_its_time() -> None:
    async with ends(server={"read_timeout": 5.0}) as both:
        receivers = [(await both.unidirectional())[1] for _ in range(3)]
        reading = []
        for receiver in receivers:
            reading.append(asyncio.create_task(receiver.read()))
            await turns()
            await both.clock.advance(1.0)
        await both.clock.advance(2.5)
        assert [task.done() for task in reading] == [True, False, False]
        await both.clock.advance(1.0)
        assert [task.done() for task in reading] == [True, True, False]
        await both.clock.advance(1.0)
        assert all(task.done() for task in reading)
        for task in reading:
            assert isinstance(task.exception(), TimeoutError)


async def test_without_a_timeout_a_read_waits_for_ever() -> None:
    async with ends(server={"read_timeout": None}) as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read())
        await turns()
        await both.clock.advance(1e6)
        assert not reading.done()
        await sender.write(data=b"x")
        assert await reading == b"x"


async def test_reset_wakes_a_waiting_read_with_the_code() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read())
        await turns()
        await sender.reset(error_code=77)
        with pytest.raises(StreamError) as caught:
            await reading
        assert caught.value.error_code == 77
        assert caught.value.stream_id == receiver.stream_id
        assert caught.value.stream_state is StreamState.RESET_RECEIVED
        with pytest.raises(StreamError, match="reset stream"):
            await receiver.read()
        assert receiver.is_closed
        assert not receiver.is_readable


async def test_reset_code_zero_is_zero() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.reset()
        await turns()
        with pytest.raises(StreamError) as caught:
            await receiver.read()
        assert caught.value.error_code == 0


async def test_read_all_returns_everything_across_many_windows() -> None:
    async with ends(window=1000) as both:
        sender, receiver = await both.unidirectional()
        data = bytes(range(256)) * 40
        writing = asyncio.create_task(sender.write_all(data=data))
        assert await receiver.read_all() == data
        await writing


async def test_read_all_gives_up_beyond_max_size_and_loses_nothing() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write_all(data=b"x" * 11)
        with pytest.raises(StreamError, match="max_size=10"):
            await receiver.read_all(max_size=10)
        assert await receiver.read_all(max_size=11) == b"x" * 11


async def test_readexactly_keeps_what_came_with_it() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=b"headerbody", end_stream=True)
        assert await receiver.readexactly(n=0) == b""
        assert await receiver.readexactly(n=6) == b"header"
        assert receiver.diagnostics.read_buffer_size == 4
        assert await receiver.read_all() == b"body"


async def test_readexactly_of_more_than_the_window() -> None:
    async with ends(window=1000) as both:
        sender, receiver = await both.unidirectional()
        data = bytes(50_000)
        writing = asyncio.create_task(sender.write(data=data))
        assert await receiver.readexactly(n=50_000) == data
        await writing


async def test_readexactly_tells_an_early_end() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write_all(data=b"abc")
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await receiver.readexactly(n=4)
        assert (caught.value.partial, caught.value.expected) == (b"abc", 4)
        with pytest.raises(ValueError, match="-1"):
            await receiver.readexactly(n=-1)


async def test_lines_and_separators() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write_all(data=b"one\ntwo\r\nthree;;four")
        assert await receiver.readline() == b"one\n"
        assert await receiver.readuntil(separator=b"\r\n") == b"two\r\n"
        assert await receiver.readuntil(separator=b";;") == b"three;;"
        assert await receiver.readline() == b"four"
        assert await receiver.readline() == b""
        with pytest.raises(ValueError, match="separator"):
            await receiver.readuntil(separator=b"")


async def test_separator_that_comes_in_two_pieces() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.readuntil(separator=b"--"))
        for piece in (b"a-", b"-b"):
            await sender.write(data=piece)
            await turns()
        assert await reading == b"a--"
        assert await receiver.read() == b"b"


@pytest.mark.parametrize("size", [100, 40_000])
async def test_line_at_the_limit_and_one_past_it(size: int) -> None:
    async with ends(window=1 << 20) as both:
        sender, receiver = await both.unidirectional()
        line = b"x" * (size - 1) + b"\n"
        await sender.write(data=line * 2)
        assert await receiver.readline(limit=size) == line
        with pytest.raises(StreamError, match=f"limit={size - 1}"):
            await receiver.readline(limit=size - 1)
        assert await receiver.readline(limit=size) == line


async def test_chunks_by_iteration() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write_all(data=b"x" * 10_000)
        assert [len(chunk) async for chunk in receiver] == [8192, 1808]
        sender, receiver = await both.unidirectional()
        await sender.write_all(data=b"x" * 10)
        assert [chunk async for chunk in receiver.read_iter(chunk_size=4)] == [b"xxxx"] * 2 + [
            b"xx"
        ]


READS = {
    "read": lambda stream: stream.read(),
    "read_all": lambda stream: stream.read_all(),
    "readexactly": lambda stream: stream.readexactly(n=10),
    "readexactly_large": lambda stream: stream.readexactly(n=30_000),
    "readline": lambda stream: stream.readline(),
    "zero": lambda stream: stream.read(size=0),
}


@pytest.mark.parametrize("name", READS)
async def test_cancelled_read_loses_nothing(name: str) -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        if name != "read":
            await sender.write(data=b"before ")
        reading = asyncio.create_task(READS[name](receiver))
        await turns()
        reading.cancel()
        await sender.write(data=b"after", end_stream=True)
        await asyncio.wait([reading])
        expected = b"after" if name == "read" else b"before after"
        assert await receiver.read_all() == expected


async def test_read_that_is_cancelled_in_the_turn_it_was_woken_loses_nothing() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read())
        await turns()
        await sender.write(data=b"kept")
        receiver._on_readable()  # the notification, ahead of the loop's turn
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await receiver.read() == b"kept"


async def test_a_second_reader_is_told_so() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        reading = asyncio.create_task(receiver.read())
        await turns()
        with pytest.raises(StreamError, match="another task"):
            await receiver.read()
        await sender.write(data=b"x")
        assert await reading == b"x"


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("end", ["session", "connection", "network"])
async def test_end_of_the_session_wakes_every_read(name: str, end: str) -> None:
    async with ends() as both:
        _, receiver = await both.unidirectional()
        reading = asyncio.create_task(READS[name](receiver))
        await turns()
        if end == "session":
            await both.client.close(code=5, reason="bye")
        elif end == "connection":
            await both.server_connection.close()
        else:
            both.client_engine.lose()
        with pytest.raises(StreamError):
            async with asyncio.timeout(1):
                await reading
        assert receiver.is_closed
        await receiver.wait_closed()


async def test_stop_receiving_tells_the_sender_and_ends_reading() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=b"unread")
        reading = asyncio.create_task(receiver.readexactly(n=100))
        await turns()
        await receiver.stop_receiving(error_code=55)
        with pytest.raises(StreamError, match="stopped receiving"):
            await reading
        with pytest.raises(StreamError, match="stopped receiving"):
            await receiver.read()
        assert receiver.state is StreamState.RESET_SENT
        await turns()
        with pytest.raises(StreamError) as caught:
            await sender.write(data=b"more")
        assert caught.value.error_code == 55
        assert sender.state is StreamState.RESET_RECEIVED
        await receiver.stop_receiving()


async def test_leaving_the_context_aborts_what_has_not_ended() -> None:
    async with ends() as both:
        sender, receiver = await both.unidirectional()
        async with receiver:
            pass
        assert receiver.state is StreamState.RESET_SENT
        await turns()
        assert not sender.is_writable
        sender, receiver = await both.unidirectional()
        await sender.close()
        async with receiver:
            assert await receiver.read() == b""
        assert receiver.state is StreamState.CLOSED


async def test_stream_that_nobody_reads_to_its_end_still_closes() -> None:
    """A reader that knows how much to expect never sees the end; the slot comes back anyway."""
    async with ends(client={"max_streams": 2}) as both:
        for _ in range(10):
            stream, other = await both.bidirectional()
            await stream.write(data=b"ask!", end_stream=True)
            assert await other.readexactly(n=4) == b"ask!"
            await other.write(data=b"answer", end_stream=True)
            assert await stream.readexactly(n=6) == b"answer"
            await turns()
        assert both.client._local_streams == 0


async def test_end_that_comes_after_the_last_read_closes_the_stream() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        await stream.write(data=b"ask!", end_stream=True)
        await other.write(data=b"answer")
        assert await stream.readexactly(n=6) == b"answer"
        assert not stream.is_closed
        await other.close()
        await turns()
        assert stream.is_closed


async def test_busy_stream_leaves_the_loop_to_others() -> None:
    """Reads that find data do not wait, yet every task gets its turns."""
    async with ends(window=1 << 24) as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=bytes(100_000))
        progress = []

        async def other() -> None:
            while True:
                progress.append(receiver.diagnostics.stats.reads_count)
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(10_000):
            await receiver.read(size=10)
        task.cancel()
        gaps = [after - before for before, after in itertools.pairwise(progress)]
        print(f"{len(progress)} turns for the other task, at most {max(gaps)} reads between two")
        assert max(gaps) <= 65


async def test_large_reads_leave_the_loop_to_others_sooner() -> None:
    async with ends(window=1 << 24) as both:
        sender, receiver = await both.unidirectional()
        await sender.write(data=bytes(16 << 20))
        turns_of_others = 0

        async def other() -> None:
            nonlocal turns_of_others
            while True:
                turns_of_others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(256):
            assert len(await receiver.read(size=65536)) == 65536
        task.cancel()
        print(f"{turns_of_others} turns of another task during 16 MiB")
        assert turns_of_others >= 16


async def test_uninitialized_stream_says_so() -> None:
    from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream

    async with ends() as both:
        stream = WebTransportReceiveStream(stream_id=3, session=both.client)
        with pytest.raises(StreamError, match="not initialized"):
            await stream.read()
        bidirectional = WebTransportStream(stream_id=4, session=both.client)
        with pytest.raises(StreamError, match="not initialized"):
            await bidirectional.write(data=b"x")
        await bidirectional.initialize()
        await bidirectional.initialize()
