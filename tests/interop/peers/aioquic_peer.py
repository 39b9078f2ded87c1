"""aioquic's stock HTTP/3 WebTransport (draft 02) as a server and as a client.

    aioquic_peer.py serve CERTFILE KEYFILE
    aioquic_peer.py connect PORT SCENARIO

One JSON object a line on standard output. The server says where it listens and what it sees;
the client says what came of the scenario.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, FrameType, H3Connection
from aioquic.h3.events import (
    DatagramReceived,
    DataReceived,
    H3Event,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset

APPLICATION_ERROR = 0x52E4A40FA8DB
CLOSE_SESSION = bytes.fromhex("6843")
CODE, REASON = 4242, "bye é"


def say(event: str, **values: Any) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


def to_http(code: int) -> int:
    return APPLICATION_ERROR + code + code // 0x1E


def from_http(code: int) -> int:
    shifted = code - APPLICATION_ERROR
    return shifted - shifted // 0x1F


def close_capsule(code: int, reason: str) -> bytes:
    value = code.to_bytes(4, "big") + reason.encode()
    return CLOSE_SESSION + bytes([len(value)]) + value


class Peer(QuicConnectionProtocol):
    """What both roles do: keep streams' bytes, echo, and report."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http: H3Connection | None = None
        self.capsules = bytearray()
        self.received: dict[int, bytearray] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        if self.http is None:
            self.http = H3Connection(self._quic, enable_webtransport=True)
        if isinstance(event, StreamReset):
            self.stream_reset(event.stream_id, from_http(event.error_code))
        elif isinstance(event, StopSendingReceived):
            self.stream_stopped(event.stream_id, from_http(event.error_code))
        elif isinstance(event, ConnectionTerminated):
            self.terminated()
        for http_event in self.http.handle_event(event):
            self.http_event(http_event)
        self.transmit()

    def http_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.headers_received(
                event.stream_id, {k.decode(): v.decode() for k, v in event.headers}
            )
        elif isinstance(event, WebTransportStreamDataReceived):
            buffer = self.received.setdefault(event.stream_id, bytearray())
            buffer += event.data
            self.stream_data(event.session_id, event.stream_id, event.data, event.stream_ended)
        elif isinstance(event, DatagramReceived):
            self.datagram(event.stream_id, event.data)
        elif isinstance(event, DataReceived):
            self.capsules += event.data
            if event.stream_ended:
                self.session_ended(event.stream_id)

    def session_ended(self, session_id: int) -> None:
        code, reason = 0, ""
        at = self.capsules.find(CLOSE_SESSION)
        if at >= 0:
            value = self.capsules[at + 3 : at + 3 + self.capsules[at + 2]]
            code, reason = int.from_bytes(value[:4], "big"), value[4:].decode()
        self.session_closed(session_id, code, reason)

    def send(self, stream_id: int, data: bytes, fin: bool) -> None:
        self._quic.send_stream_data(stream_id, data, fin)

    def open(self, session_id: int, unidirectional: bool) -> int:
        assert self.http is not None
        stream_id = self.http.create_webtransport_stream(session_id, unidirectional)
        if not unidirectional:
            # Not noted by aioquic itself, which would take the answer for HTTP/3 frames.
            with self.http._get_or_create_stream(stream_id) as stream:
                stream.frame_type = FrameType.WEBTRANSPORT_STREAM
                stream.session_id = session_id
        return stream_id

    # what a role overrides
    def headers_received(self, session_id: int, headers: dict[str, str]) -> None: ...
    def stream_data(self, session: int, stream: int, data: bytes, fin: bool) -> None: ...
    def datagram(self, session_id: int, data: bytes) -> None: ...
    def stream_reset(self, stream_id: int, code: int) -> None: ...
    def stream_stopped(self, stream_id: int, code: int) -> None: ...
    def session_closed(self, session_id: int, code: int, reason: str) -> None: ...
    def terminated(self) -> None: ...


class Server(Peer):
    """The routes that `headers_received` names; anything else is 404."""

    paths: dict[int, str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.paths = {}

    def headers_received(self, session_id: int, headers: dict[str, str]) -> None:
        assert self.http is not None
        path = headers[":path"]
        say("request", path=path, protocol=headers.get(":protocol"))
        found = path in ("/echo", "/streams", "/reset", "/stop", "/close", "/close-later")
        status = b"200" if found else b"404"
        self.http.send_headers(session_id, [(b":status", status)], end_stream=not found)
        self.paths[session_id] = path
        if path == "/streams":
            for i in range(3):
                self.send(self.open(session_id, False), f"bidirectional {i}".encode(), True)
                self.send(self.open(session_id, True), f"unidirectional {i}".encode(), True)
        elif path == "/close":
            self.close_session(session_id)

    def close_session(self, session_id: int) -> None:
        assert self.http is not None
        self.http.send_data(session_id, close_capsule(CODE, REASON), end_stream=True)

    def stream_data(self, session: int, stream: int, data: bytes, fin: bool) -> None:
        path, unidirectional = self.paths[session], bool(stream & 2)
        if path == "/echo" and unidirectional and fin:
            self.send(self.open(session, True), bytes(self.received.pop(stream)), True)
        elif path == "/echo" and not unidirectional:
            self.send(stream, data, fin)
        elif path == "/reset":
            # The first bytes are answered, the next ones reset the stream.
            if len(self.received[stream]) == len(data):
                self.send(stream, b"so far so good", False)
            else:
                self._quic.reset_stream(stream, to_http(77))
        elif path == "/stop":
            self._quic.stop_stream(stream, to_http(55))
        elif path == "/close-later":
            self.close_session(session)

    def datagram(self, session_id: int, data: bytes) -> None:
        assert self.http is not None
        self.http.send_datagram(session_id, data)

    def stream_reset(self, stream_id: int, code: int) -> None:
        say("stream_reset", code=code)

    def stream_stopped(self, stream_id: int, code: int) -> None:
        say("stream_stopped", code=code)

    def session_closed(self, session_id: int, code: int, reason: str) -> None:
        say("session_closed", code=code, reason=reason)
        if not self.paths[session_id].startswith("/close"):
            self.send(session_id, b"", True)


async def run_server(certfile: str, keyfile: str) -> None:
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN, is_client=False, max_datagram_frame_size=65536
    )
    configuration.load_cert_chain(certfile, keyfile)
    protocols: list[Server] = []

    def create(*args: Any, **kwargs: Any) -> Server:
        protocols.append(Server(*args, **kwargs))
        return protocols[-1]

    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=create)
    say("listening", port=server._transport.get_extra_info("sockname")[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


class Client(Peer):
    """Events as queues: a scenario awaits what it expects."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.responses: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.ended: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.resets: asyncio.Queue[int] = asyncio.Queue()
        self.stops: asyncio.Queue[int] = asyncio.Queue()
        self.closes: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    def headers_received(self, session_id: int, headers: dict[str, str]) -> None:
        self.responses.put_nowait(headers)

    def stream_data(self, session: int, stream: int, data: bytes, fin: bool) -> None:
        self.chunks.put_nowait(data)
        if fin:
            self.ended.put_nowait((stream, bytes(self.received.pop(stream))))

    def datagram(self, session_id: int, data: bytes) -> None:
        self.datagrams.put_nowait(data)

    def stream_reset(self, stream_id: int, code: int) -> None:
        self.resets.put_nowait(code)

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self.stops.put_nowait(code)

    def session_closed(self, session_id: int, code: int, reason: str) -> None:
        self.closes.put_nowait((code, reason))

    def terminated(self) -> None:
        self.closes.put_nowait((0, "the connection was closed"))

    async def request(self, path: str) -> tuple[int, int]:
        assert self.http is not None
        session_id = self._quic.get_next_available_stream_id()
        self.http.send_headers(
            session_id,
            [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", path.encode()),
                (b":protocol", b"webtransport"),
                (b"sec-webtransport-http3-draft02", b"1"),
            ],
        )
        self.transmit()
        response = await self.responses.get()
        return session_id, int(response[":status"])

    def write(self, stream_id: int, data: bytes, fin: bool) -> None:
        self.send(stream_id, data, fin)
        self.transmit()


async def bidirectional(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/echo")
    sent = os.urandom(300_000)
    client.write(client.open(session, False), sent, True)
    _, received = await client.ended.get()
    return {"equal": received == sent, "bytes": len(received)}


async def unidirectional(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/echo")
    sent = {os.urandom(1000) for _ in range(10)}
    for data in sent:
        client.write(client.open(session, True), data, True)
    received = {(await client.ended.get())[1] for _ in sent}
    return {"equal": received == sent, "streams": len(received)}


async def datagrams(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/echo")
    assert client.http is not None
    equal = 0
    for _ in range(20):
        data = os.urandom(500)
        client.http.send_datagram(session, data)
        client.transmit()
        equal += await client.datagrams.get() == data
    return {"equal": equal}


async def server_streams(client: Client) -> dict[str, Any]:
    await client.request("/streams")
    texts = []
    for _ in range(6):
        stream, text = await client.ended.get()
        texts.append(text.decode())
        if not stream & 2:
            client.write(stream, b"answer to " + text, True)
    await client.closes.get()  # the server has the answers
    return {"texts": sorted(texts)}


async def reset(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/observe/2")
    first, second = client.open(session, False), client.open(session, False)
    client.write(first, b"reset me", False)
    await client.chunks.get()
    client._quic.reset_stream(first, to_http(77))
    client.write(second, b"stop me", False)
    await client.chunks.get()
    client._quic.stop_stream(second, to_http(55))
    client.transmit()
    await client.closes.get()
    return {}


async def reset_by_server(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/reset")
    stream = client.open(session, False)
    client.write(stream, b"hello", False)
    await client.chunks.get()
    client.write(stream, b"now", False)
    return {"code": await client.resets.get()}


async def stop_by_server(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/stop")
    client.write(client.open(session, False), b"hello", False)
    return {"code": await client.stops.get()}


async def close(client: Client) -> dict[str, Any]:
    session, _ = await client.request("/observe/1")
    assert client.http is not None
    client.http.send_data(session, close_capsule(CODE, REASON), end_stream=True)
    client.transmit()
    await client.closes.get()  # the server's end of the CONNECT stream, or of the connection
    return {}


async def close_by_server(client: Client) -> dict[str, Any]:
    await client.request("/close")
    code, reason = await client.closes.get()
    return {"code": code, "reason": reason}


async def rejected(client: Client) -> dict[str, Any]:
    _, status = await client.request("/nowhere")
    return {"status": status}


SCENARIOS: dict[str, Callable[[Client], Any]] = {
    scenario.__name__: scenario
    for scenario in (
        *(bidirectional, unidirectional, datagrams, server_streams, reset, reset_by_server),
        *(stop_by_server, close, close_by_server, rejected),
    )
}


async def run_client(port: int, scenario: str) -> None:
    configuration = QuicConfiguration(
        alpn_protocols=H3_ALPN,
        is_client=True,
        max_datagram_frame_size=65536,
        verify_mode=ssl.CERT_NONE,
    )
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Client
    ) as client:
        assert isinstance(client, Client)
        say("result", **await SCENARIOS[scenario](client))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(run_server(sys.argv[2], sys.argv[3]))
    else:
        asyncio.run(run_client(int(sys.argv[2]), sys.argv[3]))
