"""A session that ended without a close, by a reset or by a broken rule, is no clean end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.exceptions import (
    DatagramSessionResetError,
    SessionResetError,
    StreamSessionResetError,
)
from pywebtransport.session import WebTransportSession
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import SERVER_SETTINGS, RawPeer, RawServer, raw_client

from .place import Place, until

REQUEST_CANCELLED = 0x10C
MESSAGE_ERROR = 0x10E
"""RFC 9114 §8.1."""
EXPECTED = {
    "reset": (REQUEST_CANCELLED, "remote"),
    "truncated": (MESSAGE_ERROR, "local"),
}


def end(peer: RawPeer, session_id: int, how: str) -> None:
    match how:
        case "reset":
            peer.reset(session_id, REQUEST_CANCELLED)
        case "truncated":
            # A CLOSE of eight bytes of which two come before the FIN.
            capsule = h3.capsule(h3.CLOSE_SESSION, bytes(8))
            peer.send(session_id, h3.frame(h3.DATA, capsule[:-6]), fin=True)


async def look(session: WebTransportSession, how: str, ready: asyncio.Event) -> None:
    """Every way to hear of it, waiting before the end or asking after it."""
    code, by = EXPECTED[how]
    async with asyncio.timeout(10):
        stream = await session.accept_bidirectional_stream()
        assert await stream.readexactly(2) == b"hi"
        transport = await session.create_datagram_transport()
        ready.set()
        with pytest.raises(StreamSessionResetError) as caught:
            async for _ in stream:
                pass
        await session.wait_closed()
        assert (caught.value.error_code, caught.value.closed_by) == (code, by)
        assert caught.value.close_code == 0
        for read in (stream.read, stream.readline, stream.read_all):
            with pytest.raises(StreamSessionResetError):
                await read()
        with pytest.raises(StreamSessionResetError):
            await stream.write(data=b"x")
        with pytest.raises(DatagramSessionResetError):
            async for _ in transport:
                pass
        with pytest.raises(SessionResetError, match=f"{code:#x}") as ended:
            await session.accept_bidirectional_stream()
        assert (ended.value.error_code, ended.value.closed_by) == (code, by)
        with pytest.raises(SessionResetError):
            await session.create_unidirectional_stream()
    facts = session.close_code, session.close_error, session.closed_by
    assert facts == (0, code, by)
    assert ("reset" in (session.close_reason or "")) == (by == "remote")
    assert session.close_reason


@pytest.mark.parametrize("how", EXPECTED)
async def test_a_client_ends_it(engine: str, certificate: Certificate, how: str) -> None:
    ready = asyncio.Event()
    result: asyncio.Queue[Any] = asyncio.Queue()

    async def handler(session: WebTransportSession) -> None:
        try:
            result.put_nowait(await look(session, how, ready))
        except BaseException as error:
            result.put_nowait(error)

    place = Place(engine, certificate)
    place.app.route(path="/")(handler)
    async with place, raw_client(place.port) as peer:
        peer.send(peer.open(unidirectional=True), h3.control_stream(h3.SETTINGS_OF["02"]))
        session_id = peer.open()
        peer.send(session_id, h3.connect_frame(extra=[("sec-webtransport-http3-draft02", "1")]))
        assert (await peer.response(session_id))[":status"] == "200"
        peer.send(peer.open(), h3.bidi_header(session_id) + b"hi")
        async with asyncio.timeout(10):
            await ready.wait()
        end(peer, session_id, how)
        async with asyncio.timeout(10):
            error = await result.get()
        if error is not None:
            raise error


@pytest.mark.parametrize("how", EXPECTED)
async def test_a_server_ends_it(engine: str, certificate: Certificate, how: str) -> None:
    ready = asyncio.Event()
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with RawServer(certificate) as server, WebTransportClient(config=config) as client:
        connecting = asyncio.ensure_future(client.connect(f"https://127.0.0.1:{server.port}/"))
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), h3.control_stream(SERVER_SETTINGS))
        session_id, _ = await peer.request()
        peer.send(session_id, h3.response_frame())
        session = await connecting
        peer.send(peer.open(), h3.bidi_header(session_id) + b"hi")
        looking = asyncio.ensure_future(look(session, how, ready))
        await until(lambda: ready.is_set() or looking.done())
        end(peer, session_id, how)
        await looking
