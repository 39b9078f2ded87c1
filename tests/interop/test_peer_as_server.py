"""Our client against other implementations' servers."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.events import Event
from pywebtransport.exceptions import ClientError, SessionError, StreamError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import EventType
from tests.interop.conftest import AIOQUIC, LIMITS, PeerServer


@pytest_asyncio.fixture
async def client(engine: str) -> AsyncIterator[WebTransportClient]:
    config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE, **LIMITS)
    async with WebTransportClient(config=config) as client:
        yield client


async def test_bidirectional_echo(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/echo")
    stream = await session.create_bidirectional_stream()
    sent = os.urandom(300_000)
    _, received = await asyncio.gather(stream.write_all(data=sent), stream.read_all())
    assert received == sent


async def test_unidirectional_echo(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/echo")
    sent = {os.urandom(1000) for _ in range(10)}
    for data in sent:
        await (await session.create_unidirectional_stream()).write_all(data=data)
    received = set()
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportReceiveStream)
        received.add(await stream.read_all())
        if len(received) == len(sent):
            break
    assert received == sent


async def test_datagram_echo(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/echo")
    transport = await session.create_datagram_transport()
    for _ in range(20):
        sent = os.urandom(500)
        await transport.send(data=sent)
        assert await transport.receive(timeout=10) == sent


async def test_streams_that_the_server_opens(
    server: PeerServer, client: WebTransportClient
) -> None:
    session = await client.connect(url=f"{server.url}/streams")
    kinds = []
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportReceiveStream)
        text = (await stream.read_all()).decode()
        kinds.append((text, isinstance(stream, WebTransportStream)))
        if len(kinds) == 6:
            break
    assert sorted(kinds) == [
        *((f"bidirectional {i}", True) for i in range(3)),
        *((f"unidirectional {i}", False) for i in range(3)),
    ]


async def test_reset_code_of_the_server(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/reset")
    stream = await session.create_bidirectional_stream()
    await stream.write(data=b"hello")
    assert await stream.read() == b"so far so good"
    await stream.write(data=b"now")
    with pytest.raises(StreamError) as caught:
        await stream.read()
    assert caught.value.error_code == 77


async def test_close_of_the_client(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/echo")
    await session.close(code=4242, reason="bye é")
    said = await server.next("session_closed")
    assert (said["code"], said["reason"]) == (4242, "bye é")


async def test_close_of_the_server(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/close-later")
    closes: list[tuple[int, str]] = []

    def closed(event: Event) -> None:
        closes.append((event.data["code"], event.data["reason"]))

    session.once(event_type=EventType.SESSION_CLOSED, handler=closed)
    stream = await session.create_bidirectional_stream()
    await stream.write(data=b"close now")
    await session.wait_closed()
    assert closes == [(4242, "bye é")]


@pytest.mark.parametrize("peer", [AIOQUIC], ids=["aioquic"])
async def test_close_in_the_packet_of_the_answer(
    server: PeerServer, client: WebTransportClient
) -> None:
    # The client learns of it while it connects, or from the session it got.
    with pytest.raises((ClientError, SessionError), match=r"code 4242 \(bye é\)"):
        session = await client.connect(url=f"{server.url}/close")
        await session.wait_closed()
        await session.create_bidirectional_stream()


async def test_unknown_path_is_rejected(server: PeerServer, client: WebTransportClient) -> None:
    with pytest.raises(ClientError, match="HTTP status 404"):
        await client.connect(url=f"{server.url}/nowhere")


async def use(session: WebTransportSession) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data=b"one of many")
    return await stream.read_all()


async def test_five_sessions_at_once(server: PeerServer, client: WebTransportClient) -> None:
    sessions = await asyncio.gather(*(client.connect(url=f"{server.url}/echo") for _ in range(5)))
    assert await asyncio.gather(*map(use, sessions)) == [b"one of many"] * 5
