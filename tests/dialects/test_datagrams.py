"""Peers that take no datagrams, or tiny ones only; and where each datagram of a burst is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport.exceptions import DatagramError
from tests.support import raw_http3 as h3
from tests.support.raw_peer import RawPeer, raw_client

SETTINGS = h3.SETTINGS_OF["02"]


async def session_of(site: Any, peer: RawPeer, settings: dict[int, int] = SETTINGS) -> Any:
    if not peer.quic.is_open(2):  # the first session of this client
        peer.send(peer.open(unidirectional=True), h3.control_stream(settings))
    session_id = peer.open()
    peer.send(session_id, h3.connect_frame(extra=[("sec-webtransport-http3-draft02", "1")]))
    assert (await peer.response(session_id))[":status"] == "200"
    return session_id, await site.session()


def frame_size(payload: int) -> int:
    """Of a DATAGRAM frame of the first session: type, length, quarter id, payload."""
    return 1 + len(h3.varint(1 + payload)) + 1 + payload


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 20, 100])
async def test_never_more_than_the_peer_takes(serve, limit: int):
    """Header and session id included (RFC 9221 §3); more would cost the connection."""
    site = await serve()
    async with raw_client(site.port, max_datagram_frame_size=limit) as peer:
        session_id, session = await session_of(site, peer)
        datagrams = await session.create_datagram_transport()
        taken = []
        for size in range(limit + 2):
            try:
                await datagrams.send(data=bytes(size))
                taken.append(size)
            except DatagramError as error:
                # One that takes no datagram at all is not told sizes.
                assert error.datagram_size in (size, None)
        peer.datagram(h3.datagram(session_id, b"are you there"))
        assert await datagrams.receive() == b"are you there"
        await peer.until(lambda: len(peer.datagrams) == len(taken) or peer.closed)
        assert peer.closed is None
        assert all(frame_size(size) <= limit for size in taken)
        # quinn keeps 8 bytes of a frame for itself.
        assert set(range(limit - 16)) <= set(taken)


@pytest.mark.parametrize("how", ["parameter", "setting"])
async def test_a_peer_without_datagrams_is_told_apart(serve, how: str):
    site = await serve()
    size = None if how == "parameter" else 65536
    settings = {h3.WEBTRANSPORT_MAX_SESSIONS: 1} | ({} if how == "setting" else {h3.H3_DATAGRAM: 0})
    async with raw_client(site.port, max_datagram_frame_size=size) as peer:
        try:
            _, session = await session_of(site, peer, settings)
        except AssertionError:
            return  # refusing the session is an answer too (webtrans-http3-16 §3.1)
        datagrams = await session.create_datagram_transport()
        with pytest.raises(DatagramError, match="takes no datagrams"):
            await datagrams.send(data=b"ping")


async def test_one_session_cannot_push_out_the_datagrams_of_another(serve):
    """More than the queue holds in one turn of the loop: what the other one sent is among it."""
    site = await serve(max_outgoing_datagrams=100)
    async with raw_client(site.port) as peer:
        _, loud = await session_of(site, peer)
        quiet_id, quiet = await session_of(site, peer)
        transports = [await session.create_datagram_transport() for session in (loud, quiet)]
        for number in range(10):
            await transports[1].send(data=b"%d" % number)
        for _ in range(1000):
            await transports[0].send(data=bytes(100))
        wanted = [h3.datagram(quiet_id, b"%d" % number) for number in range(10)]
        await peer.until(lambda: set(wanted) <= set(peer.datagrams))
        assert [data for data in peer.datagrams if data in wanted] == wanted


async def test_every_datagram_of_a_burst_is_accounted_for(serve):
    site = await serve(max_outgoing_datagrams=1000)
    async with raw_client(site.port) as peer:
        _, session = await session_of(site, peer)
        datagrams = await session.create_datagram_transport()
        for _ in range(20):
            for _ in range(1000):
                await datagrams.send(data=bytes(500))
            await asyncio.sleep(0)
        places: dict[str, int] = {}

        def is_settled() -> bool:
            places.update(session.connection._link.engine.stats().extra)
            known = places["datagrams_sent"] + places["datagrams_dropped_outgoing"]
            assert known + places["datagrams_waiting"] == 20_000
            return known == 20_000

        await peer.until(is_settled)
        await peer.until(
            lambda: (
                is_settled()
                and len(peer.datagrams) + places["datagrams_lost"] >= places["datagrams_sent"]
            )
        )
