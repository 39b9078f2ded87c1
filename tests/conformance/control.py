"""CTL: the control stream and the frames that may be on it."""

from __future__ import annotations

from tests.support import raw_http3 as h3

from .bench import (
    CANCELLED,
    CLOSED_CRITICAL,
    FRAME,
    GREASE,
    ID,
    LOAD,
    MISSING_SETTINGS,
    STREAM_CREATION,
    UNEXPECTED,
    Bench,
    case,
    long,
)

CONTROL_FRAMES = [h3.SETTINGS, h3.GOAWAY, h3.MAX_PUSH_ID, h3.CANCEL_PUSH, 0xF0700, 0xF0701]
"""The last two: PRIORITY_UPDATE (RFC 9218)."""
HTTP2_FRAMES = [0x02, 0x06, 0x08, 0x09]


@case("CTL-01")
async def second_control_stream(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.uni(h3.control_stream({}))
        await talk.fails(STREAM_CREATION)
    for stream_type in (h3.QPACK_ENCODER, h3.QPACK_DECODER):
        async with bench.client() as talk:
            talk.uni(h3.varint(stream_type))
            await talk.lives()
            talk.uni(h3.varint(stream_type))
            await talk.fails(STREAM_CREATION)


@case("CTL-02")
async def critical_stream_ends(bench: Bench) -> None:
    for stream_type in (h3.CONTROL, h3.QPACK_ENCODER, h3.QPACK_DECODER):
        for by_reset in (False, True):
            async with bench.client() as talk:
                stream = talk.control
                if stream_type != h3.CONTROL:
                    stream = talk.uni(h3.varint(stream_type))
                await talk.lives()
                if by_reset:
                    talk.peer.reset(stream, 0)
                else:
                    talk.peer.send(stream, fin=True)
                await talk.fails(CLOSED_CRITICAL)
    async with bench.client() as talk:
        await talk.until(lambda: talk.peer.uni(h3.CONTROL))
        talk.peer.stop(talk.peer.uni(h3.CONTROL)[0], 0)
        await talk.fails(CLOSED_CRITICAL)


@case("CTL-03")
async def first_frame_is_not_settings(bench: Bench) -> None:
    for first in (
        h3.frame(h3.GOAWAY, b"\0"),
        h3.frame(GREASE, b"x"),
        h3.frame(0x4242),
        h3.frame(h3.MAX_PUSH_ID, b"\1"),
        h3.frame(h3.DATA),
    ):
        async with bench.stranger() as talk:
            talk.uni(h3.varint(h3.CONTROL) + first)
            await talk.fails(MISSING_SETTINGS)


@case("CTL-04")
async def second_settings(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.say(h3.settings_frame({}))
        await talk.fails(UNEXPECTED)


@case("CTL-05")
async def control_frames_on_a_request(bench: Bench) -> None:
    for frame_type in CONTROL_FRAMES:
        async with bench.client() as talk:
            talk.bidi(h3.frame(frame_type, b"\0"))
            await talk.fails(UNEXPECTED)
    async with bench.client() as talk:
        talk.peer.send(await talk.session(), h3.frame(h3.GOAWAY, b"\0"))
        await talk.fails(UNEXPECTED)


@case("CTL-06")
async def request_frames_on_the_control_stream(bench: Bench) -> None:
    for frame_type in (h3.DATA, h3.HEADERS, h3.PUSH_PROMISE):
        async with bench.client() as talk:
            talk.say(h3.frame(frame_type, b"\0\0"))
            await talk.fails(UNEXPECTED)


@case("CTL-07")
async def frames_of_http2(bench: Bench) -> None:
    for frame_type in HTTP2_FRAMES:
        async with bench.client() as talk:
            talk.say(h3.frame(frame_type))
            await talk.fails(UNEXPECTED)
        async with bench.client() as talk:
            talk.bidi(h3.frame(frame_type))
            await talk.fails(UNEXPECTED)
    async with bench.client() as talk:
        talk.peer.send(await talk.session(), h3.frame(HTTP2_FRAMES[0]))
        await talk.fails(UNEXPECTED)


@case("CTL-08")
async def unknown_control_frames(bench: Bench) -> None:
    await bench.serve(quic_stream_receive_window=64 << 10)
    async with bench.client() as talk:
        talk.say(h3.frame(GREASE, b"whatever"))
        talk.dribble(talk.control, h3.frame(0x12345678, b"piecemeal"))
        # Much more than the stream's window: it is read, and what is read is not kept.
        talk.say(h3.varint(GREASE) + h3.varint(1 << 40) + bytes(512 << 10))
        await talk.until(lambda: talk.peer.is_delivered(talk.control))
        await talk.echoes(await talk.session())


@case("CTL-09")
async def control_stream_in_bytes(bench: Bench) -> None:
    async with bench.stranger() as talk:
        pairs = b"".join(long(i) + long(v) for i, v in h3.SETTINGS_OF["15"].items())
        start = long(h3.CONTROL) + long(h3.SETTINGS) + long(len(pairs)) + pairs
        talk.dribble(talk.uni(), start + h3.frame(GREASE, b"x") + h3.frame(h3.GOAWAY, b"\0"))
        await talk.echoes(await talk.session())


@case("CTL-10")
async def control_frames_of_wrong_length(bench: Bench) -> None:
    for frame_type in (h3.GOAWAY, h3.MAX_PUSH_ID, h3.CANCEL_PUSH):
        for payload in (b"", b"\x40", b"\0\0"):
            async with bench.client() as talk:
                talk.say(h3.frame(frame_type, payload))
                await talk.fails(FRAME)
    async with bench.stranger() as talk:
        talk.uni(h3.varint(h3.CONTROL) + h3.frame(h3.SETTINGS, b"\x33"))
        await talk.fails(FRAME)


@case("CTL-11")
async def fin_inside_a_frame(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.bidi(h3.connect_frame(token=talk.token)[:-1], fin=True)
        await talk.fails(FRAME)
    async with bench.client() as talk:
        talk.peer.send(await talk.session(), h3.varint(h3.DATA), fin=True)
        await talk.fails(FRAME)
    async with bench.client() as talk:
        stream = talk.bidi(h3.connect_frame(token=talk.token)[:9])
        talk.peer.flush()
        talk.peer.reset(stream, CANCELLED)
        await talk.lives()
        await talk.echoes(await talk.session())


@case("CTL-12")
async def max_push_id(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.say(h3.frame(h3.MAX_PUSH_ID, b"\7") * 2)
        await talk.lives()
        talk.say(h3.frame(h3.MAX_PUSH_ID, b"\6"))
        await talk.fails(ID)
    async with bench.asked() as (talk, _):
        talk.say(h3.frame(h3.MAX_PUSH_ID, b"\7"))
        await talk.fails(UNEXPECTED)


@case("CTL-13")
async def goaway_ids(bench: Bench) -> None:
    async with bench.server() as (talk, _, _):
        talk.say(h3.frame(h3.GOAWAY, b"\x08") + h3.frame(h3.GOAWAY, b"\4"))
        await talk.lives()
        talk.say(h3.frame(h3.GOAWAY, b"\x08"))
        await talk.fails(ID)
    for request in (b"\1", b"\2", b"\3"):
        async with bench.server() as (talk, _, _):
            talk.say(h3.frame(h3.GOAWAY, request))
            await talk.fails(ID)
    # A client names a push id, which may be any number that does not grow.
    async with bench.client() as talk:
        talk.say(h3.frame(h3.GOAWAY, b"\3"))
        await talk.lives()
        talk.say(h3.frame(h3.GOAWAY, b"\4"))
        await talk.fails(ID)


@case("CTL-14")
async def cancel_push(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.say(h3.frame(h3.CANCEL_PUSH, b"\0"))
        await talk.fails(ID)
    async with bench.server() as (talk, _, _):
        talk.say(h3.frame(h3.CANCEL_PUSH, b"\0"))
        await talk.fails(ID)


@case("CTL-15")
async def push(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.bidi(h3.frame(h3.PUSH_PROMISE, b"\0\0\0"))
        await talk.fails(UNEXPECTED)
    async with bench.client() as talk:
        talk.uni(h3.varint(h3.PUSH) + b"\0")
        await talk.fails(STREAM_CREATION)
    # A server has no push id that our client allowed.
    async with bench.server() as (talk, _, _):
        talk.uni(h3.varint(h3.PUSH) + b"\0")
        await talk.fails(ID)


@case("CTL-16")
async def frames_longer_than_policy(bench: Bench) -> None:
    for frame_type in (h3.HEADERS, h3.SETTINGS):
        head = h3.varint(frame_type) + h3.varint(1 << 20)
        async with bench.stranger() as talk:
            if frame_type == h3.SETTINGS:
                talk.uni(h3.varint(h3.CONTROL) + head)
            else:
                talk.bidi(head)
            await talk.fails(LOAD)
