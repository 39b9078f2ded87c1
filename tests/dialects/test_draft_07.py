"""A client that speaks draft 07 and nothing else: no session flow control, several sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support import raw_http3 as h3
from tests.support.raw_peer import RawPeer, raw_client

from .conftest import Site


@asynccontextmanager
async def client(site: Site) -> AsyncIterator[RawPeer]:
    async with raw_client(site.port) as peer:
        peer.send(peer.open(unidirectional=True), h3.control_stream(h3.SETTINGS_OF["07"]))
        yield peer


async def open_session(peer: RawPeer, path: str = "/") -> int:
    session_id = peer.open()
    peer.send(session_id, h3.connect_frame(path=path))
    assert (await peer.response(session_id))[":status"] == "200"
    return session_id


async def test_streams_and_datagrams_both_ways_without_a_capsule(serve):
    site = await serve()
    async with client(site) as peer:
        session_id = await open_session(peer)
        session = await site.session()

        sent = peer.open()
        peer.send(sent, h3.bidi_header(session_id) + b"from the client", fin=True)
        stream = await session.accept_bidirectional_stream()
        assert await stream.read_all() == b"from the client"
        await stream.write_all(data=b"answer")
        await peer.until(lambda: peer.streams[sent].fin)
        assert peer.streams[sent].data == b"answer"

        own = await session.create_unidirectional_stream()
        await own.write_all(data=b"from the server")
        (received,) = await peer.until(lambda: peer.uni(h3.WT_UNI))
        await peer.until(lambda: peer.streams[received].fin)
        assert peer.streams[received].data == h3.uni_header(session_id) + b"from the server"

        peer.datagram(h3.datagram(session_id, b"ping"))
        datagrams = await session.create_datagram_transport()
        assert await datagrams.receive() == b"ping"
        await datagrams.send(data=b"pong")
        await peer.until(lambda: peer.datagrams)
        assert peer.datagrams == [h3.datagram(session_id, b"pong")]
        assert peer.capsules(session_id) == []


async def test_several_sessions_on_one_connection(serve):
    site = await serve()
    async with client(site) as peer:
        ids = [await open_session(peer, f"/{i}") for i in range(3)]
        sessions = [await site.session() for _ in ids]
        assert sorted(session.path for session in sessions) == ["/0", "/1", "/2"]
        for session_id in ids:
            peer.send(
                peer.open(unidirectional=True), h3.uni_header(session_id) + b"%d" % session_id
            )
        for session_id, session in zip(ids, sorted(sessions, key=lambda s: s.path), strict=True):
            stream = await session.accept_unidirectional_stream()
            assert await stream.read() == b"%d" % session_id
