"""A client that announces drafts 02 and 15 at once, as Firefox plans to, with either token.

Each session is of the draft of its token (webtrans-http3-16 §3): one by `webtransport` has no
session flow control and shares its connection freely, one by `webtransport-h3` follows draft 15.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support import raw_http3 as h3
from tests.support.raw_peer import RawPeer, raw_client

from .conftest import Site

BOTH = h3.SETTINGS_OF["02"] | h3.SETTINGS_OF["15"]
CREDIT = dict.fromkeys(
    (h3.WT_INITIAL_MAX_DATA, h3.WT_INITIAL_MAX_STREAMS_UNI, h3.WT_INITIAL_MAX_STREAMS_BIDI), 1 << 20
)
VERSION = ("sec-webtransport-http3-draft02", "1")
ANSWER = "sec-webtransport-http3-draft"
TOKENS = {
    "02": {"token": "webtransport", "extra": [VERSION]},
    "02-without-version": {"token": "webtransport"},
    "15": {"token": "webtransport-h3"},
}


@asynccontextmanager
async def client(
    site: Site, settings: dict[int, int] = BOTH, **options: bool
) -> AsyncIterator[RawPeer]:
    async with raw_client(site.port, reset_stream_at=True, **options) as peer:
        peer.send(peer.open(unidirectional=True), h3.control_stream(settings))
        yield peer


async def ask(peer: RawPeer, token: str) -> tuple[int, dict[str, str]]:
    session_id = peer.open()
    peer.send(session_id, h3.connect_frame(**TOKENS[token]))
    return session_id, await peer.response(session_id)


async def check(site: Site, peer: RawPeer, session_id: int) -> None:
    """Streams both ways and a datagram."""
    session = await site.session()
    stream_id = peer.open()
    peer.send(stream_id, h3.bidi_header(session_id) + b"ping", fin=True)
    stream = await session.accept_bidirectional_stream()
    assert await stream.read_all() == b"ping"
    await stream.write_all(data=b"pong")
    await peer.until(lambda: peer.streams[stream_id].fin)
    assert peer.streams[stream_id].data == b"pong"
    peer.datagram(h3.datagram(session_id, b"!"))
    datagrams = await session.create_datagram_transport()
    assert await datagrams.receive() == b"!"


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("token", ["02", "15"])
async def test_either_token(serve, token: str, strict: bool):
    site = await serve(strict=strict)
    async with client(site) as peer:
        session_id, answer = await ask(peer, token)
        assert answer[":status"] == "200"
        assert answer.get(ANSWER) == ("draft02" if token == "02" else None)
        await check(site, peer, session_id)


async def test_both_tokens_on_one_connection(serve):
    """Several of draft 02 beside one of draft 15, each by its own rules."""
    site = await serve()
    async with client(site, BOTH | CREDIT) as peer:
        for token in ("02", "15", "02"):
            session_id, answer = await ask(peer, token)
            assert answer[":status"] == "200", token
            assert (ANSWER in answer) == (token == "02")
            await check(site, peer, session_id)


async def test_a_session_of_draft_02_gets_no_credit_capsules(serve):
    """Small limits, which bind sessions of draft 15 only."""
    limits = {"initial_max_data": 1000, "initial_max_streams_bidi": 2, "initial_max_streams_uni": 2}
    site = await serve(**limits)
    async with client(site, BOTH | CREDIT) as peer:
        session_id, _ = await ask(peer, "02")
        session = await site.session()
        for number in range(10):
            peer.send(peer.open(True), h3.uni_header(session_id) + bytes(1000), fin=True)
            stream = await session.accept_unidirectional_stream()
            assert len(await stream.read_all()) == 1000, number
        assert peer.capsules(session_id) == []


async def test_without_the_version_header_it_is_still_draft_02(serve):
    site = await serve()
    async with client(site) as peer:
        session_id, answer = await ask(peer, "02-without-version")
        assert answer[":status"] == "200"
        assert ANSWER not in answer
        await check(site, peer, session_id)
