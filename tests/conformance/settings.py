"""SET: what SETTINGS may say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.support import raw_http3 as h3
from tests.support.raw_peer import SERVER_SETTINGS

from .bench import FRAME, GREASE, LOAD, SETTINGS, Bench, case, long

FLAGS = [h3.ENABLE_CONNECT_PROTOCOL, h3.H3_DATAGRAM, h3.ENABLE_WEBTRANSPORT]


async def refused(bench: Bench, payload: bytes, code: int) -> None:
    async with bench.stranger() as talk:
        talk.uni(h3.varint(h3.CONTROL) + h3.frame(h3.SETTINGS, payload))
        await talk.fails(code)


async def taken(bench: Bench, payload: bytes) -> None:
    async with bench.stranger() as talk:
        talk.uni(h3.varint(h3.CONTROL) + h3.frame(h3.SETTINGS, payload))
        await talk.lives()


def payload(pairs: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(h3.varint(number) + h3.varint(value) for number, value in pairs)


@case("SET-01")
async def twice(bench: Bench) -> None:
    for pairs in ([(h3.H3_DATAGRAM, 1)] * 2, [(GREASE, 0), (GREASE, 9)], [(0x77, 1)] * 2):
        await refused(bench, payload(pairs), SETTINGS)


@case("SET-02")
async def reserved(bench: Bench) -> None:
    for number in (0x00, 0x02, 0x03, 0x04, 0x05):
        await refused(bench, payload([(number, 1)]), SETTINGS)


@case("SET-03")
async def flags(bench: Bench) -> None:
    for number in FLAGS:
        await refused(bench, payload([(number, 2)]), SETTINGS)
    await taken(bench, payload((number, 0) for number in FLAGS))
    await taken(bench, payload((number, 1) for number in FLAGS))


@case("SET-04")
async def wt_enabled_is_no_number(bench: Bench) -> None:
    async with bench.asked(SERVER_SETTINGS | {h3.WT_ENABLED: 2}) as (talk, _):
        await talk.fails(SETTINGS)


@case("SET-05")
async def odd_but_right(bench: Bench) -> None:
    await taken(bench, b"")
    await taken(bench, payload([(GREASE, 77), (0x7777, 1 << 40)]))
    async with bench.stranger() as talk:
        pairs = b"".join(long(i) + long(v) for i, v in h3.SETTINGS_OF["15"].items())
        talk.uni(h3.varint(h3.CONTROL) + h3.frame(h3.SETTINGS, pairs))
        await talk.echoes(await talk.session())


@case("SET-06")
async def cut(bench: Bench) -> None:
    for part in (b"\x33", b"\x40", b"\x33\x40"):
        await refused(bench, part, FRAME)


@case("SET-07")
async def thousands(bench: Bench) -> None:
    await refused(bench, payload((0x10000 + n, 0) for n in range(2_000)), LOAD)


@case("SET-08")
async def early_data(bench: Bench) -> None:
    """Two connections to a server that offers 0-RTT, which then has less to offer."""
    tickets: dict[bytes, Any] = {}
    generous = SERVER_SETTINGS | {h3.WT_INITIAL_MAX_DATA: 1 << 20}
    for settings in (generous, SERVER_SETTINGS):
        async with bench.server(
            settings,
            session_ticket_handler=lambda ticket: tickets.update({ticket.ticket: ticket}),
            session_ticket_fetcher=tickets.get,
        ) as (talk, _, _):
            assert not talk.peer.quic.tls.early_data_accepted
            await talk.lives()
