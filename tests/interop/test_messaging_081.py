"""RPC, PubSub and structured messages with the PyPI release 0.8.1 at the other end, both roles."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.datagram import StructuredDatagramTransport
from pywebtransport.pubsub import PubSubBroker, PubSubManager, SubscriptionFailedError
from pywebtransport.rpc import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcError,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.serializer import JSONSerializer
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StructuredStream
from tests.interop.release import LIMITS, RELEASE, Peer, PeerServer
from tests.support.laboratory import free_port

PEER = Peer("pywebtransport 0.8.1", "messaging_081_peer.py", RELEASE)


@dataclass
class Point:
    x: int
    label: str


REGISTRY = {0x0102: Point}
POINTS = [[number + 1, "é" * number + "!"] for number in range(20)]


def register(rpc: RpcManager) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    async def shout(text: str) -> str:
        return text.upper()

    def fail() -> None:
        raise ValueError("boom")

    def refuse() -> None:
        raise InvalidParamsError("not like that")

    def unserialisable() -> object:
        return object()

    async def call_back(method: str, *params: Any) -> Any:
        return await rpc.call(method, *params)

    async def forever() -> None:
        await asyncio.Event().wait()

    for function in (add, shout, fail, refuse, unserialisable, call_back, forever):
        rpc.register(func=function)


# The release as a client of ours.


async def serve_rpc(session: WebTransportSession) -> None:
    async for stream in session.incoming_bidirectional_streams():
        async with RpcManager(stream=stream, session_id="ours") as rpc:
            register(rpc)
            await rpc.wait_closed()


async def serve_jsonrpc(session: WebTransportSession) -> None:
    async for stream in session.incoming_bidirectional_streams():
        async with RpcManager(stream=stream, session_id="ours", jsonrpc=True) as rpc:
            register(rpc)
            await rpc.wait_closed()


async def serve_structured(session: WebTransportSession) -> None:
    async for stream in session.incoming_bidirectional_streams():
        messages = StructuredStream(stream=stream, serializer=JSONSerializer(), registry=REGISTRY)
        async for point in messages:
            await messages.send_obj(obj=Point(point.x + 1, point.label + "!"))


async def serve_structured_datagrams(session: WebTransportSession) -> None:
    transport = StructuredDatagramTransport(
        datagram_transport=await session.create_datagram_transport(),
        serializer=JSONSerializer(),
        registry=REGISTRY,
    )
    for _ in POINTS:
        point = await transport.receive_obj(timeout=10)
        await transport.send_obj(obj=Point(point.x + 1, point.label + "!"))
    await session.wait_closed()


def allow(session: WebTransportSession | None, action: str, topic: str) -> bool:
    return topic != "forbidden"


@asynccontextmanager
async def our_server(
    engine: str, directory: Path, *, jsonrpc: bool = False
) -> AsyncIterator[tuple[str, PubSubBroker]]:
    certificate = make_certificate(directory)
    config = ServerConfig(
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        bind_host="127.0.0.1",
        bind_port=free_port(),
        engine=engine,
        **LIMITS,
    )
    app = ServerApp(config=config)
    broker = PubSubBroker(authorize=allow)
    broker.mount(app, path="/pubsub")
    app.route(path="/rpc")(serve_jsonrpc if jsonrpc else serve_rpc)
    app.route(path="/structured")(serve_structured)
    app.route(path="/structured-datagrams")(serve_structured_datagrams)
    async with app:
        await app.server.listen()
        yield f"https://127.0.0.1:{config.bind_port}", broker


@pytest.mark.parametrize("jsonrpc", [False, True])
async def test_rpc_of_a_client(engine: str, tmp_path: Path, jsonrpc: bool) -> None:
    async with our_server(engine, tmp_path, jsonrpc=jsonrpc) as (url, _):
        result = await PEER.run_client(url, "rpc")
    assert result["sum"] == 3
    assert result["text"] == "HÉLLO"
    assert result["many"] == [2 * n for n in range(200)]
    assert result["large"] == 300_000
    assert result["back"] == 42
    prefix = "[Session:peer] [Session:ours] "
    assert result["missing"] == {"code": -32601, "message": f"{prefix}Method 'nothing' not found."}
    assert result["failed"] == {
        "code": -32603,
        "message": f"{prefix}Error executing 'fail': boom",
    }
    assert result["refused"] == {"code": -32602, "message": "[Session:peer] not like that"}
    assert result["unserialisable"]["code"] == -32603
    assert result["arguments"]["code"] == -32603
    assert result["timeout"] is True
    assert result["after"] == 2


async def test_pubsub_of_a_client(engine: str, tmp_path: Path) -> None:
    async with our_server(engine, tmp_path) as (url, broker):
        result = await PEER.run_client(url, "pubsub")
        assert broker.stats.messages_published == 302
        assert broker.stats.messages_dropped == 0
    published = [f"é {number}" for number in range(300)]
    assert result["exact"] == published
    assert result["pattern"] == [*published, "only the pattern"]
    assert result["refused"] == "not authorized"
    assert result["received"] == 601


@pytest.mark.parametrize("scenario", ["structured", "structured_datagrams"])
async def test_structured_messages_of_a_client(engine: str, tmp_path: Path, scenario: str) -> None:
    async with our_server(engine, tmp_path) as (url, _):
        assert (await PEER.run_client(url, scenario))["points"] == POINTS


# Ours as a client of the release.


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[PeerServer]:
    certificate = make_certificate(tmp_path)
    process = await PEER.start("serve", certificate.certfile, certificate.keyfile)
    server = PeerServer(PEER, process)
    try:
        server.url = f"https://127.0.0.1:{(await server.next('listening'))['port']}"
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


@pytest_asyncio.fixture
async def client(engine: str) -> AsyncIterator[WebTransportClient]:
    config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE, **LIMITS)
    async with WebTransportClient(config=config) as client:
        yield client


@pytest.mark.parametrize("jsonrpc", [False, True])
async def test_rpc_with_a_server(
    server: PeerServer, client: WebTransportClient, jsonrpc: bool
) -> None:
    session = await client.connect(url=f"{server.url}/rpc")
    stream = await session.create_bidirectional_stream()
    async with RpcManager(stream=stream, session_id="ours", jsonrpc=jsonrpc) as rpc:
        register(rpc)
        assert await rpc.call("add", 1, 2) == 3
        assert await rpc.call("shout", "héllo") == "HÉLLO"
        sums = await asyncio.gather(*(rpc.call("add", n, n) for n in range(200)))
        assert sums == [2 * n for n in range(200)]
        assert len(await rpc.call("shout", "x" * 300_000)) == 300_000
        assert await rpc.call("call_back", "add", 20, 22) == 42
        with pytest.raises(MethodNotFoundError) as missing:
            await rpc.call("nothing")
        assert missing.value.message.startswith("[Session:ours] [Session:peer] ")
        with pytest.raises(RpcError, match="Error executing 'fail': boom"):
            await rpc.call("fail")
        with pytest.raises(InvalidParamsError, match="not like that"):
            await rpc.call("refuse")
        # An unserialisable result of this side is an error there, and comes back as one.
        with pytest.raises(RpcError, match="not JSON serializable"):
            await rpc.call("call_back", "unserialisable")
        with pytest.raises(RpcTimeoutError):
            await rpc.call("forever", timeout=0.2)
        await rpc.notify("add", 1, 2)
        assert await rpc.call("add", 1, 1) == 2


async def test_pubsub_with_a_server(server: PeerServer, client: WebTransportClient) -> None:
    session = await client.connect(url=f"{server.url}/pubsub")
    stream = await session.create_bidirectional_stream()
    async with PubSubManager(stream=stream) as pubsub:
        with pytest.raises(SubscriptionFailedError, match="not for you"):
            await pubsub.subscribe(topic="forbidden")
        async with await pubsub.subscribe(topic="a.b", max_queue_size=1000) as subscription:
            for number in range(300):
                await pubsub.publish(topic="a.b", data=f"é {number}")
            await pubsub.publish(topic="x", data=b"nobody")
            await pubsub.publish(topic="a.b", data=b"")
            messages = subscription.messages()
            received = [(await anext(messages)).data.decode() for _ in range(301)]
        assert received == [*(f"é {number}" for number in range(300)), ""]
        assert pubsub.stats.messages_received == 301


async def test_structured_streams_with_a_server(
    server: PeerServer, client: WebTransportClient
) -> None:
    session = await client.connect(url=f"{server.url}/structured")
    messages = await session.create_structured_stream(
        serializer=JSONSerializer(), registry=REGISTRY
    )
    for number, (x, label) in enumerate(POINTS):
        await messages.send_obj(obj=Point(number, "é" * number))
        assert await messages.receive_obj() == Point(x, label)


async def test_structured_datagrams_with_a_server(
    server: PeerServer, client: WebTransportClient
) -> None:
    session = await client.connect(url=f"{server.url}/structured-datagrams")
    transport = await session.create_structured_datagram_transport(
        serializer=JSONSerializer(), registry=REGISTRY
    )
    for number, (x, label) in enumerate(POINTS):
        await transport.send_obj(obj=Point(number, "é" * number))
        assert await transport.receive_obj(timeout=10) == Point(x, label)
