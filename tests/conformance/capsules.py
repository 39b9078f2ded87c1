"""CAP: capsules on the CONNECT stream."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support import raw_http3 as h3

from .bench import DATAGRAM_ERROR, GREASE, LOAD, MESSAGE, Bench, case, long

FLOW = {
    h3.WT_INITIAL_MAX_DATA: 1 << 20,
    h3.WT_INITIAL_MAX_STREAMS_BIDI: 100,
    h3.WT_INITIAL_MAX_STREAMS_UNI: 100,
}
FLOW_CAPSULES = [
    h3.MAX_DATA,
    h3.MAX_STREAMS_BIDI,
    h3.MAX_STREAMS_UNI,
    h3.DATA_BLOCKED,
    h3.STREAMS_BLOCKED_BIDI,
    h3.STREAMS_BLOCKED_UNI,
]


async def session_errors(
    bench: Bench, cases: Iterable[bytes], *codes: int, fin: bool = False, flow: bool = False
) -> None:
    """Each ends its session, and leaves the connection."""
    settings = h3.SETTINGS_OF["15"] | (FLOW if flow else {})
    async with bench.client(settings=settings) as talk:
        for data in cases:
            session = await talk.session()
            talk.data(session, data, fin=fin)
            await talk.refuses(session, *(codes or (MESSAGE,)))


@case("CAP-01")
async def over_many_frames(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        for at in range(len(whole := h3.close_capsule(420, "bye"))):
            frames = (
                h3.frame(h3.DATA),
                h3.frame(GREASE, b"between"),
                h3.frame(h3.DATA, whole[at : at + 1]),
            )
            talk.peer.send(session, b"".join(frames))
        talk.peer.send(session, fin=True)
        assert await bench.next_seen() == ("closed", 420, "bye")
    async with bench.client() as talk:
        session = await talk.session()
        talk.dribble(session, h3.frame(h3.DATA, h3.close_capsule(420, "bye")), fin=True)
        assert await bench.next_seen() == ("closed", 420, "bye")


@case("CAP-02")
async def several_in_one_frame(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        drain, unknown = h3.capsule(h3.DRAIN_SESSION), h3.capsule(GREASE, b"x")
        talk.data(session, drain, unknown, h3.close_capsule(1), fin=True)
        assert await bench.next_seen() == ("draining",)
        assert await bench.next_seen() == ("closed", 1, "")


@case("CAP-03")
async def unknown_without_end(bench: Bench) -> None:
    await bench.serve(quic_stream_receive_window=64 << 10)
    async with bench.client() as talk:
        session = await talk.session()
        talk.data(session, h3.varint(GREASE) + h3.varint(1 << 50))
        for _ in range(32):
            talk.data(session, bytes(16 << 10))
        # Eight windows of its stream: it is read, and not kept.
        await talk.until(lambda: talk.peer.is_delivered(session))
        await talk.echoes(session)


@case("CAP-04")
async def wrong_length(bench: Bench) -> None:
    await bench.serve(
        initial_max_data=1 << 20, initial_max_streams_bidi=100, initial_max_streams_uni=100
    )
    cases = [
        (h3.MAX_DATA, b""),
        (h3.MAX_DATA, b"\x40"),
        (h3.MAX_DATA, b"\1\2"),
        (h3.MAX_STREAMS_BIDI, b"\x80\0\0"),
        (h3.DATA_BLOCKED, b""),
        (h3.STREAMS_BLOCKED_UNI, b"\7\7"),
    ]
    capsules = [h3.capsule(kind, payload) for kind, payload in cases]
    await session_errors(bench, capsules, MESSAGE, DATAGRAM_ERROR, flow=True)


@case("CAP-05")
async def fin_inside(bench: Bench) -> None:
    whole = h3.close_capsule(420, "bye")
    await session_errors(bench, (whole[:cut] for cut in range(1, len(whole))), fin=True)


@case("CAP-06")
async def close_texts(bench: Bench) -> None:
    async with bench.client() as talk:
        text = "é" * 512
        talk.data(await talk.session(), h3.close_capsule(0xFFFF_FFFF, text), fin=True)
        assert await bench.next_seen() == ("closed", 0xFFFF_FFFF, text)
    wrong = [h3.close_capsule(7, "x" * 1025), h3.close_capsule(7, b"\xff")]
    short = [h3.capsule(h3.CLOSE_SESSION, bytes(size)) for size in range(4)]
    # Refused by its length alone.
    endless = h3.varint(h3.CLOSE_SESSION) + h3.varint(1 << 40)
    await session_errors(bench, [*wrong, *short, endless])


@case("CAP-07")
async def data_after_close(bench: Bench) -> None:
    close = h3.frame(h3.DATA, h3.close_capsule(1, "bye"))
    for more in (h3.frame(h3.DATA, b"x"), close):
        async with bench.client() as talk:
            session = await talk.session()
            talk.peer.send(session, close + more)
            await talk.refuses(session, MESSAGE)
            assert await bench.next_seen() == ("closed", 1, "bye")
    async with bench.client() as talk:
        session = await talk.session()
        talk.data(session, h3.close_capsule(1, "bye"), b"\0")
        await talk.refuses(session, MESSAGE)


@case("CAP-08")
async def drain_with_payload(bench: Bench) -> None:
    await session_errors(bench, [h3.capsule(h3.DRAIN_SESSION, b"\1")])


@case("CAP-09")
async def datagram_capsules(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        talk.data(session, h3.capsule(h3.CAPSULE_DATAGRAM, b"reliable"))
        # One too long for anything is skipped.
        talk.data(session, h3.capsule(h3.CAPSULE_DATAGRAM, bytes(100_000)))
        await talk.until(lambda: h3.datagram(session, b"reliable") in talk.peer.datagrams)
        await talk.echoes(session)


@case("CAP-10")
async def capsules_of_http2(bench: Bench) -> None:
    kinds = (h3.MAX_STREAM_DATA, h3.STREAM_DATA_BLOCKED)
    await session_errors(bench, [h3.capsule(kind, b"\0\0") for kind in kinds])
    # Draft 02 does not know them.
    async with bench.client("02") as talk:
        session = await talk.session()
        talk.data(session, *(h3.capsule(kind, b"\0\0") for kind in kinds))
        await talk.echoes(session)


@case("CAP-11")
async def flow_control_is_off(bench: Bench) -> None:
    for draft in h3.SETTINGS_OF:
        async with bench.client(draft) as talk:
            session = await talk.session()
            talk.data(session, *(h3.capsule(kind, b"\0") * 2 for kind in FLOW_CAPSULES))
            await talk.echoes(session)


@case("CAP-12")
async def before_the_answer(bench: Bench) -> None:
    async with bench.client() as talk:
        session = talk.request()
        talk.data(session, h3.close_capsule(9, "early"), fin=True)
        assert await bench.next_seen() == ("closed", 9, "early")
    async with bench.stranger() as talk:
        # Nothing is answered before SETTINGS, so what comes is kept, up to a limit.
        session = talk.request()
        talk.peer.send(session, bytes(64 << 10))
        await talk.refuses(session, LOAD)


@case("CAP-13")
async def long_varints(bench: Bench) -> None:
    async with bench.client() as talk:
        inner = long(h3.CLOSE_SESSION) + (4 | 2 << 30).to_bytes(4) + (7).to_bytes(4)
        frame = long(h3.DATA) + long(len(inner)) + inner
        talk.peer.send(await talk.session(), frame, fin=True)
        assert await bench.next_seen() == ("closed", 7, "")
