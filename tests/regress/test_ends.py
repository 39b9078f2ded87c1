"""What had arrived before a session ended is delivered; then the end, in words that differ."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport.exceptions import (
    ConnectionLostError,
    DatagramError,
    DatagramLostError,
    DatagramSessionClosedError,
    SessionClosedError,
    SessionLostError,
    StreamError,
    StreamLostError,
    StreamResetError,
    StreamSessionClosedError,
)
from pywebtransport.serializer import JSONSerializer
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream, WebTransportStream
from tests.faults.relay import Path, relay_to
from tests.support.certificate import Certificate

from .place import Place

PAYLOAD = bytes(range(256)) * 800

Handler = Callable[[WebTransportSession], Awaitable[None]]


def place_with(handler: Handler, engine: str, certificate: Certificate, **options: Any) -> Place:
    place = Place(engine, certificate, **options)
    place.app.route(path="/")(handler)
    return place


async def ended(session: WebTransportSession) -> None:
    async with asyncio.timeout(10):
        await session.wait_closed()


async def test_whole_stream_is_read_after_the_handler_returned(
    engine: str, certificate: Certificate
) -> None:
    async def handler(session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        await stream.read_all()
        await stream.write_all(data=PAYLOAD)

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"?")
        await ended(session)
        assert await stream.read_all() == PAYLOAD
        assert await stream.read() == b""


async def test_half_written_stream_of_a_returning_handler_has_its_end(
    engine: str, certificate: Certificate
) -> None:
    async def handler(session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        await stream.write(data=b"bye")

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"?")
        async with asyncio.timeout(10):
            assert await stream.read_all() == b"bye"


async def test_what_the_peer_reads_slowly_is_flushed(engine: str, certificate: Certificate) -> None:
    """More than the windows take at once: the handler returns long before it has gone."""
    data = bytes(range(256)) * 20_000

    async def handler(session: WebTransportSession) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write(data=data, wait_flush=False)

    async with place_with(handler, engine, certificate, max_stream_buffer_size=1 << 24) as place:
        session = await place.connect()
        stream = await session.accept_unidirectional_stream()
        await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            assert await stream.read_all() == data


async def test_streams_nobody_accepted_yet_are_yielded(
    engine: str, certificate: Certificate
) -> None:
    async def handler(session: WebTransportSession) -> None:
        for number in range(5):
            stream = await session.create_unidirectional_stream()
            await stream.write_all(data=f"{number}".encode())
        await (await session.create_unidirectional_stream()).close()
        both = await session.create_bidirectional_stream()
        await both.write_all(data=b"both")

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        await ended(session)
        got = [await stream.read_all() async for stream in session.incoming_streams()]
        # Each kind in its order; between the kinds there is none.
        assert [data for data in got if data != b"both"] == [b"0", b"1", b"2", b"3", b"4", b""]
        assert b"both" in got
        with pytest.raises(SessionClosedError):
            await session.accept_unidirectional_stream()


async def test_streams_of_a_client_that_closes_are_accepted(
    engine: str, certificate: Certificate
) -> None:
    results: asyncio.Queue[list[bytes]] = asyncio.Queue()

    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()
        results.put_nowait(
            [await stream.read_all() async for stream in session.incoming_unidirectional_streams()]
        )

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        for number in range(3):
            stream = await session.create_unidirectional_stream()
            await stream.write_all(data=f"{number}".encode() * 1000)
        await session.close()
        async with asyncio.timeout(10):
            assert await results.get() == [b"0" * 1000, b"1" * 1000, b"2" * 1000]


async def test_datagrams_are_received_after_the_end(engine: str, certificate: Certificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        for number in range(20):
            await session.send_datagram(data=f"{number}".encode())

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        await ended(session)
        transport = await session.create_datagram_transport()
        got = [data async for data in transport]
        assert got == [f"{number}".encode() for number in range(20)]
        with pytest.raises(DatagramSessionClosedError) as caught:
            await transport.receive()
        assert caught.value.close_code == 0


async def test_all_datagrams_that_came_before_anybody_asked_are_there_after_the_end(
    engine: str, certificate: Certificate
) -> None:
    total = 500

    async def handler(session: WebTransportSession) -> None:
        for number in range(total):
            await session.send_datagram(b"%d" % number)

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        await ended(session)
        transport = await session.create_datagram_transport()
        received = [int(data) async for data in transport]
        assert (received, transport.stats().dropped_incoming) == (list(range(total)), 0)


async def test_a_returning_handler_is_flushed_for_close_timeout_and_no_longer(
    engine: str, certificate: Certificate
) -> None:
    """Of all its streams together, whatever ``write_timeout`` is."""
    returned: list[float] = []
    loop = asyncio.get_running_loop()

    async def handler(session: WebTransportSession) -> None:
        for _ in range(4):
            stream = await session.create_unidirectional_stream()
            with contextlib.suppress(asyncio.TimeoutError):
                async with asyncio.timeout(0.05):
                    await stream.write(bytes(30_000_000))
        returned.append(loop.time())

    options = {"close_timeout": 0.5, "write_timeout": None}
    async with place_with(handler, engine, certificate, **options) as place:
        session = await place.connect()
        await ended(session)
        assert loop.time() - returned[0] < 3.0, "four times write_timeout, which is none, is never"
        assert session.close_code == 0


async def test_receive_that_waits_gets_the_last_datagram(
    engine: str, certificate: Certificate
) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.send_datagram(data=b"last")

    async with place_with(handler, engine, certificate) as place:
        for _ in range(5):
            session = await place.connect()
            transport = await session.create_datagram_transport()
            assert await transport.receive(timeout=5) == b"last"


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_clean_end_is_quiet(engine: str, certificate: Certificate, closer: str) -> None:
    """Code 0, whichever side: chunks, lines and reads end as at the end of a file."""

    async def handler(session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        assert await stream.readline() == b"hello\n"
        if closer == "server":
            await session.close()
        assert [chunk async for chunk in stream] == []
        assert await stream.readline() == b""
        assert await stream.read() == b""
        with pytest.raises(StreamSessionClosedError):
            await stream.read_all()
        with pytest.raises(StreamSessionClosedError):
            await stream.write(data=b"x")
        done.set_result(None)

    async with place_with(handler, engine, certificate) as place:
        done = asyncio.get_running_loop().create_future()
        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"hello\n")
        lines = asyncio.ensure_future(stream.readline())
        await asyncio.sleep(0.1)
        if closer == "client":
            await session.close()
        async with asyncio.timeout(10):
            assert await lines == b""
            assert [chunk async for chunk in stream] == []
            await done
        assert (session.close_code, session.closed_by) == (
            0,
            "local" if closer == "client" else "remote",
        )


async def test_code_reset_and_loss_can_be_told_apart(engine: str, certificate: Certificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        match await stream.readline():
            case b"code\n":
                await session.close(code=7, reason="enough")
            case b"reset\n":
                await stream.reset(error_code=9)
                await session.wait_closed()

    async def failure(session: WebTransportSession, word: bytes) -> StreamError:
        stream = await session.create_bidirectional_stream()
        await stream.write(data=word)
        with pytest.raises(StreamError) as caught:
            async for _ in stream:
                pass
        return caught.value

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        error = await failure(session, b"code\n")
        assert type(error) is StreamSessionClosedError
        assert (error.close_code, error.close_reason, error.closed_by) == (7, "enough", "remote")
        assert (session.close_code, session.close_reason) == (7, "enough")
        session = await place.connect()
        error = await failure(session, b"reset\n")
        assert type(error) is StreamResetError
        assert error.error_code == 9


async def test_loss_is_an_error_of_its_own(engine: str, certificate: Certificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with (
        place_with(handler, engine, certificate, close_timeout=0.2) as place,
        relay_to(("127.0.0.1", place.port), Path()) as relay,
        place.client(connection_idle_timeout=1.0, keep_alive=False, close_timeout=0.2) as client,
    ):
        session = await client.connect(url=f"https://127.0.0.1:{relay.address[1]}/")
        stream = await session.create_bidirectional_stream()
        transport = await session.create_datagram_transport()
        await stream.write(data=b"x")
        relay.blackhole = True
        async with asyncio.timeout(20):
            with pytest.raises(StreamLostError) as caught:
                await stream.read()
        assert isinstance(caught.value, ConnectionLostError)
        with pytest.raises(DatagramLostError):
            await transport.receive()
        with pytest.raises(SessionLostError):
            await session.create_bidirectional_stream()
        assert session.closed_by == "transport"


async def test_session_that_ends_at_once_is_returned(engine: str, certificate: Certificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.close(code=42, reason="full")

    async with place_with(handler, engine, certificate) as place:
        for _ in range(5):
            session = await place.connect()
            await ended(session)
            end = session.close_code, session.close_reason, session.closed_by
            assert end == (42, "full", "remote")


@pytest.mark.parametrize("end", ["fin within", "reset", "code", "whole"])
async def test_structured_iteration_hides_nothing(
    engine: str, certificate: Certificate, end: str
) -> None:
    async def handler(session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        await stream.read()
        messages = structured(stream)
        await messages.send_obj(obj={"a": 1})
        await stream.flush()
        await asyncio.sleep(0.1)
        match end:
            case "fin within":
                await stream.write(data=b"\0\1\0\0", end_stream=True)
            case "reset":
                await stream.reset(error_code=9)
            case "code":
                await session.close(code=4)
            case "whole":
                await stream.close()
        await session.wait_closed()

    def structured(stream: WebTransportStream) -> StructuredStream:
        return StructuredStream(stream=stream, serializer=JSONSerializer(), registry={1: dict})

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"?")
        got = []
        try:
            async with asyncio.timeout(10):
                async for message in structured(stream):
                    got.append(message)
        except StreamError as error:
            assert end != "whole", error
        else:
            assert end == "whole"
        assert got == [{"a": 1}]


async def test_own_close_of_the_transport_ends_iteration(
    engine: str, certificate: Certificate
) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with place_with(handler, engine, certificate) as place:
        transport = await (await place.connect()).create_datagram_transport()

        async def collect() -> list[bytes]:
            return [data async for data in transport]

        waiting = asyncio.ensure_future(collect())
        await asyncio.sleep(0)
        await transport.close()
        assert await waiting == []
        with pytest.raises(DatagramError):
            await transport.receive()


async def test_answer_fields_are_there(engine: str, certificate: Certificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()

    async with place_with(handler, engine, certificate) as place:
        session = await place.connect()
        assert isinstance(session.response_headers, dict)
        assert (session.close_code, session.close_reason, session.closed_by) == (None, None, None)
