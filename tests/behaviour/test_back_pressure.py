"""A reader that stops reading stops the sender, within one window; a write takes any size."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport.exceptions import TimeoutError
from pywebtransport.session import WebTransportSession

from .conftest import MakeSite
from .site import ENDS, at_rest, blocked, within

KIB = 1024
STREAM_WINDOW = 256 * KIB
CONNECTION_WINDOW = 512 * KIB
SEND_WINDOW = 128 * KIB
HEADER = 16
"""The most a stream's header takes of its window."""
WINDOWS = {
    "quic_stream_receive_window": STREAM_WINDOW,
    "quic_receive_window": CONNECTION_WINDOW,
    "quic_send_window": SEND_WINDOW,
}


async def write_blocks(stream: Any, digest: Any, count: int) -> None:
    noise = random.Random(count)
    for _ in range(count):
        block = noise.randbytes(64 * KIB)
        digest.update(block)
        await stream.write(data=block)
    await stream.close()


@pytest.mark.parametrize("writer", ENDS)
@pytest.mark.parametrize("opener", ENDS)
async def test_idle_reader_stops_the_sender_in_one_window(
    site: MakeSite, engine: str, opener: str, writer: str
) -> None:
    pair = await (await site(**WINDOWS)).pair()
    near, far = await pair.stream(opener)
    source, drain = (near, far) if writer == opener else (far, near)
    digest = hashlib.sha256()
    task = await blocked(write_blocks(source, digest, 64))
    taken = await at_rest(lambda: source.diagnostics.stats.bytes_sent)
    print(f"{engine}: {writer} stopped after {taken // KIB} KiB, window {STREAM_WINDOW // KIB} KiB")
    assert STREAM_WINDOW - HEADER <= taken <= STREAM_WINDOW + SEND_WINDOW + 64 * KIB
    assert not task.done()
    assert drain.diagnostics.read_buffer_size == 0, "unread data stays below"
    data = await within(drain.read_all())
    await within(task)
    assert hashlib.sha256(data).digest() == digest.digest()


@pytest.mark.parametrize("writer", ENDS)
async def test_idle_readers_of_many_streams_stop_in_the_connection_window(
    site: MakeSite, engine: str, writer: str
) -> None:
    pair = await (await site(**WINDOWS)).pair()
    streams = [await pair.end(writer).create_unidirectional_stream() for _ in range(8)]
    digests = [hashlib.sha256() for _ in streams]
    tasks = [
        asyncio.ensure_future(write_blocks(stream, digest, 8))
        for stream, digest in zip(streams, digests, strict=True)
    ]

    def sent() -> int:
        return sum(stream.diagnostics.stats.bytes_sent for stream in streams)

    taken = await at_rest(sent)
    print(f"{engine}: 8 streams of {writer} stopped after {taken // KIB} KiB together")
    assert taken <= CONNECTION_WINDOW + SEND_WINDOW + 8 * 64 * KIB
    assert not any(task.done() for task in tasks)
    arrived = [await within(pair.other(writer).accept_unidirectional_stream()) for _ in streams]
    found = await within(asyncio.gather(*(stream.read_all() for stream in arrived)))
    await within(asyncio.gather(*tasks))
    assert {hashlib.sha256(data).digest() for data in found} == {d.digest() for d in digests}


@pytest.mark.parametrize("writer", ENDS)
async def test_stream_that_nobody_reads_stops_no_other(site: MakeSite, writer: str) -> None:
    """What waits for a stream's credit takes no room from streams that have some."""
    windows = WINDOWS | {"quic_stream_receive_window": 16 * KIB}
    pair = await (await site(**windows)).pair()
    stuck = [await pair.stream(writer) for _ in range(8)]
    tasks = [await blocked(near.write(data=bytes(SEND_WINDOW))) for near, _ in stuck]
    await at_rest(lambda: sum(near.diagnostics.stats.bytes_sent for near, _ in stuck))
    near, far = await pair.stream(writer)
    data = random.Random(2).randbytes(2 * SEND_WINDOW)
    task = asyncio.ensure_future(near.write(data=data, end_stream=True))
    assert await within(far.read_all()) == data
    await within(task)
    assert not any(task.done() for task in tasks)
    for stream, _ in stuck:
        await stream.reset()
    await within(asyncio.wait(tasks))


@pytest.mark.parametrize("writer", ENDS)
async def test_session_window_stops_the_sender(site: MakeSite, engine: str, writer: str) -> None:
    """WebTransport's own flow control (webtrans-http3-16 §5.3), far below QUIC's windows."""
    window = 64 * KIB
    options = {
        "initial_max_data": window,
        "initial_max_streams_bidi": 10,
        "initial_max_streams_uni": 10,
        "flow_control_window_size": window,
        "flow_control_window_auto_scale": False,
    }
    pair = await (await site(**options)).pair()
    near, far = await pair.stream(writer)
    digest = hashlib.sha256()
    task = await blocked(write_blocks(near, digest, 16))
    taken = await at_rest(lambda: near.diagnostics.stats.bytes_sent)
    print(f"{engine}: {writer} stopped after {taken} bytes, session window {window}")
    assert taken <= window
    assert (await pair.end(writer).diagnostics()).send_credit_available == 0
    info = pair.end(writer).connection.get_session_info(session_id=pair.end(writer).session_id)
    assert (info.peer_max_data, info.local_data_sent) == (window, window)
    data = await within(far.read_all())
    await within(task)
    assert hashlib.sha256(data).digest() == digest.digest()
    # Credit that was earned leaves at the end of the turn.
    other = pair.other(writer)
    await at_rest(lambda: other.connection.get_session_info(session_id=other.session_id))
    receiving = await other.diagnostics()
    assert window // 2 <= receiving.receive_credit_available <= window
    info = other.connection.get_session_info(session_id=other.session_id)
    assert info.peer_data_sent == len(data) + 1
    assert info.local_max_data - info.peer_data_sent == receiving.receive_credit_available
    # A stream for which nobody has asked is allowed and not used.
    assert (info.local_max_streams_uni, info.peer_streams_uni_opened) == (10, 0)


async def test_slow_reader_gets_credit_as_it_reads(site: MakeSite) -> None:
    """The sender is never further ahead than the windows allow."""
    pair = await (await site(**WINDOWS)).pair()
    near, far = await pair.stream()
    digest, found = hashlib.sha256(), hashlib.sha256()
    task = asyncio.ensure_future(write_blocks(near, digest, 40))
    read = 0
    while data := await within(far.read(size=16 * KIB)):
        found.update(data)
        read += len(data)
        ahead = near.diagnostics.stats.bytes_sent - read
        assert ahead <= STREAM_WINDOW + SEND_WINDOW + 64 * KIB
    await within(task)
    assert found.digest() == digest.digest()


async def test_write_that_makes_progress_does_not_time_out(site: MakeSite) -> None:
    """``write_timeout`` is about credit that does not come, not about large writes."""
    pair = await (await site(write_timeout=0.5, **WINDOWS)).pair()
    near, far = await pair.stream()
    data = bytes(1024 * KIB)
    loop = asyncio.get_running_loop()
    started = loop.time()
    task = await blocked(near.write(data=data, end_stream=True))
    left = len(data)
    while left:
        await asyncio.sleep(0.1)
        left -= len(await within(far.readexactly(n=min(left, 64 * KIB))))
    await within(task)
    print(f"written whole in {loop.time() - started:.1f} s")
    assert loop.time() - started > 1.5


async def test_write_times_out_without_credit_and_the_rest_still_goes(site: MakeSite) -> None:
    pair = await (await site(write_timeout=0.3, **WINDOWS)).pair()
    near, far = await pair.stream()
    data = random.Random(1).randbytes(1024 * KIB)
    with pytest.raises(TimeoutError, match=r"write_timeout=0\.3") as caught:
        await within(near.write(data=data, end_stream=True))
    assert caught.value.operation == "write"
    assert await within(far.read_all()) == data


KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "strided": lambda data: memoryview(bytes(byte for pair in data for byte in (pair, 0)))[::2],
    "words": lambda data: memoryview(data + bytes(-len(data) % 4)).cast("I"),
    "str": lambda data: data.hex(),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_and_size_of_data(site: MakeSite, kind: str) -> None:
    pair = await (await site()).pair()
    noise = random.Random(kind)
    for size in (0, 1, 7, 1199, 65_536, 3_000_001):
        data = KINDS[kind](noise.randbytes(size))
        expected = data.encode() if isinstance(data, str) else bytes(data)
        near = await pair.client.create_unidirectional_stream()
        task = asyncio.ensure_future(near.write(data=data, end_stream=True))
        far = await within(pair.server.accept_unidirectional_stream())
        assert await within(far.read_all()) == expected
        await within(task)


async def test_what_is_no_data_is_refused_before_anything_is_sent(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    for wrong in (None, 5, ["x"], object()):
        with pytest.raises(TypeError, match="bytes-like or str"):
            await near.write(data=wrong)  # type: ignore[arg-type]
    await near.write(data="still usable", end_stream=True)
    assert await within(far.read_all()) == b"still usable"


async def test_writes_of_several_tasks_stay_whole(site: MakeSite) -> None:
    pair = await (await site(**WINDOWS)).pair()
    near, far = await pair.stream()
    size = 200 * KIB
    tasks = [asyncio.ensure_future(near.write(data=bytes([n]) * size)) for n in range(8)]
    for number in range(8):
        assert await within(far.readexactly(n=size)) == bytes([number]) * size
    await within(asyncio.gather(*tasks))


async def test_unflushed_writes_are_bounded(site: MakeSite, engine: str) -> None:
    limit = 128 * KIB
    options = {"max_stream_buffer_size": limit, "stream_buffer_size": 64 * KIB}
    pair = await (await site(**options, **WINDOWS)).pair()
    near, far = await pair.stream()
    total = 0

    async def pour() -> None:
        nonlocal total
        while True:
            await near.write(data=bytes(16 * KIB), wait_flush=False)
            total += 16 * KIB

    task = asyncio.ensure_future(pour())
    await at_rest(lambda: total)
    kept = near.diagnostics.write_buffer_size
    print(f"{engine}: wait_flush=False took {total // KIB} KiB, {kept // KIB} KiB of it buffered")
    assert kept <= limit + 16 * KIB
    task.cancel()
    await asyncio.wait([task])
    await near.reset()
    await far.stop_receiving()


async def test_unaccepted_streams_stop_the_opener(site: MakeSite, engine: str) -> None:
    """A peer that never accepts: streams and their data are bounded too."""
    limits = {"quic_max_concurrent_uni_streams": 8}
    pair = await (await site(server=limits, client={"max_streams": 1000}, **WINDOWS)).pair()

    async def pour(session: WebTransportSession) -> None:
        while True:
            stream = await session.create_unidirectional_stream()
            await stream.write(data=b"x", end_stream=True)

    task = asyncio.ensure_future(pour(pair.client))
    stats = (await pair.client.diagnostics()).stats
    opened = await at_rest(lambda: stats.unidirectional_streams)
    print(f"{engine}: {opened} streams opened to a peer that accepts none")
    assert 8 <= opened <= 8 + 16
    for _ in range(100):
        stream = await within(pair.server.accept_unidirectional_stream())
        assert await within(stream.read_all()) == b"x"
    task.cancel()
    await asyncio.wait([task])
