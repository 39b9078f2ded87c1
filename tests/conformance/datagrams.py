"""DGM: datagrams, and whose they are."""

from __future__ import annotations

from tests.support import raw_http3 as h3

from .bench import DATAGRAM_ERROR, Bench, case, long
from .requests import GET

MAX_DATAGRAM_FRAME_SIZE = 0x20
LARGEST_UDP_PAYLOAD = 65527


@case("DGM-01")
async def no_quarter_id(bench: Bench) -> None:
    for data in (b"", b"\x40", b"\xc0\0\0", long(1 << 60)):
        async with bench.client() as talk:
            await talk.session()
            talk.peer.datagram(data)
            await talk.fails(DATAGRAM_ERROR)


@case("DGM-02")
async def unknown_and_ended_sessions(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.peer.datagram(h3.datagram(400, b"nobody"))
        talk.peer.datagram(h3.datagram(0, b"early"))
        await talk.lives()
        session = await talk.session()
        await talk.until(lambda: h3.datagram(session, b"early") in talk.peer.datagrams)
        talk.peer.send(session, fin=True)
        await talk.until(lambda: talk.peer.streams[session].is_ended)
        talk.peer.datagram(h3.datagram(session, b"late"))
        await talk.lives()


@case("DGM-03")
async def above_every_limit(bench: Bench) -> None:
    async with bench.client() as talk:
        session = await talk.session()
        talk.peer.datagram(long((1 << 60) - 1))
        await talk.lives()
        await talk.echoes(session)


@case("DGM-04")
async def of_another_request(bench: Bench) -> None:
    async with bench.client() as talk:
        stream = talk.bidi(h3.headers_frame(GET))
        await talk.peer.response(stream)
        talk.peer.datagram(h3.datagram(stream, b"x"))
        await talk.refuses(stream, DATAGRAM_ERROR)


@case("DGM-05")
async def larger_than_announced(bench: Bench) -> None:
    async with bench.client() as talk:
        announced = talk.peer.quic.peer_parameters[MAX_DATAGRAM_FRAME_SIZE]
        read = h3.read_varint(announced)
        assert read is not None
        assert read[0] >= LARGEST_UDP_PAYLOAD
        # One that fills its packet.
        session = await talk.session()
        talk.peer.datagram(h3.datagram(session, bytes(1100)))
        await talk.until(lambda: h3.datagram(session, bytes(1100)) in talk.peer.datagrams)
