"""SES and VAR: the life and the end of a session."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import StreamResetError
from pywebtransport.session import WebTransportSession
from tests.support import raw_http3 as h3

from .bench import CANCELLED, GONE, Bench, Talk, case, long

CODES = [0, 29, 30, 255, 0xFFFF_FFFF]
OUTSIDE = [0x52E4A40FA8F9, 0x52E4A40FA918, 0x52E4A40FA8DA, 0x52E5AC983163, 0x4D]


@case("VAR-01")
async def long_varints(bench: Bench) -> None:
    async with bench.stranger() as talk:
        pairs = b"".join(long(i) + long(v) for i, v in h3.SETTINGS_OF["15"].items())
        settings = long(h3.SETTINGS) + long(len(pairs)) + pairs
        talk.control = talk.uni(long(h3.CONTROL) + settings)
        section = h3.field_section(h3.connect_fields(token=talk.token))
        session = talk.bidi(long(h3.HEADERS) + long(len(section)) + section)
        assert (await talk.peer.response(session))[":status"] == "200"
        talk.peer.datagram(long(session // 4) + b"x")
        await talk.until(lambda: h3.datagram(session, b"x") in talk.peer.datagrams)
        stream = talk.bidi(long(h3.WT_BIDI) + long(session) + b"y", fin=True)
        await talk.until(lambda: talk.peer.streams[stream].fin)
        assert talk.peer.streams[stream].data == b"y"
        talk.say(long(h3.GOAWAY) + long(8) + long(5))
        assert await bench.next_seen() == ("draining",)
        await talk.echoes(session)


async def busy(bench: Bench, talk: Talk) -> tuple[int, WebTransportSession, dict[str, int]]:
    """A session with a live stream of each kind and opener; their ids."""
    session_id = await talk.session(path="/late")
    session = await bench.next_late()
    ids = {
        "bidi": talk.bidi(h3.bidi_header(session_id) + b"x"),
        "uni": talk.uni(h3.uni_header(session_id) + b"x"),
    }
    for name, stream in {
        "our bidi": await session.create_bidirectional_stream(),
        "our uni": await session.create_unidirectional_stream(),
    }.items():
        await stream.write(data=b"x")
        ids[name] = stream.stream_id
    streams = talk.peer.streams
    await talk.until(lambda: streams[ids["our bidi"]].data and streams[ids["our uni"]].data)
    await session.accept_bidirectional_stream()
    await session.accept_unidirectional_stream()
    return session_id, session, ids


@case("SES-01")
async def the_end_ends_every_stream(bench: Bench) -> None:
    async def close(talk: Talk, session_id: int, session: Any) -> None:
        await session.close(code=1)

    async def fin(talk: Talk, session_id: int, session: Any) -> None:
        talk.peer.send(session_id, fin=True)

    async def capsule(talk: Talk, session_id: int, session: Any) -> None:
        talk.data(session_id, h3.close_capsule(), fin=True)

    async def reset(talk: Talk, session_id: int, session: Any) -> None:
        talk.peer.reset(session_id, CANCELLED)

    for end in (close, fin, capsule, reset):
        async with bench.client("02") as talk:
            session_id, session, ids = await busy(bench, talk)
            await end(talk, session_id, session)
            # The server's sending halves are reset, its receiving halves stopped.
            for name, is_sent, is_received in (
                ("bidi", True, True),
                ("uni", False, True),
                ("our bidi", True, True),
                ("our uni", True, False),
            ):
                seen = talk.peer.streams[ids[name]]
                if is_sent:
                    await talk.until(lambda seen=seen: seen.reset)
                    assert seen.reset is not None
                    assert seen.reset.code == GONE, name
                if is_received:
                    await talk.until(lambda seen=seen: seen.stopped is not None)
                    assert seen.stopped == GONE, name
            await talk.until(lambda id=session_id: talk.peer.streams[id].is_ended)
            talk.peer.datagram(h3.datagram(session_id, b"late"))
            await talk.refuses(talk.uni(h3.uni_header(session_id)), GONE)


@case("SES-02")
async def close_without_credit(bench: Bench) -> None:
    await bench.serve(close_timeout=0.3)
    # Enough for the answer, too little for the capsule after it.
    async with bench.client("02", max_stream_data=24, gives_credit=False) as talk:
        session_id = await talk.session(path="/late")
        session = await bench.next_late()
        await session.close(code=7, reason="x" * 1000, close_connection=False)
        await talk.until(lambda: talk.peer.streams[session_id].stopped is not None)
        assert session.is_closed
        await talk.echoes(await talk.session())


@case("SES-03")
async def application_codes(bench: Bench) -> None:
    async with bench.client() as talk:
        session_id = await talk.session(path="/late")
        session = await bench.next_late()
        for code in CODES:
            raw = h3.to_http_code(code)
            stream_id = talk.bidi(h3.bidi_header(session_id) + b"x")
            stream = await session.accept_bidirectional_stream()
            await stream.reset(error_code=code)
            await stream.stop_receiving(error_code=code)
            seen = talk.peer.streams[stream_id]
            await talk.until(lambda seen=seen: seen.reset and seen.stopped is not None)
            assert seen.reset is not None
            assert (seen.reset.code, seen.stopped) == (raw, raw)
        for raw in OUTSIDE:
            stream_id = talk.bidi(h3.bidi_header(session_id) + b"x")
            stream = await session.accept_bidirectional_stream()
            talk.peer.reset(stream_id, raw)
            talk.peer.stop(stream_id, raw)
            await talk.lives()
            told = f"stream {stream_id} with HTTP/3 code {raw:#x} "
            with pytest.raises(StreamResetError, match=f"reset {told}"):
                await stream.read_all()
            with pytest.raises(StreamResetError, match=f"stop sending on {told}"):
                await stream.write(b"x")
    assert await bench.next_seen() == ("closed", 0, "")
    async with bench.client() as talk:
        session_id = await talk.session()
        for code in CODES:
            await reset_is_seen(bench, talk, session_id, h3.to_http_code(code), code)
        for raw in OUTSIDE:
            # The library's own code: the peer's application has said none.
            none = ErrorCodes.STREAM_STATE_ERROR
            await reset_is_seen(bench, talk, session_id, raw, none)


async def reset_is_seen(bench: Bench, talk: Talk, session_id: int, raw: int, code: int) -> None:
    stream_id = talk.bidi(h3.bidi_header(session_id) + b"x")
    await talk.until(lambda: talk.peer.streams[stream_id].data)
    talk.peer.reset(stream_id, raw)
    seen = await bench.next_seen()
    assert (hex(raw), *seen) == (hex(raw), "stream", code)


@case("SES-04")
async def goaway_and_drain(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        talk.data(session, h3.capsule(h3.DRAIN_SESSION) * 2)
        talk.say(h3.frame(h3.GOAWAY, b"\0"))
        assert (await bench.next_seen()) == ("draining",)
        await talk.echoes(session)
        assert bench.seen.empty()
    assert await bench.next_seen() == ("closed", 0, "")
    async with bench.server() as (talk, session_id, session):
        talk.data(session_id, h3.capsule(h3.DRAIN_SESSION))
        talk.say(h3.frame(h3.GOAWAY, b"\4") + h3.frame(h3.GOAWAY, b"\0"))
        assert await bench.next_seen() == ("draining",)
        assert await session.create_bidirectional_stream()
        await talk.lives()
        assert bench.seen.empty()
