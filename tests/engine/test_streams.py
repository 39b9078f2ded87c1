"""Streams: data both ways, ends, limits, back-pressure."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from pywebtransport._engine.base import StreamFinished

from .conftest import Connect
from .test_sessions import ENDS, FLOW_CONTROL, other

KINDS = pytest.mark.parametrize("unidirectional", [False, True], ids=["bidi", "uni"])
CODES = [0, 29, 30, 255, 2**32 - 1]


def payload(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@KINDS
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", [0, 1, 1200, 300_000])
async def test_data_arrives_whole(
    connect: Connect, end: str, unidirectional: bool, size: int
) -> None:
    pair = await connect()
    session_id = await pair.session()
    sender, receiver = pair.end(end), pair.end(other(end))
    data = payload(size)
    stream_id = await sender.open(session_id, unidirectional)
    writing = asyncio.create_task(sender.write(stream_id, data, fin=True))
    assert await receiver.next("stream_opened") == (session_id, stream_id)
    assert await receiver.read_all(stream_id) == data
    await writing
    if not unidirectional:
        answer = asyncio.create_task(receiver.write(stream_id, data[::-1], fin=True))
        assert await sender.read_all(stream_id) == data[::-1]
        await answer


async def test_stream_without_data_is_opened_at_the_peer(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    assert await pair.server.next("stream_opened") == (session_id, stream_id)
    await pair.server.write(stream_id, b"first word", fin=True)
    assert await pair.client.read_all(stream_id) == b"first word"


async def test_reads_of_every_size_give_the_same_bytes(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    data = payload(50_000)
    stream_id = await pair.client.open(session_id, True)
    await pair.client.write(stream_id, data, fin=True)
    await pair.server.next("stream_opened")
    sizes = random.Random(7)
    got = bytearray()
    while part := await pair.server.read(stream_id, size := sizes.choice([1, 7, 1000, 5000, -1])):
        assert size < 0 or len(part) <= size
        got += part
        if len(got) < 40_000 and size < 0:
            continue
    assert bytes(got) == data


async def test_the_end_is_read_with_the_last_data(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"question", fin=True)
    await pair.server.next("stream_opened")
    server, client = pair.server, pair.client
    # Too little room to see the end behind it.
    assert await server.read(stream_id, 4) == b"ques"
    assert server.connection.stream_read(stream_id, 5) == (b"tion", True)
    await server.write(stream_id, b"answer", fin=True)
    # Nobody has read yet; what this side has opened is told of all the same, once.
    await client.next("stream_readable", stream_id)
    assert client.connection.stream_read(stream_id, -1) == (b"answer", True)
    assert client.connection.stream_read(stream_id, -1) == (b"", True)
    assert client.of("stream_readable", stream_id) == [(stream_id,)]


async def test_readable_is_told_after_a_read_of_less_than_there_was_room_for(
    connect: Connect,
) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id, True)
    await pair.client.write(stream_id, b"abc")
    await pair.server.next("stream_opened")
    assert await pair.server.read(stream_id, 3) == b"abc"
    await pair.client.write(stream_id, b"def")
    assert await pair.server.read(stream_id, 100) == b"def"
    told = len(pair.server.of("stream_readable", stream_id))
    await pair.client.write(stream_id, b"ghi")
    await pair.server.until(lambda: len(pair.server.of("stream_readable", stream_id)) == told + 1)
    assert await pair.server.read(stream_id, 100) == b"ghi"


async def test_readable_is_told_once_for_each_read_that_found_nothing(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id, True)
    await pair.server.next("stream_opened")
    assert pair.server.connection.stream_read(stream_id, -1) == (b"", False)
    assert pair.server.connection.stream_read(stream_id, -1) == (b"", False)
    await pair.client.write(stream_id, payload(100_000), fin=True)
    received = await pair.server.read_all(stream_id)
    assert len(received) == 100_000
    nothing_found = len(pair.server.of("stream_readable", stream_id))
    assert pair.server.connection.stream_read(stream_id, -1) == (b"", True)
    assert len(pair.server.of("stream_readable", stream_id)) == nothing_found


async def test_early_streams_wait_for_their_session(connect: Connect) -> None:
    pair = await connect()
    client = pair.client
    session_id = client.connection.open_session(authority="localhost", path="/", headers={})
    (request,) = await pair.server.next("session_requested")
    pair.server.connection.accept_session(request.session_id)
    server_stream = await pair.server.open(session_id, True)
    await pair.server.write(server_stream, b"with the answer", fin=True)
    await client.next("session_established")
    await client.next("stream_opened")
    assert await client.read_all(server_stream) == b"with the answer"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("code", CODES)
async def test_reset_carries_its_code(connect: Connect, end: str, code: int) -> None:
    pair = await connect()
    session_id = await pair.session()
    sender, receiver = pair.end(end), pair.end(other(end))
    stream_id = await sender.open(session_id)
    await sender.write(stream_id, b"half of it")
    await receiver.next("stream_opened")
    sender.connection.stream_reset(stream_id, code)
    assert await receiver.next("stream_reset") == (stream_id, code)
    assert receiver.connection.stream_read(stream_id, -1) == (b"", True)
    with pytest.raises(StreamFinished):
        sender.connection.stream_write(stream_id, b"more", False)
    await receiver.write(stream_id, b"the other half lives", fin=True)
    assert await sender.read_all(stream_id) == b"the other half lives"


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("code", CODES)
async def test_stop_carries_its_code(connect: Connect, end: str, code: int) -> None:
    pair = await connect()
    session_id = await pair.session()
    sender, receiver = pair.end(end), pair.end(other(end))
    stream_id = await sender.open(session_id, True)
    await sender.write(stream_id, b"x" * 100)
    await receiver.next("stream_opened")
    receiver.connection.stream_stop(stream_id, code)
    assert await sender.next("stream_stopped") == (stream_id, code)
    with pytest.raises(StreamFinished):
        sender.connection.stream_write(stream_id, b"more", False)
    assert receiver.connection.stream_read(stream_id, -1) == (b"", True)


async def test_stop_wakes_a_blocked_writer(connect: Connect) -> None:
    pair = await connect(max_stream_buffer_size=65536)
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id, True)
    while pair.client.connection.stream_write(stream_id, bytes(65536), False):
        pass
    await pair.server.next("stream_opened")
    pair.server.connection.stream_stop(stream_id, 9)
    assert await pair.client.next("stream_stopped") == (stream_id, 9)


async def test_finished_stream_takes_nothing_more(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    await pair.client.write(stream_id, b"", fin=True)
    for write in (
        lambda: pair.client.connection.stream_write(stream_id, b"x", False),
        lambda: pair.client.connection.stream_write(stream_id, b"", True),
        lambda: pair.client.connection.stream_reset(stream_id, 1),
    ):
        with pytest.raises(StreamFinished):
            write()
    with pytest.raises(StreamFinished):
        pair.client.connection.stream_write(4000, b"unknown", False)


async def test_hundred_streams_at_once(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                _, stream_id = await pair.server.next("stream_opened")
                group.create_task(echo(stream_id))

    async def echo(stream_id: int) -> None:
        await pair.server.write(stream_id, await pair.server.read_all(stream_id), fin=True)

    async def ask(seed: int) -> None:
        data = payload(10_000, seed)
        stream_id = await pair.client.open(session_id)
        await pair.client.write(stream_id, data, fin=True)
        assert await pair.client.read_all(stream_id) == data

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        for seed in range(100):
            group.create_task(ask(seed))


async def test_streams_one_after_the_other_are_not_limited(connect: Connect) -> None:
    pair = await connect(quic_max_concurrent_bidi_streams=10, quic_max_concurrent_uni_streams=10)
    session_id = await pair.session()
    for number in range(60):
        stream_id = await pair.client.open(session_id, True)
        await pair.client.write(stream_id, str(number).encode(), fin=True)
        await pair.server.next("stream_opened")
        assert await pair.server.read_all(stream_id) == str(number).encode()


@KINDS
async def test_stream_limit_holds_until_the_application_is_done(
    connect: Connect, unidirectional: bool
) -> None:
    pair = await connect(quic_max_concurrent_bidi_streams=10, quic_max_concurrent_uni_streams=10)
    session_id = await pair.session()
    opened = []
    while (stream_id := pair.client.connection.open_stream(session_id, unidirectional)) is not None:
        await pair.client.write(stream_id, b"x", fin=True)
        opened.append(stream_id)
    assert 10 <= len(opened) <= 40
    assert pair.client.connection.open_stream(session_id, unidirectional) is None
    for stream_id in opened:
        await pair.server.next("stream_opened")
        assert await pair.server.read_all(stream_id) == b"x"
        if not unidirectional:
            await pair.server.write(stream_id, b"", fin=True)
            assert await pair.client.read_all(stream_id) == b""
    assert await pair.client.next("streams_available") == (session_id, unidirectional)
    assert pair.client.connection.open_stream(session_id, unidirectional) is not None


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("flow_control", [{}, FLOW_CONTROL], ids=["quic", "session"])
async def test_big_transfer_arrives_unchanged(
    connect: Connect, end: str, flow_control: dict[str, int]
) -> None:
    pair = await connect(**flow_control)
    session_id = await pair.session()
    sender, receiver = pair.end(end), pair.end(other(end))
    data = payload(8 << 20)
    stream_id = await sender.open(session_id, True)
    writing = asyncio.create_task(sender.write(stream_id, data, fin=True))
    await receiver.next("stream_opened")
    digest = hashlib.sha256()
    while part := await receiver.read(stream_id):
        digest.update(part)
    await writing
    assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("end", ENDS)
async def test_reader_that_stops_stops_the_writer(connect: Connect, end: str) -> None:
    pair = await connect(max_stream_buffer_size=65536, quic_stream_receive_window=131072)
    session_id = await pair.session()
    sender, receiver = pair.end(end), pair.end(other(end))
    stream_id = await sender.open(session_id, True)
    data = payload(4 << 20)
    sent = 0
    # What is written beyond the buffer of this end and the window of the other is not taken.
    while sent < len(data):
        taken = sender.connection.stream_write(stream_id, data[sent : sent + 50_000], False)
        sent += taken
        if not taken:
            try:
                async with asyncio.timeout(0.5):
                    await sender.next("stream_writable", stream_id)
            except TimeoutError:
                break
    # The stream's header is under the window too.
    assert 131072 - 16 <= sent <= 65536 + 3 * 131072
    await receiver.next("stream_opened")
    # Another stream is not held up by it.
    second = await sender.open(session_id, True)
    await sender.write(second, b"passes", fin=True)
    await receiver.next("stream_opened")
    assert await receiver.read_all(second) == b"passes"
    # Reading lets it go on to the end.
    reading = asyncio.create_task(receiver.read_all(stream_id))
    await sender.next("stream_writable", stream_id)
    await sender.write(stream_id, data[sent:], fin=True)
    assert await reading == data


async def test_session_credit_blocks_and_comes_back(connect: Connect) -> None:
    pair = await connect(
        initial_max_data=20_000, initial_max_streams_bidi=10, initial_max_streams_uni=10
    )
    session_id = await pair.session()
    data = payload(200_000)
    stream_id = await pair.client.open(session_id, True)
    assert pair.client.connection.stream_write(stream_id, data, False) == 20_000
    await pair.server.next("stream_opened")
    reading = asyncio.create_task(pair.server.read_all(stream_id))
    await pair.client.next("stream_writable", stream_id)
    await pair.client.write(stream_id, data[20_000:], fin=True)
    assert await reading == data


async def test_session_stream_limit_blocks_and_comes_back(connect: Connect) -> None:
    pair = await connect(
        initial_max_data=1 << 20, initial_max_streams_bidi=2, initial_max_streams_uni=3
    )
    session_id = await pair.session()
    for _ in range(3):
        stream_id = await pair.client.open(session_id, True)
        await pair.client.write(stream_id, b"x", fin=True)
    assert pair.client.connection.open_stream(session_id, True) is None
    for _ in range(3):
        _, stream_id = await pair.server.next("stream_opened")
        assert await pair.server.read_all(stream_id) == b"x"
    assert await pair.client.next("streams_available") == (session_id, True)
    assert pair.client.connection.open_stream(session_id, True) is not None


async def test_reset_right_after_opening_reaches_the_session(connect: Connect) -> None:
    pair = await connect()
    session_id = await pair.session()
    for code in range(20):
        stream_id = await pair.client.open(session_id, True)
        pair.client.connection.stream_write(stream_id, b"x", False)
        pair.client.connection.stream_reset(stream_id, code)
        assert await pair.server.next("stream_opened") == (session_id, stream_id)
        # What the reset left comes first, for those who wait for it.
        assert pair.server.connection.stream_read(stream_id, 10)[0] in (b"x", b"")
        assert await pair.server.next("stream_reset") == (stream_id, code)


@pytest.mark.parametrize(
    "windows",
    [
        {"quic_stream_receive_window": 65536, "quic_receive_window": 131072},
        {"initial_max_data": 131072, "initial_max_streams_uni": 8},
    ],
    ids=["quic", "session"],
)
async def test_credit_of_dropped_data_comes_back(connect: Connect, windows: dict[str, int]) -> None:
    """Streams that are reset or stopped with unread data do not use up the connection."""
    pair = await connect(**windows)
    session_id = await pair.session()
    for round_number in range(60):
        stream_id = await pair.client.open(session_id, True)
        await pair.client.write(stream_id, bytes(40_000))
        await pair.server.next("stream_opened")
        assert await pair.server.read(stream_id, 1)
        if round_number % 2:
            pair.client.connection.stream_reset(stream_id, 1)
            await pair.server.next("stream_reset", stream_id)
        else:
            pair.server.connection.stream_stop(stream_id, 1)
            await pair.client.next("stream_stopped", stream_id)
