"""Safari 26.4 and later, which obeys session credit: by default it works, on every engine."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import RawServer, raw_client
from tests.support.safari import LIMITED, PLAIN, Refused, safari

SETTINGS = [pytest.param(PLAIN, id="plain"), pytest.param(LIMITED, id="limited")]
SMALL = {
    "initial_max_data": 65536,
    "initial_max_streams_bidi": 4,
    "initial_max_streams_uni": 4,
    "flow_control_window_auto_scale": False,
}


@pytest.mark.parametrize("settings", SETTINGS)
async def test_streams_both_ways(serve, settings: dict[int, int]):
    site = await serve()
    async with safari(site.port, settings) as page:
        await page.connect("/chat")
        session = await site.session()

        stream_id = await page.open()
        await page.write(stream_id, b"from the page", fin=True)
        stream = await session.accept_bidirectional_stream()
        assert await stream.read_all() == b"from the page"
        await stream.write_all(data=b"answer")
        await page.peer.until(lambda: page.peer.streams[stream_id].fin)
        assert page.peer.streams[stream_id].data == b"answer"

        await page.write(await page.open(unidirectional=True), b"one way", fin=True)
        one_way = await session.accept_unidirectional_stream()
        assert await one_way.read_all() == b"one way"

        pushed = await session.create_unidirectional_stream()
        await pushed.write_all(data=b"pushed")
        asked = await session.create_bidirectional_stream()
        await asked.write_all(data=b"asked")
        await page.peer.until(lambda: page.peer.uni(h3.WT_UNI))
        (received,) = page.peer.uni(h3.WT_UNI)
        await page.peer.until(lambda: page.peer.streams[received].fin)
        assert page.peer.streams[received].data == h3.uni_header(page.session_id) + b"pushed"
        await page.peer.until(lambda: page.peer.streams[1].fin)
        page.peer.send(1, b"the page's answer", fin=True)
        assert await asked.read_all() == b"the page's answer"


@pytest.mark.parametrize("settings", SETTINGS)
async def test_much_more_than_the_first_windows(serve, settings: dict[int, int]):
    site = await serve(quic_receive_window=1 << 20, quic_stream_receive_window=1 << 18)
    async with safari(site.port, settings) as page:
        await page.connect()
        session = await site.session()
        data = os.urandom(8 << 20)
        writing = asyncio.ensure_future(page.write(await page.open(), data, fin=True))
        stream = await session.accept_bidirectional_stream()
        assert await stream.read_all() == data
        await writing


async def test_small_limits_are_kept_to_and_renewed(serve):
    site = await serve(**SMALL)
    async with safari(site.port, LIMITED) as page:
        await page.connect()
        session = await site.session()
        assert page.peer.settings is not None
        assert page.peer.settings[h3.WT_INITIAL_MAX_DATA] == SMALL["initial_max_data"]
        assert page.peer.settings[h3.WT_INITIAL_MAX_STREAMS_BIDI] == 4
        data = os.urandom(40_000)
        for number in range(20):
            sending = asyncio.ensure_future(send(page, data, unidirectional=bool(number % 2)))
            if number % 2:
                one_way = await session.accept_unidirectional_stream()
                assert await one_way.read_all() == data
            else:
                stream = await session.accept_bidirectional_stream()
                assert await stream.read_all() == data
                await stream.write_all(data=b"")
            await sending


async def send(page, data: bytes, *, unidirectional: bool) -> None:
    await page.write(await page.open(unidirectional), data, fin=True)


@pytest.mark.parametrize("settings", SETTINGS)
async def test_more_than_7000_pushed_streams(serve, settings: dict[int, int]):
    """Where it once stopped, at the credit that it had given and did not renew (moq 2388)."""
    site = await serve()
    async with safari(site.port, settings, max_streams_uni=1000) as page:
        await page.connect()
        session = await site.session()
        total, size = 7_200, 20

        async def push() -> None:
            for number in range(total):
                stream = await session.create_unidirectional_stream()
                await stream.write_all(data=b"%0*d" % (size, number))

        pushing = asyncio.ensure_future(push())
        seen: set[bytes] = set()
        streams = page.peer.streams
        expected = 3
        while len(seen) < total:

            def ended() -> list[int]:
                return [i for i in streams if i & 3 == 3 and i > expected and streams[i].fin]

            ready = await page.peer.until(ended)
            for stream_id in ready:
                seen.add(bytes(streams.pop(stream_id).data[-size:]))
            page.renew(len(ready), len(ready) * size)
        await pushing
        assert seen == {b"%0*d" % (size, number) for number in range(total)}


async def test_several_sessions_on_one_connection(serve):
    site = await serve()
    async with raw_client(site.port) as peer:
        peer.send(peer.open(unidirectional=True), h3.control_stream(LIMITED))
        ids = []
        for _ in range(3):
            ids.append(peer.open())
            peer.send(ids[-1], h3.connect_frame())
            assert (await peer.response(ids[-1]))[":status"] == "200"
        sessions = [await site.session() for _ in ids]
        for session_id in ids:
            peer.send(peer.open(True), h3.uni_header(session_id) + b"%d" % session_id, fin=True)
        texts = [await (await s.accept_unidirectional_stream()).read_all() for s in sessions]
        assert sorted(texts) == [b"%d" % session_id for session_id in ids]


async def test_credit_can_be_switched_off(serve):
    """Then one session is promised, which it takes, without being able to send."""
    site = await serve(session_credit=False)
    async with safari(site.port) as page:
        await page.connect()
        await site.session()
        assert page.peer.settings is not None
        assert page.peer.settings[h3.WT_MAX_SESSIONS] == 1
        assert not any(page.peer.settings.get(setting) for setting in (0x2B61, 0x2B64, 0x2B65))


async def test_the_model_refuses_sessions_without_credit(certificate: Certificate):
    """What the other tests rely on."""
    async with RawServer(certificate) as server, safari(server.port) as page:
        connecting = asyncio.ensure_future(page.connect())
        peer = await server.accept()
        settings = {h3.WT_MAX_SESSIONS: 16, h3.ENABLE_CONNECT_PROTOCOL: 1}
        peer.send(peer.open(True), h3.control_stream(settings))
        with pytest.raises(Refused, match="without session credit"):
            await connecting
