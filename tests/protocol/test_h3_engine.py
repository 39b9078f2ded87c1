"""The frame-level engine against aioquic's H3Connection, over every QUIC, and against bad peers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DatagramReceived as PeerDatagramReceived
from aioquic.h3.events import HeadersReceived as PeerHeadersReceived
from aioquic.h3.events import WebTransportStreamDataReceived as PeerStreamDataReceived

from pywebtransport import _native
from pywebtransport import constants as c
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import Event
from pywebtransport.exceptions import ProtocolError
from pywebtransport.protocol.events import (
    CapsuleReceived,
    DatagramReceived,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from pywebtransport.protocol.h3_engine import (
    MAX_CAPSULE_SIZE,
    MAX_CONTROL_FRAME_SIZE,
    WebTransportH3Engine,
)
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .link import CLIENT, HORIZON, SERVER, quic_connection

REQUEST = {
    ":method": "CONNECT",
    ":scheme": "https",
    ":authority": "localhost",
    ":path": "/chat",
    ":protocol": "webtransport",
}


class Pair:
    """The engine and aioquic's HTTP/3, each on its QUIC connection, in one of the two roles."""

    def __init__(self, kind: str, certificate: Certificate, *, is_client: bool) -> None:
        self.now = 1000.0
        kinds = (kind, "aioquic") if is_client else ("aioquic", kind)
        client = quic_connection(kinds[0], certificate, is_client=True)
        client.connect(SERVER, self.now)
        first = [data for data, _ in client.datagrams_to_send(self.now)]
        server = quic_connection(kinds[1], certificate, is_client=False, first_packet=first[0])
        for data in first:
            server.receive_datagram(data, CLIENT, self.now)
        self.ends = {True: client, False: server}
        self.quic = self.ends[is_client]
        self.peer_quic = self.ends[not is_client]
        self.config = ClientConfig() if is_client else ServerConfig()
        self.engine: WebTransportH3Engine | None = None
        self.peer: H3Connection | None = None
        self.settings: list[dict[int, int]] = []
        self.events: list[Any] = []
        self.peer_events: list[Any] = []

    async def settle(self) -> None:
        """Until both ends have nothing more to say, pacing and acknowledgements included."""
        limit = self.now + HORIZON
        while True:
            if await self._exchange():
                continue
            timers = [at for end in self.ends.values() if (at := end.get_timer()) is not None]
            if not timers or min(timers) > limit:
                return
            self.now = max(self.now, min(timers))
            for end in self.ends.values():
                at = end.get_timer()
                if at is not None and at <= self.now:
                    end.handle_timer(self.now)

    async def _exchange(self) -> bool:
        moved = False
        while (event := self.quic.next_event()) is not None:
            if type(event).__name__ == "HandshakeCompleted":
                self.engine = WebTransportH3Engine(self.quic, config=self.config)
                self.engine.on(event_type=EventType.SETTINGS_RECEIVED, handler=self._on_settings)
            elif self.engine is not None:
                self.events += await self.engine.handle_event(event=event)
            moved = True
        while (event := self.peer_quic.next_event()) is not None:
            if type(event).__name__ == "ProtocolNegotiated":
                self.peer = H3Connection(self.peer_quic, enable_webtransport=True)
            elif self.peer is not None:
                self.peer_events += self.peer.handle_event(event)
            moved = True
        for is_client, address in ((True, CLIENT), (False, SERVER)):
            for data, _ in self.ends[is_client].datagrams_to_send(self.now):
                self.ends[not is_client].receive_datagram(data, address, self.now)
                moved = True
        return moved

    def _on_settings(self, event: Event) -> None:
        assert event.data is not None
        self.settings.append(event.data["settings"])

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def of_peer(self, kind: type) -> list[Any]:
        return [event for event in self.peer_events if isinstance(event, kind)]


async def connected(kind: str, certificate: Certificate, *, is_client: bool) -> Pair:
    pair = Pair(kind, certificate, is_client=is_client)
    await pair.settle()
    return pair


@pytest.mark.parametrize("kind", ["aioquic", "qh3", "native"])
async def test_client_with_a_server_of_aioquic(kind: str, certificate: Certificate) -> None:
    pair = await connected(kind, certificate, is_client=True)
    engine, peer = pair.engine, pair.peer
    assert engine is not None
    assert peer is not None
    assert engine.is_client
    assert engine.get_server_name() == "localhost"
    assert pair.settings == [peer.sent_settings]
    assert peer.received_settings is not None
    assert peer.received_settings[c.SETTINGS_H3_DATAGRAM] == 1

    session = engine.get_next_available_stream_id()
    engine.send_headers(stream_id=session, headers=REQUEST)
    with pytest.raises(ProtocolError, match="has had its headers"):
        engine.send_headers(stream_id=session, headers=REQUEST)
    await pair.settle()
    [request] = pair.of_peer(PeerHeadersReceived)
    assert {name.decode(): value.decode() for name, value in request.headers} == REQUEST
    peer.send_headers(session, [(b":status", b"200"), (b"x-a", b"1"), (b"x-a", b"2")])
    await pair.settle()
    assert pair.events == [
        HeadersReceived(
            headers={":status": "200", "x-a": "1, 2"}, stream_id=session, stream_ended=False
        )
    ]

    uni = engine.create_webtransport_stream(control_stream_id=session, is_unidirectional=True)
    engine.send_data(stream_id=uni, data=b"one way", end_stream=True)
    bidi = engine.create_webtransport_stream(control_stream_id=session)
    engine.send_data(stream_id=bidi, data=b"there", end_stream=True)
    engine.send_data(stream_id=bidi, data=b"", end_stream=False)
    engine.send_datagram(stream_id=session, data=b"ping")
    await pair.settle()
    received = {(event.stream_id, event.data, event.stream_ended, event.session_id)
                for event in pair.of_peer(PeerStreamDataReceived)}  # fmt: skip
    assert received == {(uni, b"one way", True, session), (bidi, b"there", True, session)}
    [datagram] = pair.of_peer(PeerDatagramReceived)
    assert (datagram.stream_id, datagram.data) == (session, b"ping")

    pair.events.clear()
    pair.peer_quic.send_stream_data(bidi, b"and back", end_stream=True)
    peer.send_datagram(session, b"pong")
    await pair.settle()
    assert pair.of(DatagramReceived) == [DatagramReceived(data=b"pong", stream_id=session)]
    parts = pair.of(WebTransportStreamDataReceived)
    assert b"".join(part.data for part in parts) == b"and back"
    assert parts[-1].stream_ended
    assert {(part.stream_id, part.control_stream_id) for part in parts} == {(bidi, session)}


# qh3 2.1 as a server fails by itself in a handshake with aioquic's client.
@pytest.mark.parametrize("kind", ["aioquic", "native"])
async def test_server_with_a_client_of_aioquic(kind: str, certificate: Certificate) -> None:
    pair = await connected(kind, certificate, is_client=False)
    engine, peer = pair.engine, pair.peer
    assert engine is not None
    assert peer is not None
    assert not engine.is_client
    session = pair.peer_quic.get_next_available_stream_id()
    peer.send_headers(session, [(name.encode(), value.encode()) for name, value in REQUEST.items()])
    await pair.settle()
    assert pair.events == [HeadersReceived(headers=REQUEST, stream_id=session, stream_ended=False)]
    engine.send_headers(stream_id=session, headers={":status": "200"})
    opened = engine.create_webtransport_stream(control_stream_id=session, is_unidirectional=True)
    engine.send_data(stream_id=opened, data=b"hello", end_stream=True)
    theirs = peer.create_webtransport_stream(session)
    pair.peer_quic.send_stream_data(theirs, b"data", end_stream=True)
    pair.events.clear()
    await pair.settle()
    assert pair.of_peer(PeerHeadersReceived)[-1].headers == [(b":status", b"200")]
    assert pair.of_peer(PeerStreamDataReceived)[-1].data == b"hello"
    parts = pair.of(WebTransportStreamDataReceived)
    assert b"".join(part.data for part in parts) == b"data"
    assert parts[-1].stream_ended
    assert {(part.stream_id, part.control_stream_id) for part in parts} == {(theirs, session)}

    close = _native.capsule_encode(c.CLOSE_WEBTRANSPORT_SESSION_TYPE, (7, "bye"))
    peer.send_data(session, close[:5], end_stream=False)
    peer.send_data(session, close[5:], end_stream=True)
    pair.events.clear()
    await pair.settle()
    [capsule] = pair.events
    assert isinstance(capsule, CapsuleReceived)
    assert (capsule.stream_id, capsule.capsule_type) == (session, 0x2843)
    assert _native.capsule_decode(capsule.capsule_type, capsule.capsule_data) == (7, "bye")


# Without a peer: what the engine writes, and what it says to bytes that no good peer sends.


class FakeQuic:
    """Takes what the engine sends."""

    def __init__(self, *, is_client: bool) -> None:
        self.configuration = SimpleNamespace(is_client=is_client, server_name=None)
        self.max_datagram_size = 1200
        self.sent: dict[int, bytes] = {}
        self.closed: list[int] = []
        self.next_ids = {False: 0 if is_client else 1, True: 2 if is_client else 3}

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        return self.next_ids[is_unidirectional]

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        if stream_id not in self.sent:
            self.next_ids[bool(stream_id & 2)] += 4
        self.sent[stream_id] = self.sent.get(stream_id, b"") + data

    def close(self, error_code: int = 0, reason_phrase: str = "") -> None:
        assert reason_phrase
        self.closed.append(error_code)


class Bad:
    """An engine, and a peer of a few bytes."""

    def __init__(self, *, is_client: bool, **options: Any) -> None:
        self.quic = FakeQuic(is_client=is_client)
        config = ClientConfig(**options) if is_client else ServerConfig(**options)
        quic: Any = self.quic
        self.engine = WebTransportH3Engine(quic, config=config)

    async def send(self, stream_id: int, data: bytes, *, ended: bool = False) -> list[Any]:
        event: Any = StreamDataReceived(data=data, end_stream=ended, stream_id=stream_id)
        return list(await self.engine.handle_event(event=event))


class StreamDataReceived(SimpleNamespace):
    """QUIC events are known by their names."""


class StreamReset(SimpleNamespace):
    pass


class DatagramFrameReceived(SimpleNamespace):
    pass


def frame(frame_type: int, payload: bytes = b"") -> bytes:
    return _native.frame_encode(frame_type, payload)


def headers(**fields: str) -> bytes:
    pairs = [(name.replace("_", ":").encode(), value.encode()) for name, value in fields.items()]
    return frame(0x1, _native.section_encode(pairs))


SETTINGS = frame(0x4, _native.settings_encode({0x33: 1}))
CAPSULE = _native.capsule_encode(0x78AE, None)


async def test_settings_and_capsules_as_they_go_out() -> None:
    bad = Bad(is_client=True)
    [(stream_id, data)] = bad.quic.sent.items()
    assert (stream_id, data[:1]) == (2, b"\x00")
    settings = dict(_native.frame_parse_many(data[1:]))[0x4]
    assert _native.settings_decode(settings)[c.SETTINGS_ENABLE_CONNECT_PROTOCOL] == 1
    bad.engine.send_capsule(stream_id=0, capsule_data=CAPSULE)
    assert bad.quic.sent[0] == frame(0x0, CAPSULE)
    for stream in (1, 2, 3):
        with pytest.raises(ProtocolError):
            bad.engine.send_capsule(stream_id=stream, capsule_data=CAPSULE)
        with pytest.raises(ProtocolError):
            bad.engine.send_datagram(stream_id=stream, data=b"")


async def test_bytes_one_by_one_mean_the_same() -> None:
    bad = Bad(is_client=False)
    found = []
    data = headers(_method="CONNECT") + frame(0x21, b"grease") + frame(0x0, CAPSULE + CAPSULE)
    for byte in data:
        found += await bad.send(0, bytes([byte]))
    found += await bad.send(0, b"", ended=True)
    assert found == [
        HeadersReceived(headers={":method": "CONNECT"}, stream_id=0, stream_ended=False),
        CapsuleReceived(capsule_data=b"", capsule_type=0x78AE, stream_id=0),
        CapsuleReceived(capsule_data=b"", capsule_type=0x78AE, stream_id=0),
    ]
    stream = _native.stream_header_encode(0, unidirectional=False) + b"ab"
    found = [event for byte in stream for event in await bad.send(4, bytes([byte]))]
    assert [event.data for event in found] == [b"a", b"b"]
    assert not bad.quic.closed


async def test_headers_that_end_the_stream_say_so() -> None:
    [event] = await Bad(is_client=False).send(0, headers(_method="GET"), ended=True)
    assert event.stream_ended


async def test_capsule_without_a_data_frame_is_that_of_0_8() -> None:
    bad = Bad(is_client=False)
    found = await bad.send(0, headers(_method="CONNECT") + CAPSULE)
    assert found[1:] == [CapsuleReceived(capsule_data=b"", capsule_type=0x78AE, stream_id=0)]


async def test_final_answer_follows_an_interim_one() -> None:
    bad = Bad(is_client=True)
    bad.engine.send_headers(stream_id=0, headers=REQUEST)
    found = await bad.send(0, headers(_status="103") + headers(_status="200"))
    assert [event.headers[":status"] for event in found] == ["103", "200"]
    await bad.send(0, headers(_status="200"))
    assert bad.quic.closed == [ErrorCodes.H3_FRAME_UNEXPECTED]


CONTROL, ENCODER, DECODER, PUSH = b"\x00", b"\x02", b"\x03", b"\x01"
CONNECT = headers(_method="CONNECT")
SERVER_SEES = {
    "control stream without SETTINGS": (2, CONTROL + frame(0x7, b"\x00"), "H3_MISSING_SETTINGS"),
    "SETTINGS twice": (2, CONTROL + SETTINGS + SETTINGS, "H3_FRAME_UNEXPECTED"),
    "HEADERS on the control stream": (2, CONTROL + SETTINGS + CONNECT, "H3_FRAME_UNEXPECTED"),
    "HTTP/2 SETTINGS": (2, CONTROL + frame(0x4, b"\x02\x00"), "H3_SETTINGS_ERROR"),
    "HTTP/2 frame": (2, CONTROL + SETTINGS + frame(0x8), "H3_FRAME_UNEXPECTED"),
    "push stream": (2, PUSH, "H3_STREAM_CREATION_ERROR"),
    "QPACK insertion": (2, ENCODER + b"\x40\x00", "QPACK_ENCODER_STREAM_ERROR"),
    "QPACK acknowledgement": (2, DECODER + b"\x80", "QPACK_DECODER_STREAM_ERROR"),
    "DATA before HEADERS": (0, frame(0x0, b"x"), "H3_FRAME_UNEXPECTED"),
    "SETTINGS on a request": (0, SETTINGS, "H3_FRAME_UNEXPECTED"),
    "HEADERS twice": (0, CONNECT + CONNECT, "H3_FRAME_UNEXPECTED"),
    "stream header within a stream": (0, CONNECT + b"\x40\x41\x00", "H3_FRAME_ERROR"),
    "dynamic table": (0, frame(0x1, b"\x01\x00"), "QPACK_DECOMPRESSION_FAILED"),
}


@pytest.mark.parametrize("name", SERVER_SEES)
async def test_bad_bytes_close_the_connection(name: str) -> None:
    stream_id, data, code = SERVER_SEES[name]
    bad = Bad(is_client=False)
    await bad.send(stream_id, data)
    assert bad.quic.closed == [ErrorCodes[code]]
    assert await bad.send(4, CONNECT) == [], "nothing is reported afterwards"


@pytest.mark.parametrize("stream_type", [CONTROL, ENCODER, DECODER])
async def test_critical_streams_come_once_and_stay(stream_type: bytes) -> None:
    twice = Bad(is_client=False)
    await twice.send(2, stream_type)
    await twice.send(6, stream_type)
    assert twice.quic.closed == [ErrorCodes.H3_STREAM_CREATION_ERROR]
    ended = Bad(is_client=False)
    await ended.send(2, stream_type, ended=True)
    assert ended.quic.closed == [ErrorCodes.H3_CLOSED_CRITICAL_STREAM]
    reset = Bad(is_client=False)
    await reset.send(2, stream_type)
    event: Any = StreamReset(stream_id=2, error_code=0)
    await reset.engine.handle_event(event=event)
    assert reset.quic.closed == [ErrorCodes.H3_CLOSED_CRITICAL_STREAM]


@pytest.mark.parametrize("data", [CONNECT[:-1], CONNECT + frame(0x0, CAPSULE[:1])])
async def test_end_within_a_frame_or_capsule(data: bytes) -> None:
    bad = Bad(is_client=False)
    await bad.send(0, data, ended=True)
    assert bad.quic.closed == [ErrorCodes.H3_FRAME_ERROR]


async def test_client_sees_a_stream_without_a_session() -> None:
    bad = Bad(is_client=True)
    await bad.send(1, CONNECT)
    assert bad.quic.closed == [ErrorCodes.H3_STREAM_CREATION_ERROR]
    bad = Bad(is_client=True)
    await bad.send(3, PUSH)
    assert bad.quic.closed == [ErrorCodes.H3_ID_ERROR]


async def test_datagram_too_short_for_its_stream() -> None:
    bad = Bad(is_client=False)
    event: Any = DatagramFrameReceived(data=b"\x40")
    assert await bad.engine.handle_event(event=event) == []
    assert bad.quic.closed == [ErrorCodes.H3_DATAGRAM_ERROR]


@pytest.mark.parametrize(
    ("stream_id", "before", "frame_type", "limit"),
    [(2, CONTROL, 0x4, MAX_CONTROL_FRAME_SIZE), (0, b"", 0x1, 1000)],
    ids=["control", "headers"],
)
async def test_frames_at_their_limit_and_one_past_it(
    stream_id: int, before: bytes, frame_type: int, limit: int
) -> None:
    for length, closed in ((limit, []), (limit + 1, [ErrorCodes.H3_EXCESSIVE_LOAD])):
        bad = Bad(is_client=False, max_field_section_size=1000)
        header = _native.varint_encode(frame_type) + _native.varint_encode(length)
        await bad.send(stream_id, before + header)
        assert bad.quic.closed == closed


async def test_capsules_at_their_limit_and_one_past_it() -> None:
    for length, closed in (
        (MAX_CAPSULE_SIZE, []),
        (MAX_CAPSULE_SIZE + 1, [ErrorCodes.H3_EXCESSIVE_LOAD]),
    ):
        bad = Bad(is_client=False)
        capsule = _native.varint_encode(0x1234) + _native.varint_encode(length)
        await bad.send(0, CONNECT + frame(0x0, capsule))
        assert bad.quic.closed == closed


async def test_streams_that_are_over_are_forgotten() -> None:
    bad = Bad(is_client=False)
    for stream_id in range(0, 4000, 4):
        await bad.send(stream_id, CONNECT, ended=True)
    header = _native.stream_header_encode(0, unidirectional=True)
    for stream_id in range(2, 4000, 4):
        await bad.send(stream_id, header + b"data")
        event: Any = StreamReset(stream_id=stream_id, error_code=0)
        await bad.engine.handle_event(event=event)
    await bad.send(4002, b"\x21grease", ended=True)
    await bad.send(4006, b"", ended=True)
    streams = [value for value in vars(bad.engine).values() if isinstance(value, dict | set)]
    assert len(streams) >= 5
    assert not any(streams)
    assert not bad.quic.closed
