"""Ordinary HTTP requests byte by byte, on every engine: RFC 9114 §4.1, §7, §8."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pywebtransport._link.link import Link
from pywebtransport.exceptions import RequestError
from pywebtransport.server import HttpRequest
from tests.support import raw_http3 as h3

from .bench import (
    CANCELLED,
    DATAGRAM_ERROR,
    FRAME,
    GREASE,
    INCOMPLETE,
    MESSAGE,
    NO_ERROR,
    UNEXPECTED,
    Bench,
    Talk,
)

Fields = list[tuple[str | bytes, str | bytes]]
GET: Fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
POST: Fields = [(":method", "POST"), *GET[1:]]
TRAILERS = h3.headers_frame([("x-sum", "1")])


def data(payload: bytes) -> bytes:
    return h3.frame(h3.DATA, payload)


class Echo:
    """Answers with the body; how requests ended that were given up."""

    def __init__(self) -> None:
        self.errors: asyncio.Queue[int] = asyncio.Queue()
        self.paths: list[str] = []

    async def __call__(self, request: HttpRequest) -> None:
        self.paths.append(request.path)
        try:
            body = await request.read_all()
        except RequestError as error:
            self.errors.put_nowait(error.error_code)
            return
        await request.respond(200, {"x-method": request.method})
        await request.write(body)
        await request.end(request.trailers)

    async def error(self) -> int:
        async with asyncio.timeout(5):
            return await self.errors.get()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def talk(bench: Bench, echo: Echo) -> AsyncIterator[Talk]:
    await bench.serve(request_handler=echo)
    async with bench.client() as talk:
        yield talk


async def answer(talk: Talk, stream: int) -> list[h3.Frame]:
    """The frames of a response that has its end."""
    await talk.until(lambda: talk.peer.streams[stream].is_ended)
    seen = talk.peer.streams[stream]
    assert seen.fin, seen.reset
    return h3.split_frames(bytes(seen.data))


async def echoed(talk: Talk, stream: int, body: bytes) -> None:
    head, *rest = await answer(talk, stream)
    assert h3.read_fields(head.payload) == [(":status", "200"), ("x-method", "POST")]
    assert {frame.type for frame in rest} <= {h3.DATA}
    assert b"".join(frame.payload for frame in rest) == body


async def test_a_response_is_headers_then_data(talk: Talk) -> None:
    stream = talk.bidi(h3.headers_frame(POST) + data(b"one ") + data(b"two"), fin=True)
    frames = await answer(talk, stream)
    assert [frame.type for frame in frames] == [h3.HEADERS, h3.DATA]
    assert frames[1].payload == b"one two"


async def test_trailers_follow_the_body(talk: Talk) -> None:
    stream = talk.bidi(h3.headers_frame(POST) + data(b"x") + TRAILERS, fin=True)
    frames = await answer(talk, stream)
    assert [frame.type for frame in frames] == [h3.HEADERS, h3.DATA, h3.HEADERS]
    assert h3.read_fields(frames[2].payload) == [("x-sum", "1")]


async def test_a_response_without_a_body_is_headers_alone(talk: Talk) -> None:
    frames = await answer(talk, talk.bidi(h3.headers_frame(GET), fin=True))
    assert [frame.type for frame in frames] == [h3.HEADERS]


async def test_each_byte_in_a_packet_of_its_own(talk: Talk) -> None:
    stream = talk.peer.open()
    talk.dribble(stream, h3.headers_frame(POST) + data(b"body") + data(b"") + TRAILERS, fin=True)
    frames = await answer(talk, stream)
    assert frames[1].payload == b"body"


async def test_frames_of_unknown_types_are_skipped(talk: Talk) -> None:
    unknown = h3.frame(GREASE, b"nothing") + h3.frame(0x21, b"")
    bytes_ = unknown + h3.headers_frame(POST) + unknown + data(b"a") + unknown + data(b"b")
    await echoed(talk, talk.bidi(bytes_ + unknown, fin=True), b"ab")


async def test_lengths_in_their_longest_form(talk: Talk) -> None:
    head = h3.headers_frame(POST)
    long_data = b"\xc0" + bytes(7) + (3 | 3 << 62).to_bytes(8) + b"abc"
    await echoed(talk, talk.bidi(head + long_data, fin=True), b"abc")


async def test_a_large_body_in_one_frame_and_in_thousands(talk: Talk) -> None:
    body = bytes(range(256)) * 1000
    await echoed(talk, talk.bidi(h3.headers_frame(POST) + data(body), fin=True), body)
    pieces = b"".join(data(body[at : at + 100]) for at in range(0, len(body), 100))
    await echoed(talk, talk.bidi(h3.headers_frame(POST) + pieces, fin=True), body)


@pytest.mark.parametrize(
    "bytes_",
    [
        data(b"x"),
        h3.headers_frame(POST) + TRAILERS + data(b"x"),
        h3.headers_frame(POST) + TRAILERS + TRAILERS,
        h3.headers_frame(POST) + h3.frame(h3.SETTINGS, b""),
        h3.headers_frame(POST) + h3.frame(h3.GOAWAY, b"\0"),
        h3.headers_frame(POST) + h3.frame(h3.MAX_PUSH_ID, b"\0"),
        h3.headers_frame(POST) + h3.frame(h3.CANCEL_PUSH, b"\0"),
        h3.headers_frame(POST) + h3.frame(h3.PUSH_PROMISE, b"\0\0\0"),
        h3.headers_frame(POST) + h3.frame(0x02, b""),
    ],
    ids=[
        *("DATA", "late DATA", "trailers", "SETTINGS", "GOAWAY"),
        *("MAX_PUSH_ID", "CANCEL_PUSH", "PUSH_PROMISE", "HTTP/2"),
    ],
)
async def test_frames_that_may_not_come_end_the_connection(talk: Talk, bytes_: bytes) -> None:
    talk.bidi(bytes_)
    await talk.fails(UNEXPECTED)


async def test_an_end_inside_a_frame_ends_the_connection(talk: Talk) -> None:
    talk.bidi(h3.headers_frame(POST) + data(b"abc")[:-1], fin=True)
    await talk.fails(FRAME)


async def test_an_end_before_the_fields_ends_the_request(talk: Talk, echo: Echo) -> None:
    await talk.refuses(talk.bidi(h3.frame(GREASE, b"x"), fin=True), INCOMPLETE)
    assert echo.paths == []


@pytest.mark.parametrize(
    ("length", "frames"),
    [("3", [b"ab", b"cd"]), ("3", [b"ab"]), ("0", [b"a"]), ("1", [])],
    ids=["more", "less", "none", "nothing"],
)
async def test_content_length_is_kept(
    talk: Talk, echo: Echo, length: str, frames: list[bytes]
) -> None:
    head = h3.headers_frame([*POST, ("content-length", length)])
    await talk.refuses(talk.bidi(head + b"".join(map(data, frames)), fin=True), MESSAGE)
    assert await echo.error() == MESSAGE


async def test_a_reader_hears_of_a_fault_and_not_of_an_end(
    talk: Talk, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it reads before it has been told."""
    reads: list[tuple[bytes, bool]] = []
    tell = Link.request_received

    def received(link: Link, stream_id: int, *head: Any) -> None:
        tell(link, stream_id, *head)
        reads.append(link.engine.stream_read(stream_id, 10))

    monkeypatch.setattr(Link, "request_received", received)
    head = h3.headers_frame([*POST, ("content-length", "3")])
    await talk.refuses(talk.bidi(head + data(b"ab") + data(b"cd"), fin=True), MESSAGE)
    assert await echo.error() == MESSAGE
    assert reads == [(b"", False)]


async def test_more_than_content_length_is_known_by_the_frame(talk: Talk, echo: Echo) -> None:
    head = h3.headers_frame([*POST, ("content-length", "3")])
    await talk.refuses(talk.bidi(head + data(bytes(50))[:2]), MESSAGE)
    assert await echo.error() == MESSAGE


async def test_malformed_trailers(talk: Talk, echo: Echo) -> None:
    bad = h3.headers_frame([(":path", "/")])
    await talk.refuses(talk.bidi(h3.headers_frame(POST) + bad), MESSAGE)
    assert await echo.error() == MESSAGE


@pytest.mark.parametrize("how", ["reset", "stop", "both"])
async def test_a_client_gives_up(talk: Talk, echo: Echo, how: str) -> None:
    stream = talk.bidi(h3.headers_frame(POST) + data(b"x"))
    await talk.until(lambda: echo.paths)
    if how != "stop":
        talk.peer.reset(stream, CANCELLED)
    if how != "reset":
        talk.peer.stop(stream, CANCELLED)
    assert await echo.error() == CANCELLED
    await talk.refuses(stream, CANCELLED)
    await echoed(talk, talk.bidi(h3.headers_frame(POST) + data(b"y"), fin=True), b"y")


async def test_a_request_that_came_with_its_reset(talk: Talk, echo: Echo) -> None:
    for _ in range(20):
        stream = talk.bidi(h3.headers_frame(POST))
        talk.peer.reset(stream, CANCELLED)
    await talk.lives()
    await echoed(talk, talk.bidi(h3.headers_frame(POST), fin=True), b"")


async def test_datagrams_are_for_sessions(talk: Talk, echo: Echo) -> None:
    stream = talk.bidi(h3.headers_frame(POST))
    await talk.until(lambda: echo.paths)
    talk.peer.datagram(h3.datagram(stream, b"x"))
    assert await echo.error() == DATAGRAM_ERROR
    await talk.refuses(stream, DATAGRAM_ERROR)


async def test_the_rest_of_a_body_that_nobody_wants_is_stopped(bench: Bench) -> None:
    async def refuse(request: HttpRequest) -> None:
        await request.respond(413, end=True)

    await bench.serve(request_handler=refuse)
    async with bench.client() as talk:
        stream = talk.bidi(h3.headers_frame(POST) + data(b"x"))
        (frame,) = await answer(talk, stream)
        assert h3.read_fields(frame.payload) == [(":status", "413")]
        await talk.until(lambda: talk.peer.streams[stream].stopped is not None)
        assert talk.peer.streams[stream].stopped == NO_ERROR
        await talk.lives()


async def test_requests_do_not_wait_for_settings(bench: Bench, echo: Echo) -> None:
    await bench.serve(request_handler=echo)
    async with bench.stranger() as talk:
        await echoed(talk, talk.bidi(h3.headers_frame(POST) + data(b"x"), fin=True), b"x")


async def test_a_session_and_requests_side_by_side(talk: Talk) -> None:
    session = await talk.session()
    await talk.echoes(session)
    await echoed(talk, talk.bidi(h3.headers_frame(POST) + data(b"x"), fin=True), b"x")
    await talk.echoes(session)
