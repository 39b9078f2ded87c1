"""Stream handlers that are plain functions: called with the whole message, without a task."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pywebtransport import ServerApp
from pywebtransport.exceptions import StreamResetError
from tests.support.certificate import Certificate

from .place import Place, until

PATIENCE = 10.0


async def ask(session: Any, question: bytes) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write(question, end_stream=True)
    async with asyncio.timeout(PATIENCE):
        return await stream.read_all()


async def test_what_it_returns_is_the_answer(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place:
        tasks: list[object] = []

        @place.app.stream_route("/")
        def answer(stream: Any, data: bytes) -> Any:
            tasks.append(asyncio.current_task())
            return {b"text": "é", b"nothing": None, b"large": memoryview(bytes(3_000_000))}.get(
                data, data.upper() + stream.session.path.encode()
            )

        session = await place.connect()
        assert await ask(session, b"hello") == b"HELLO/"
        assert await ask(session, b"") == b"/"
        assert await ask(session, b"text") == "é".encode()
        assert await ask(session, b"nothing") == b""
        assert await ask(session, b"large") == bytes(3_000_000)
        assert tasks == [None] * 5
        answers = await asyncio.gather(*(ask(session, b"%d" % n) for n in range(50)))
        assert answers == [b"%d/" % n for n in range(50)]


async def test_it_waits_for_the_whole_and_keeps_nobody_waiting(
    engine: str, certificate: Certificate
) -> None:
    seen: list[bytes] = []

    def answer(stream: Any, data: bytes) -> bytes:
        seen.append(data)
        return b"%d" % len(data)

    place = Place(engine, certificate)
    place.app = ServerApp(config=place.server_config(), stream_handler=answer)
    async with place:
        session = await place.connect("/any")
        slow = await session.create_bidirectional_stream()
        for part in range(5):
            await slow.write(bytes([part]) * 1000)
            assert await ask(session, b"quick") == b"5"
        assert seen == [b"quick"] * 5
        await slow.write(b"end", end_stream=True)
        async with asyncio.timeout(PATIENCE):
            assert await slow.read_all() == b"5003"
        one_way = await session.create_unidirectional_stream()
        await one_way.write_all(b"fire and forget")
        await until(lambda: b"fire and forget" in seen)


async def test_its_failure_ends_its_stream_and_no_other(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(stream: Any, data: bytes) -> Any:
        if data == b"raise":
            raise RuntimeError("on purpose")
        return 5 if data == b"wrong" else data

    place = Place(engine, certificate)
    place.app = ServerApp(config=place.server_config(), stream_handler=answer)
    async with place:
        session = await place.connect()
        with caplog.at_level(logging.ERROR):
            for question in (b"raise", b"wrong"):
                with pytest.raises(StreamResetError) as caught:
                    await ask(session, question)
                assert caught.value.error_code == 1
            one_way = await session.create_unidirectional_stream()
            await one_way.write_all(b"an answer to this has no way back")
            await until(lambda: "one-way" in caplog.text)
        assert "on purpose" in caplog.text
        assert "bytes-like or str, not int" in caplog.text
        assert await ask(session, b"next") == b"next"
        assert session.is_ready


async def test_more_than_the_limit_is_refused(engine: str, certificate: Certificate) -> None:
    called: list[int] = []
    async with Place(engine, certificate) as place:

        @place.app.stream_route("/", max_size=1000)
        def answer(stream: Any, data: bytes) -> bytes:
            called.append(len(data))
            return b"taken"

        session = await place.connect()
        assert await ask(session, bytes(1000)) == b"taken"
        with pytest.raises(StreamResetError) as caught:
            await ask(session, bytes(1001))
        assert caught.value.error_code == 1
        endless = await session.create_bidirectional_stream()
        await endless.write(bytes(5000))
        with pytest.raises(StreamResetError):
            async with asyncio.timeout(PATIENCE):
                await endless.read()
        assert await ask(session, b"next") == b"taken"
        assert called == [1000, 4]


async def test_silence_and_the_end_of_the_session_end_it(
    engine: str, certificate: Certificate
) -> None:
    called: list[bytes] = []
    async with Place(engine, certificate, read_timeout=0.2) as place:

        @place.app.stream_route("/")
        def answer(stream: Any, data: bytes) -> bytes:
            called.append(data)
            return data

        session = await place.connect()
        silent = await session.create_bidirectional_stream()
        await silent.write(b"half")
        with pytest.raises(StreamResetError) as caught:
            async with asyncio.timeout(PATIENCE):
                await silent.read()
        assert caught.value.error_code == 1
        cut = await session.create_bidirectional_stream()
        await cut.write(b"half")
        assert await ask(session, b"whole") == b"whole"
        await session.close()
        again = await place.connect()
        assert await ask(again, b"next") == b"next"
        assert called == [b"whole", b"next"]


def test_one_that_fits_neither_way_is_refused_at_once(certificate: Certificate) -> None:
    async def both(stream: Any, data: bytes) -> None: ...
    def neither(stream: Any) -> None: ...

    place = Place("native", certificate)
    for wrong in (both, neither):
        with pytest.raises(TypeError, match="`async def`"):
            place.app.stream_route("/")(wrong)
