"""RPC, PubSub and structured messages of the PyPI release 0.8.1, as a server and as a client.

    messaging_081_peer.py serve CERTFILE KEYFILE
    messaging_081_peer.py connect PORT SCENARIO

Runs in that release's environment; speaks JSON lines on standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from dataclasses import dataclass
from typing import Any

from pywebtransport_081 import LIMITS

import pywebtransport
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.datagram import StructuredDatagramTransport
from pywebtransport.pubsub import PubSubManager, SubscriptionFailedError
from pywebtransport.rpc import InvalidParamsError, RpcError, RpcManager, RpcTimeoutError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.stream import StructuredStream
from pywebtransport.types import EventType


@dataclass
class Point:
    x: int
    label: str


# That release does not resolve annotations that are strings.
Point.__annotations__ = {"x": int, "label": str}
for each in Point.__dataclass_fields__.values():
    each.type = Point.__annotations__[each.name]

REGISTRY = {0x0102: Point}


def say(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def closing(session: Any) -> asyncio.Future[None]:
    """Done when the session is."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def closed(event: Any) -> None:
        if event.data["session_id"] == session.session_id and not future.done():
            future.set_result(None)

    session.protocol_handler.on(event_type=EventType.SESSION_CLOSED, handler=closed)
    return future


def register(rpc: RpcManager) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    async def shout(text: str) -> str:
        return text.upper()

    def fail() -> None:
        raise ValueError("boom")

    def refuse() -> None:
        raise InvalidParamsError("not like that")

    async def call_back(method: str, *params: Any) -> Any:
        return await rpc.call(method, *params)

    async def forever() -> None:
        await asyncio.Event().wait()

    for function in (add, shout, fail, refuse, call_back, forever):
        rpc.register(func=function)


async def serve_rpc(session: Any) -> None:
    ended = closing(session)
    async for stream in session.incoming_streams():
        async with RpcManager(stream=stream, session_id="peer", concurrency_limit=10) as rpc:
            register(rpc)
            await ended
            break


async def serve_pubsub(session: Any) -> None:
    """The release has no such server; this is what its client expects of one."""
    async for stream in session.incoming_streams():
        topics: set[str] = set()
        while line := (await stream.readline()).decode():
            verb, *words = line.split()
            if verb == "SUB" and words[0].startswith("forbidden"):
                await stream.write(data=f"SUB-FAIL {words[0]} not for you\n".encode())
            elif verb == "SUB":
                topics.add(words[0])
                await stream.write(data=f"SUB-OK {words[0]}\n".encode())
            elif verb == "UNSUB":
                topics.discard(words[0])
            elif verb == "PUB":
                data = await stream.readexactly(n=int(words[1])) if int(words[1]) else b""
                if words[0] in topics:
                    message = f"MSG {words[0]} {len(data)}\n".encode() + data
                    await stream.write(data=message)
        break


async def serve_structured(session: Any) -> None:
    async for stream in session.incoming_streams():
        structured = StructuredStream(stream=stream, serializer=JSONSerializer(), registry=REGISTRY)
        async for point in structured:
            await structured.send_obj(obj=Point(point.x + 1, point.label + "!"))
        break


async def serve_structured_datagrams(session: Any) -> None:
    transport = StructuredDatagramTransport(
        datagram_transport=await session.create_datagram_transport(),
        serializer=JSONSerializer(),
        registry=REGISTRY,
    )
    while True:
        point = await transport.receive_obj()
        await transport.send_obj(obj=Point(point.x + 1, point.label + "!"))


async def run_server(certfile: str, keyfile: str) -> None:
    config = ServerConfig(
        certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1", log_level="ERROR", **LIMITS
    )
    app = ServerApp(config=config)
    for path, handler in {
        "/rpc": serve_rpc,
        "/pubsub": serve_pubsub,
        "/structured": serve_structured,
        "/structured-datagrams": serve_structured_datagrams,
    }.items():
        app.route(path=path)(handler)
    async with app:
        # Port 0 falls back to the configured port there, so a free one is asked for first.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await app.server.listen(host="127.0.0.1", port=port)
        say("listening", port=port)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        # Its own shutdown can hang in leaked tasks; nothing of it is under test.
        os._exit(0)


async def failure(call: Any) -> dict[str, Any]:
    try:
        return {"result": await call}
    except RpcError as error:
        return {"code": int(error.error_code), "message": error.message}


async def rpc(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/rpc")
    stream = await session.create_bidirectional_stream()
    async with RpcManager(stream=stream, session_id="peer") as manager:
        register(manager)
        result = {
            "sum": await manager.call("add", 1, 2),
            "text": await manager.call("shout", "héllo"),
            "many": await asyncio.gather(*(manager.call("add", n, n) for n in range(200))),
            "large": len(await manager.call("shout", "x" * 300_000)),
            "back": await manager.call("call_back", "add", 20, 22),
            "missing": await failure(manager.call("nothing")),
            "failed": await failure(manager.call("fail")),
            "refused": await failure(manager.call("refuse")),
            "unserialisable": await failure(manager.call("unserialisable")),
            "arguments": await failure(manager.call("add", 1)),
        }
        try:
            await manager.call("forever", timeout=0.2)
        except RpcTimeoutError:
            result["timeout"] = True
        result["after"] = await manager.call("add", 1, 1)
    await session.close()
    return result


async def pubsub(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/pubsub")
    stream = await session.create_bidirectional_stream()
    async with PubSubManager(stream=stream) as manager:
        exact = await manager.subscribe(topic="a.b", max_queue_size=1000)
        pattern = await manager.subscribe(topic="a.*", max_queue_size=1000)
        refused = ""
        try:
            await manager.subscribe(topic="forbidden")
        except SubscriptionFailedError as error:
            refused = error.message
        async with exact, pattern:
            for number in range(300):
                await manager.publish(topic="a.b", data=f"é {number}")
            await manager.publish(topic="a.c", data=b"only the pattern")
            await manager.publish(topic="x", data=b"nobody")
            exact_messages = [data.decode() async for data in take(exact, 300)]
            pattern_messages = [data.decode() async for data in take(pattern, 301)]
        stats = manager.stats.to_dict()
    await session.close()
    return {
        "exact": exact_messages,
        "pattern": pattern_messages,
        "refused": refused,
        "received": stats["messages_received"],
    }


async def take(subscription: Any, count: int) -> Any:
    async for data in subscription:
        yield data
        count -= 1
        if not count:
            return


async def structured(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/structured")
    stream = await session.create_bidirectional_stream()
    messages = StructuredStream(stream=stream, serializer=JSONSerializer(), registry=REGISTRY)
    points = []
    for number in range(20):
        await messages.send_obj(obj=Point(number, "é" * number))
        point = await messages.receive_obj()
        points.append([point.x, point.label])
    await messages.close()
    await session.close()
    return {"points": points}


async def structured_datagrams(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/structured-datagrams")
    transport = StructuredDatagramTransport(
        datagram_transport=await session.create_datagram_transport(),
        serializer=JSONSerializer(),
        registry=REGISTRY,
    )
    points = []
    for number in range(20):
        await transport.send_obj(obj=Point(number, "é" * number))
        point = await transport.receive_obj(timeout=10)
        points.append([point.x, point.label])
    await session.close()
    return {"points": points}


SCENARIOS = {each.__name__: each for each in (rpc, pubsub, structured, structured_datagrams)}


async def run_client(port: int, scenario: str) -> None:
    config = ClientConfig(verify_mode=ssl.CERT_NONE, log_level="ERROR", **LIMITS)
    async with WebTransportClient(config=config) as client:
        say("result", **await SCENARIOS[scenario](client, f"https://127.0.0.1:{port}"))


if __name__ == "__main__":
    assert pywebtransport.__version__ == "0.8.1"
    if sys.argv[1] == "serve":
        asyncio.run(run_server(sys.argv[2], sys.argv[3]))
    else:
        asyncio.run(run_client(int(sys.argv[2]), sys.argv[3]))
