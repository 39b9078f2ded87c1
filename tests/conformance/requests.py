"""REQ: request streams, field sections, the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from pywebtransport.exceptions import WebTransportError
from tests.support import raw_http3 as h3
from tests.support.raw_peer import SERVER_SETTINGS

from .bench import (
    GREASE,
    INCOMPLETE,
    LOAD,
    MESSAGE,
    MISSING_SETTINGS,
    REJECTED,
    TOKENS,
    UNEXPECTED,
    Bench,
    Talk,
    case,
)

Fields = list[tuple[str | bytes, str | bytes]]
GET: Fields = [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")]
TRAILERS = h3.headers_frame([("x-sum", "1")])


def fields_with(*extra: tuple[str | bytes, str | bytes], **replaced: str | None) -> Fields:
    """A good request of draft 02: more fields, or some replaced, or left out by None."""
    values = {f":{name}": value for name, value in replaced.items()}
    fields: Fields = []
    for name, value in h3.connect_fields(token=TOKENS["02"]):
        wanted = values.get(str(name), value)
        if wanted is not None:
            fields.append((name, wanted))
    return [*fields, *extra]


async def malformed(bench: Bench, cases: Iterable[Fields]) -> None:
    async with bench.client("02") as talk:
        for fields in cases:
            await talk.refuses(talk.bidi(h3.headers_frame(fields)), MESSAGE)
        await talk.echoes(await talk.session())


async def answered(talk: Talk, fields: Fields, status: str) -> None:
    stream = talk.bidi(h3.headers_frame(fields))
    assert (await talk.peer.response(stream))[":status"] == status


@case("REQ-01")
async def frames_out_of_order(bench: Bench) -> None:
    async with bench.client() as talk:
        talk.bidi(h3.frame(h3.DATA, b"x"))
        await talk.fails(UNEXPECTED)
    async with bench.client() as talk:
        talk.bidi(h3.headers_frame(GET) + h3.frame(h3.DATA, b"x") + TRAILERS + TRAILERS)
        await talk.fails(UNEXPECTED)
    async with bench.asked() as (talk, _):
        session, _ = await talk.peer.request()
        talk.peer.send(session, h3.frame(h3.DATA, b"x"))
        await talk.fails(UNEXPECTED)


@case("REQ-02")
async def frames_of_an_established_session(bench: Bench) -> None:
    for known in (
        TRAILERS,
        h3.frame(h3.PUSH_PROMISE, b"\0\0\0"),
        h3.frame(h3.SETTINGS),
        h3.frame(h3.GOAWAY, b"\0"),
    ):
        async with bench.client() as talk:
            talk.peer.send(await talk.session(), known)
            await talk.fails(UNEXPECTED)
    async with bench.server() as (talk, session_id, _):
        talk.peer.send(session_id, TRAILERS)
        await talk.fails(UNEXPECTED)
    async with bench.client() as talk:
        session = await talk.session()
        talk.peer.send(session, h3.frame(GREASE, b"x") + h3.frame(0x70000, bytes(99)))
        await talk.echoes(session)


@case("REQ-03")
async def fin_before_the_section(bench: Bench) -> None:
    async with bench.client() as talk:
        for data in (b"", h3.frame(GREASE, b"x"), b"\x40"):
            await talk.refuses(talk.bidi(data, fin=True), INCOMPLETE)
    async with bench.asked() as (talk, connecting):
        session, _ = await talk.peer.request()
        talk.peer.send(session, fin=True)
        with pytest.raises(WebTransportError):
            await connecting


@case("REQ-04")
async def bad_bytes(bench: Bench) -> None:
    names = ["X-Upper", "a b", "a:b", "café", "tab\t", "del\x7f", "nul\0"]
    values = ["a\0b", "a\rb", "a\nb"]
    await malformed(
        bench,
        [
            *(fields_with((name, "v")) for name in names),
            *(fields_with(("x-test", value)) for value in values),
            *(fields_with(path=f"/{value}") for value in values),
        ],
    )
    async with bench.client("02") as talk:
        # A literal with an empty name (RFC 9204 §4.5.6).
        section = h3.field_section(fields_with()) + b"\x20\x01v"
        await talk.refuses(talk.bidi(h3.frame(h3.HEADERS, section)), MESSAGE)


@case("REQ-05")
async def blanks_around_a_value(bench: Bench) -> None:
    values = [" a", "a ", "\ta", "a\t", " "]
    await malformed(bench, [fields_with(("x-test", value)) for value in values])


@case("REQ-06")
async def fields_of_a_connection(bench: Bench) -> None:
    names = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
    await malformed(
        bench, [*(fields_with((name, "x")) for name in names), fields_with(("te", "gzip"))]
    )
    async with bench.client("02") as talk:
        await answered(talk, fields_with(("te", "trailers")), "200")


@case("REQ-07")
async def pseudo_header_fields(bench: Bench) -> None:
    cases = [fields_with((":unknown", "x")), fields_with((":status", "200"))]
    for field in fields_with():
        rest = [other for other in fields_with() if other != field]
        cases += [[field, *fields_with()], [*rest, ("x-regular", "1"), field]]
    await malformed(bench, cases)
    async with bench.client() as talk:
        stream = talk.bidi(h3.headers_frame(GET) + h3.headers_frame([(":path", "/")]))
        await talk.refuses(stream, MESSAGE)


@case("REQ-08")
async def extended_connect_incomplete(bench: Bench) -> None:
    cases = [
        fields_with(**{name: value})
        for name in ("scheme", "path", "authority")
        for value in (None, "")
    ]
    wrong = [{"scheme": "http"}, {"path": "no-slash"}, {"protocol": ""}]
    await malformed(bench, [*cases, *(fields_with(**fields) for fields in wrong)])
    async with bench.client("02") as talk:
        await answered(talk, fields_with(path="/?query=only"), "200")


@case("REQ-09")
async def other_connects(bench: Bench) -> None:
    method: tuple[str, str] = (":method", "CONNECT")
    authority: tuple[str, str] = (":authority", "a:1")
    await malformed(
        bench,
        [
            [method, authority, (":scheme", "https")],
            [method, authority, (":path", "/")],
            [method],
            fields_with(method="GET"),
            fields_with(method=None),
        ],
    )
    async with bench.client("02") as talk:
        await answered(talk, [method, authority], "501")


@case("REQ-10")
async def extended_connect_is_offered(bench: Bench) -> None:
    async with bench.client() as talk:
        await talk.until(lambda: talk.peer.settings)
        assert talk.peer.settings is not None
        assert talk.peer.settings[h3.ENABLE_CONNECT_PROTOCOL] == 1
    # A server that offers it, but not for WebTransport, is asked for nothing.
    drafts = (h3.ENABLE_WEBTRANSPORT, h3.WEBTRANSPORT_MAX_SESSIONS, h3.WT_MAX_SESSIONS)
    no = SERVER_SETTINGS | dict.fromkeys((*drafts, h3.WT_ENABLED), 0)
    async with bench.asked(no) as (talk, connecting):
        await talk.peer.wait_closed()
        assert not any(stream.data for i, stream in talk.peer.streams.items() if i % 4 == 0)
        with pytest.raises(WebTransportError):
            await connecting


@case("REQ-11")
async def unknown_protocols(bench: Bench) -> None:
    async with bench.client("02") as talk:
        for token in ("websocket", "connect-udp", "webtransport-h4", "WebTransport"):
            await answered(talk, fields_with(protocol=token), "501")
        await answered(talk, GET, "404")
        await talk.echoes(await talk.session())


@case("REQ-12")
async def authorities(bench: Bench) -> None:
    await malformed(
        bench,
        [
            fields_with(("host", "other.example")),
            fields_with(authority="user@localhost"),
            fields_with(authority="user:pw@localhost"),
        ],
    )
    async with bench.client("02") as talk:
        await answered(talk, fields_with(("host", "localhost")), "200")


@case("REQ-13")
async def content_length(bench: Bench) -> None:
    await malformed(bench, [fields_with(("content-length", size)) for size in ("0", "5")])


@case("REQ-14")
async def large_sections(bench: Bench) -> None:
    await bench.serve(max_field_section_size=4096)
    async with bench.client("02") as talk:
        await answered(talk, fields_with(("x-large", "x" * 4000)), "431")
        # A byte a line: 60 kB that decode to megabytes (a bomb without a dynamic table).
        bomb = h3.frame(h3.HEADERS, b"\0\0" + bytes([0xC0 | 15]) * 60_000)
        stream = talk.bidi(bomb)
        assert (await talk.peer.response(stream))[":status"] == "431"
        await talk.refuses(talk.bidi(h3.headers_frame(GET) + bomb), LOAD)
        await talk.echoes(await talk.session())


@case("REQ-15")
async def many_lines_and_slow_ones(bench: Bench) -> None:
    async with bench.client("02") as talk:
        lines: Fields = [("cookie", "a=b")] * 300
        await answered(talk, fields_with(*lines), "431")
    async with bench.client("02") as talk:
        await talk.session()
        stream = talk.bidi(h3.connect_frame(token=talk.token)[:9])
        seen = talk.peer.streams[stream]
        # The deadline of the engine, and some time to say so.
        await talk.peer.until(lambda: seen.reset or talk.peer.closed, 15)
        assert seen.reset is not None
        assert seen.reset.code == INCOMPLETE
        await talk.lives()


@case("REQ-16")
async def above_our_goaway(bench: Bench) -> None:
    async with bench.client("02") as talk:
        await talk.session()
        session = await bench.next_session()
        connection = session.connection
        assert connection is not None
        leaving = asyncio.ensure_future(connection.graceful_shutdown())
        await talk.until(lambda: any(f.type == h3.GOAWAY for f in talk.peer.control_frames))
        await talk.refuses(talk.request(), REJECTED)
        leaving.cancel()
        await asyncio.wait([leaving])


@case("REQ-17")
async def before_settings(bench: Bench) -> None:
    async with bench.stranger() as talk:
        session = talk.request()
        await talk.lives()
        assert not talk.peer.streams[session].data
        talk.control = talk.uni(h3.control_stream(h3.SETTINGS_OF["15"]))
        assert (await talk.peer.response(session))[":status"] == "200"
        await talk.echoes(session)
    async with bench.stranger() as talk:
        talk.request()
        closed = await talk.peer.wait_closed(15)
        assert (closed.code, closed.is_by_us) == (MISSING_SETTINGS, False)


@case("REQ-18")
async def second_session(bench: Bench) -> None:
    for draft in ("13", "15"):
        async with bench.client(draft) as talk:
            first = await talk.session()
            await talk.refuses(talk.request(), REJECTED)
            # After the first one there is room again.
            talk.peer.send(first, fin=True)
            await talk.until(lambda peer=talk.peer, id=first: peer.streams[id].is_ended)
            await talk.echoes(await talk.session())
    for draft in ("02", "07"):
        async with bench.client(draft) as talk:
            await talk.session()
            await talk.echoes(await talk.session())
