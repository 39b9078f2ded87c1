"""The stock HTTP/3 WebTransport (draft 02) of aioquic, or of its fork qh3, as an end.

    h3_peer.py aioquic
    h3_peer.py qh3

Both leave capsules, codes and subprotocols to their user, so they are written here.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import sys
from contextlib import AsyncExitStack, nullcontext
from typing import Any
from urllib.parse import urlsplit

import end

PACKAGE = sys.argv[1]
tools = importlib.import_module(f"{PACKAGE}.asyncio")
h3 = importlib.import_module(f"{PACKAGE}.h3.connection")
h3_events = importlib.import_module(f"{PACKAGE}.h3.events")
quic_events = importlib.import_module(f"{PACKAGE}.quic.events")
QuicConfiguration = importlib.import_module(f"{PACKAGE}.quic.configuration").QuicConfiguration

FIRST, LAST = 0x52E4A40FA8DB, 0x52E5AC983162
CLOSE_SESSION = bytes.fromhex("6843")


def to_wire(code: int) -> int:
    return FIRST + code + code // 0x1E


def from_wire(code: int) -> int | None:
    if not FIRST <= code <= LAST or (code - 0x21) % 0x1F == 0:
        return None
    return code - FIRST - (code - FIRST) // 0x1F


def close_capsule(code: int, reason: str) -> bytes:
    value = code.to_bytes(4, "big") + reason.encode()
    return CLOSE_SESSION + bytes([len(value)]) + value


class Stream(end.Stream):
    def __init__(self, connection: Connection, number: int) -> None:
        self._connection, self._number = connection, number
        self.received: asyncio.Queue[bytes | end.StreamEnd] = asyncio.Queue()
        self.stop_code: end.StreamEnd | None = None

    async def write(self, data: bytes) -> None:
        if self.stop_code is not None:
            raise self.stop_code
        self._connection.send(self._number, data, False)
        await asyncio.sleep(0)

    async def finish(self) -> None:
        self._connection.send(self._number, b"", True)

    async def read(self) -> bytes:
        data = await self.received.get()
        if isinstance(data, end.StreamEnd):
            raise data
        return data

    async def reset(self, code: int) -> None:
        self._connection._quic.reset_stream(self._number, to_wire(code))
        self._connection.transmit()

    async def stop(self, code: int) -> None:
        self._connection._quic.stop_stream(self._number, to_wire(code))
        self._connection.transmit()


class Session(end.Session):
    def __init__(self, connection: Connection, number: int) -> None:
        self._connection, self.number = connection, number
        self.answer: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.streams: dict[bool, asyncio.Queue[Stream]] = {
            False: asyncio.Queue(),
            True: asyncio.Queue(),
        }
        self.datagrams: asyncio.Queue[bytes] = asyncio.Queue()
        self.end: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.capsules = bytearray()

    async def open(self, unidirectional: bool) -> Stream:
        return self._connection.open(self.number, unidirectional)

    async def accept(self, unidirectional: bool) -> Stream:
        return await self.streams[unidirectional].get()

    async def send_datagram(self, data: bytes) -> None:
        number = self.number if PACKAGE == "aioquic" else self.number // 4
        self._connection.http.send_datagram(number, data)
        self._connection.transmit()

    async def receive_datagram(self) -> bytes:
        return await self.datagrams.get()

    async def close(self, code: int, reason: str) -> None:
        self._connection.http.send_data(self.number, close_capsule(code, reason), end_stream=True)
        self._connection.transmit()

    async def closed(self) -> tuple[int | None, str | None]:
        return await asyncio.shield(self.end)

    def ended(self) -> None:
        """The peer's half of the request stream has ended."""
        at = self.capsules.find(CLOSE_SESSION)
        value = self.capsules[at + 3 : at + 3 + self.capsules[at + 2]] if at >= 0 else bytes(4)
        if not self.end.done():
            self.end.set_result((int.from_bytes(value[:4], "big"), value[4:].decode()))


class Connection(tools.QuicConnectionProtocol):  # type: ignore[misc]
    def __init__(self, *args: Any, program: Program, **options: Any) -> None:
        super().__init__(*args, **options)
        self._program = program
        self.http: Any = None
        self.sessions: dict[int, Session] = {}
        self.streams: dict[int, Stream] = {}

    def quic_event_received(self, event: Any) -> None:
        if self.http is None:
            self.http = h3.H3Connection(self._quic, enable_webtransport=True)
        if isinstance(event, quic_events.StreamReset) and event.stream_id in self.streams:
            code = end.StreamEnd(from_wire(event.error_code))
            self.streams[event.stream_id].received.put_nowait(code)
        elif isinstance(event, quic_events.StopSendingReceived):
            if event.stream_id in self.streams:
                code = end.StreamEnd(from_wire(event.error_code))
                self.streams[event.stream_id].stop_code = code
        elif isinstance(event, quic_events.ConnectionTerminated):
            for session in self.sessions.values():
                session.ended()
        for http_event in self.http.handle_event(event):
            self._http_event(http_event)
        self.transmit()

    def _http_event(self, event: Any) -> None:
        if isinstance(event, h3_events.HeadersReceived):
            headers = {key.decode(): value.decode() for key, value in event.headers}
            if ":path" in headers:
                self._requested(event.stream_id, headers)
            elif event.stream_id in self.sessions:
                self.sessions[event.stream_id].answer.set_result(headers)
        elif isinstance(event, h3_events.WebTransportStreamDataReceived):
            stream = self.streams.get(event.stream_id)
            if stream is None:
                stream = self.streams[event.stream_id] = Stream(self, event.stream_id)
                if session := self.sessions.get(event.session_id):
                    session.streams[bool(event.stream_id & 2)].put_nowait(stream)
            if event.data:
                stream.received.put_nowait(event.data)
            if event.stream_ended:
                stream.received.put_nowait(b"")
        elif isinstance(event, h3_events.DatagramReceived):
            number = event.stream_id if PACKAGE == "aioquic" else event.flow_id * 4
            if session := self.sessions.get(number):
                session.datagrams.put_nowait(event.data)
        elif isinstance(event, h3_events.DataReceived) and event.stream_id in self.sessions:
            session = self.sessions[event.stream_id]
            session.capsules += event.data
            if event.stream_ended:
                session.ended()

    def _requested(self, number: int, headers: dict[str, str]) -> None:
        path = headers[":path"]
        if path != "/close" and not path.startswith("/lab/"):
            self.http.send_headers(number, [(b":status", b"404")], end_stream=True)
            return
        session = self.sessions[number] = Session(self, number)
        answer = [(b":status", b"200"), (b"sec-webtransport-http3-draft", b"draft02")]
        if f'"{end.PROTOCOL}"' in headers.get("wt-available-protocols", ""):
            session.protocol = end.PROTOCOL
            answer.append((b"wt-protocol", f'"{end.PROTOCOL}"'.encode()))
        self.http.send_headers(number, answer)
        if path == "/close":
            capsule = close_capsule(end.CLOSE_CODE, end.CLOSE_REASON)
            self.http.send_data(number, capsule, end_stream=True)
        else:
            self._program.arrived(path, session)

    async def request(self, authority: str, path: str, protocols: list[str]) -> Session:
        session = Session(self, self._quic.get_next_available_stream_id())
        self.sessions[session.number] = session
        headers = [
            (b":method", b"CONNECT"),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b":protocol", b"webtransport"),
            (b"sec-webtransport-http3-draft02", b"1"),
        ]
        if protocols:
            offered = ", ".join(f'"{protocol}"' for protocol in protocols)
            headers.append((b"wt-available-protocols", offered.encode()))
        self.http.send_headers(session.number, headers)
        self.transmit()
        answer = await session.answer
        if answer[":status"] != "200":
            raise end.Rejected(int(answer[":status"]))
        session.protocol = answer.get("wt-protocol", "").strip('"') or None
        return session

    def open(self, session: int, unidirectional: bool) -> Stream:
        number = self.http.create_webtransport_stream(session, unidirectional)
        if not unidirectional:
            # Not noted by the packages themselves, which take the answer for HTTP/3 frames.
            note = self.http._get_or_create_stream(number)
            with note if PACKAGE == "aioquic" else nullcontext(note) as entry:
                entry.frame_type = h3.FrameType.WEBTRANSPORT_STREAM
                entry.session_id = session
        stream = self.streams[number] = Stream(self, number)
        return stream

    def send(self, number: int, data: bytes, fin: bool) -> None:
        self._quic.send_stream_data(number, data, fin)
        self.transmit()


class Program(end.End):
    def __init__(self) -> None:
        super().__init__()
        self._stack = AsyncExitStack()

    def _configuration(self, **options: Any) -> Any:
        return QuicConfiguration(
            alpn_protocols=h3.H3_ALPN, max_datagram_frame_size=65536, **options
        )

    def _protocol(self, *args: Any, **options: Any) -> Connection:
        return Connection(*args, program=self, **options)

    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        configuration = self._configuration(is_client=False)
        configuration.load_cert_chain(certfile, keyfile)
        server = await tools.serve(
            "127.0.0.1", 0, configuration=configuration, create_protocol=self._protocol
        )
        return int(server._transport.get_extra_info("sockname")[1])

    async def start_session(self, url: str, protocols: list[str], small: bool) -> end.Session:
        parts = urlsplit(url)
        connection = await self._stack.enter_async_context(
            tools.connect(
                parts.hostname,
                parts.port,
                configuration=self._configuration(is_client=True, verify_mode=ssl.CERT_NONE),
                create_protocol=self._protocol,
            )
        )
        return await connection.request(parts.netloc, parts.path, protocols)


if __name__ == "__main__":
    end.main(Program)
