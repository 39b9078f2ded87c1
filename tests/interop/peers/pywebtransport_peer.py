"""The PyPI release pywebtransport 0.8.1 (draft 13, raw capsules) as a server and as a client.

    pywebtransport_peer.py serve CERTFILE KEYFILE
    pywebtransport_peer.py connect PORT SCENARIO

Runs in an environment of its own; speaks on standard output like aioquic_peer.py. Session flow
control is set everywhere: with that release's defaults of 0 no stream can be opened.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from typing import Any

import pywebtransport
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ClientError
from pywebtransport.types import EventType

CODE, REASON = 4242, "bye é"
LIMITS = {
    "initial_max_data": 1 << 24,
    "initial_max_streams_bidi": 100,
    "initial_max_streams_uni": 100,
}


def say(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def closing(session: Any) -> asyncio.Future[dict[str, Any]]:
    """What the protocol tells of the session's end: code and reason."""
    future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def closed(event: Any) -> None:
        if event.data["session_id"] == session.session_id and not future.done():
            future.set_result({"code": event.data["code"], "reason": event.data["reason"]})

    session.protocol_handler.on(event_type=EventType.SESSION_CLOSED, handler=closed)
    return future


async def echo_streams(session: Any) -> None:
    async def answer(stream: Any) -> None:
        data = await stream.read_all()
        if not hasattr(stream, "write"):
            stream = await session.create_unidirectional_stream()
        await stream.write_all(data=data)

    async with asyncio.TaskGroup() as tasks:
        async for stream in session.incoming_streams():
            tasks.create_task(answer(stream))


async def echo_datagrams(session: Any) -> None:
    transport = await session.create_datagram_transport()
    while True:
        await transport.send(data=await transport.receive())


async def until_closed(session: Any, *coroutines: Any) -> None:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    say("session_closed", **await closing(session))
    for task in tasks:
        task.cancel()


async def run_server(certfile: str, keyfile: str) -> None:
    config = ServerConfig(
        certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1", log_level="ERROR", **LIMITS
    )
    app = ServerApp(config=config)

    @app.route(path="/echo")
    async def echo(session: Any) -> None:
        say("request", path=session.path)
        await until_closed(session, echo_streams(session), echo_datagrams(session))

    @app.route(path="/streams")
    async def streams(session: Any) -> None:
        async def open_all() -> None:
            for i in range(3):
                stream = await session.create_bidirectional_stream()
                await stream.write_all(data=f"bidirectional {i}".encode())
                stream = await session.create_unidirectional_stream()
                await stream.write_all(data=f"unidirectional {i}".encode())

        await until_closed(session, open_all())

    @app.route(path="/reset")
    async def reset(session: Any) -> None:
        async def serve_one() -> None:
            async for stream in session.incoming_streams():
                await stream.read()
                await stream.write(data=b"so far so good")
                await stream.read()
                await stream.abort(code=77)

        await until_closed(session, serve_one())

    @app.route(path="/close-later")
    async def close(session: Any) -> None:
        async for _ in session.incoming_streams():
            break
        await session.close(code=CODE, reason=REASON, close_connection=False)

    async with app:
        server = app.server
        # Port 0 falls back to the configured port there, so a free one is asked for first.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await server.listen(host="127.0.0.1", port=port)
        say("listening", port=port)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        # Its own shutdown can hang in leaked tasks; nothing of it is under test.
        os._exit(0)


async def bidirectional(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/echo")
    stream = await session.create_bidirectional_stream()
    sent = os.urandom(300_000)
    await stream.write_all(data=sent)
    received = await stream.read_all()
    await session.close()
    return {"equal": received == sent, "bytes": len(received)}


async def unidirectional(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/echo")
    sent = {os.urandom(1000) for _ in range(10)}
    for data in sent:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data=data)
    received = set()
    async for stream in session.incoming_streams():
        received.add(await stream.read_all())
        if len(received) == len(sent):
            break
    await session.close()
    return {"equal": received == sent, "streams": len(received)}


async def datagrams(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/echo")
    transport = await session.create_datagram_transport()
    equal = 0
    for _ in range(20):
        data = os.urandom(500)
        await transport.send(data=data)
        equal += await transport.receive(timeout=10) == data
    await session.close()
    return {"equal": equal}


async def server_streams(client: Any, base: str) -> dict[str, Any]:
    # That release loses streams that come with the answer to its request.
    session = await client.connect(url=f"{base}/streams-later")
    await (await session.create_bidirectional_stream()).write_all(data=b"ready")
    texts = []
    async for stream in session.incoming_streams():
        texts.append((await stream.read_all()).decode())
        if hasattr(stream, "write"):
            await stream.write_all(data=f"answer to {texts[-1]}".encode())
        if len(texts) == 6:
            break
    return {"texts": sorted(texts)}


async def reset(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/observe/1")
    closed = closing(session)
    stream = await session.create_bidirectional_stream()
    await stream.write(data=b"reset me")
    await stream.read()
    await stream.abort(code=77)  # resets and asks to stop, both with the code
    await closed
    return {}


async def reset_by_server(client: Any, base: str) -> dict[str, Any]:
    # A received reset's code is not reported by that release, only the end of the stream.
    session = await client.connect(url=f"{base}/reset")
    stream = await session.create_bidirectional_stream()
    await stream.write(data=b"hello")
    first = await stream.read()
    await stream.write(data=b"now")
    await stream.wait_closed()
    await session.close()
    return {"first": first.decode()}


async def close(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/observe/1")
    await session.close(code=CODE, reason=REASON, close_connection=False)
    return {}


async def close_by_server(client: Any, base: str) -> dict[str, Any]:
    session = await client.connect(url=f"{base}/close-later")
    closed = closing(session)
    stream = await session.create_bidirectional_stream()
    await stream.write(data=b"go")
    return dict(await closed)


async def rejected(client: Any, base: str) -> dict[str, Any]:
    try:
        await client.connect(url=f"{base}/nowhere")
    except ClientError as error:
        return {"status": int(str(error).rpartition("HTTP status ")[2][:3])}
    return {"status": 200}


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        *(bidirectional, unidirectional, datagrams, server_streams, reset, reset_by_server),
        *(close, close_by_server, rejected),
    )
}


async def run_client(port: int, scenario: str) -> None:
    config = ClientConfig(verify_mode=ssl.CERT_NONE, log_level="ERROR", **LIMITS)
    async with WebTransportClient(config=config) as client:
        result = await SCENARIOS[scenario](client, f"https://127.0.0.1:{port}")
        say("result", **result)


if __name__ == "__main__":
    assert pywebtransport.__version__ == "0.8.1"
    if sys.argv[1] == "serve":
        asyncio.run(run_server(sys.argv[2], sys.argv[3]))
    else:
        asyncio.run(run_client(int(sys.argv[2]), sys.argv[3]))
