"""UNI and BID: streams, and the headers that make them a session's."""

from __future__ import annotations

from tests.support import raw_http3 as h3

from .bench import (
    BUFFERED_REJECTED,
    CANCELLED,
    FRAME,
    GONE,
    GREASE,
    ID,
    NO_ERROR,
    REQUIREMENTS_NOT_MET,
    STREAM_CREATION,
    Bench,
    case,
    long,
)


@case("UNI-01")
async def unknown_types(bench: Bench) -> None:
    async with bench.client() as talk:
        for stream_type in (0x21, GREASE, 1 << 40, 0x04, 0x41, 0x55):
            await talk.refuses(talk.uni(h3.varint(stream_type) + bytes(1000)), STREAM_CREATION)


@case("UNI-02")
async def end_before_the_type(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.uni(fin=True)
        talk.uni(b"\x40", fin=True)
        for data in (b"", b"\xc0\0\0"):
            stream = talk.uni(data)
            talk.peer.flush()
            talk.peer.reset(stream, 0)
        await talk.lives()
        await talk.echoes(await talk.session())


@case("UNI-03")
async def pieces_and_long_varints(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        talk.dribble(talk.uni(), long(h3.WT_UNI) + long(session) + b"body", fin=True)
        await talk.until(lambda: talk.peer.uni(h3.WT_UNI))
        (answer,) = talk.peer.uni(h3.WT_UNI)
        await talk.until(lambda: talk.peer.streams[answer].fin)
        assert talk.peer.streams[answer].data == h3.uni_header(session) + b"body"


@case("UNI-04")
async def uni_of_no_request(bench: Bench) -> None:
    for session in (1, 2, 3, 5):
        async with bench.client() as talk:
            talk.uni(h3.uni_header(session))
            await talk.fails(ID)


@case("UNI-05")
async def fin_inside_the_session_id(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        stream = talk.uni(b"\x40\x54\x40", fin=True)
        await talk.lives()
        await talk.echoes(session)
        assert talk.peer.streams[stream].reset is None


@case("UNI-06")
async def nobody_asked(bench: Bench) -> None:
    await bench.serve(max_pending_events_per_session=2, pending_event_ttl=0.2)
    async with bench.client() as talk:
        # Too many: one is refused at once. The others: when their time is over.
        streams = [talk.uni(h3.uni_header(400) + b"x") for _ in range(3)]
        for stream in streams:
            await talk.refuses(stream, BUFFERED_REJECTED)
    await bench.aclose_server()
    await bench.serve()
    async with bench.client() as talk:
        # Asked for in time: it comes out.
        talk.uni(h3.uni_header(0) + b"early", fin=True)
        await talk.lives()
        session = await talk.session()
        await talk.until(lambda: talk.peer.uni(h3.WT_UNI))
        (answer,) = talk.peer.uni(h3.WT_UNI)
        await talk.until(lambda: talk.peer.streams[answer].fin)
        assert talk.peer.streams[answer].data == h3.uni_header(session) + b"early"


@case("UNI-07")
async def session_has_ended(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        talk.peer.send(session, fin=True)
        await talk.until(lambda: talk.peer.streams[session].is_ended)
        await talk.refuses(talk.uni(h3.uni_header(session) + b"late"), GONE)
        await talk.refuses(talk.bidi(h3.bidi_header(session) + b"late"), GONE)


@case("UNI-08")
async def not_negotiated(bench: Bench) -> None:
    await bench.serve(strict=True)
    async with bench.client(settings={h3.H3_DATAGRAM: 1}) as talk:
        await talk.refuses(talk.uni(h3.uni_header(0) + b"x"), STREAM_CREATION)


@case("BID-01")
async def webtransport_streams(bench: Bench) -> None:
    async with bench.client() as talk:
        await talk.echoes(await talk.session())
    for session in (1, 2, 3):
        async with bench.client() as talk:
            await talk.session()
            talk.bidi(h3.bidi_header(session))
            await talk.fails(ID)


@case("BID-02")
async def signal_in_another_place(bench: Bench) -> None:
    for place in ("after another frame", "control", "session"):
        async with bench.client() as talk:
            session = await talk.session()
            signal = h3.bidi_header(session)
            if place == "session":
                talk.peer.send(session, signal)
            elif place == "control":
                talk.say(signal)
            else:
                talk.bidi(h3.frame(GREASE, b"x") + signal)
            await talk.fails(FRAME)


@case("BID-03")
async def server_streams(bench: Bench) -> None:
    # A server without WebTransport. Our client may have left it before it saw the stream.
    async with bench.asked(settings={}) as (talk, _):
        talk.bidi(h3.bidi_header(0))
        closed = await talk.peer.wait_closed()
        assert closed.code in (STREAM_CREATION, NO_ERROR, REQUIREMENTS_NOT_MET), closed
    async with bench.server() as (talk, _, _):
        talk.bidi(h3.response_frame(200))
        await talk.fails(STREAM_CREATION)
    async with bench.server() as (talk, session_id, session):
        talk.bidi(h3.bidi_header(session_id) + b"hello")
        stream = await session.accept_bidirectional_stream()
        assert await stream.read() == b"hello"


@case("BID-04")
async def signal_in_long_varints(bench: Bench) -> None:
    for signal in ((h3.WT_BIDI | 2 << 30).to_bytes(4), long(h3.WT_BIDI)):
        async with bench.client() as talk:
            stream = talk.bidi()
            talk.dribble(stream, signal + long(await talk.session()) + b"x", fin=True)
            seen = talk.peer.streams[stream]
            await talk.until(lambda seen=seen: seen.fin)
            assert seen.data == b"x"


@case("BID-05")
async def resets_around_the_header(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        stream = talk.bidi(b"\x40")
        await talk.lives()
        talk.peer.reset(stream, h3.to_http_code(7))
        await talk.refuses(stream, CANCELLED)
        assert bench.seen.empty()
        stream = talk.bidi(h3.bidi_header(session))
        await talk.lives()
        talk.peer.reset(stream, h3.to_http_code(7))
        assert await bench.next_seen() == ("stream", 7)
        await talk.echoes(session)
