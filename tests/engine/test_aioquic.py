"""The aioquic engine's own QUIC connection: credit, cost and resets, in memory."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode

from pywebtransport._engine.aioquic_datagrams import OutgoingDatagrams
from pywebtransport._engine.aioquic_quic import Quic
from pywebtransport._engine.aioquic_recovery import MAX_BURST, Pacer
from pywebtransport._engine.aioquic_tls import KeyLog
from pywebtransport._engine.driver import Driver
from pywebtransport._native import CoreConfig, CorePanic
from pywebtransport.exceptions import InvalidStateError
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate

CLIENT, SERVER = ("192.0.2.1", 1111), ("192.0.2.2", 4433)
HEADER = b"\x40\x41\x00"


class Wire:
    """A client and a server in memory, with a clock that moves when nothing else does."""

    def __init__(self, certificate: Certificate, *, loss: float = 0.0, seed: int = 1) -> None:
        self.now = 1.0
        self.loss = 0.0
        self.retains = False
        """Whether an application takes each stream, as it does before the next flush."""
        self.random = random.Random(seed)
        windows = {"max_data": 1 << 20, "max_stream_data": 1 << 18, "max_datagram_frame_size": 9999}
        ours = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, **windows)
        theirs = QuicConfiguration(is_client=False, alpn_protocols=["h3"], **windows)
        theirs.load_cert_chain(certificate.certfile, certificate.keyfile)
        limits = {"max_streams_bidi": 64, "max_streams_uni": 64, "max_datagrams": 64}
        self.client = Quic(configuration=ours, **limits)
        self.server = Quic(
            configuration=theirs,
            original_destination_connection_id=self.client.original_destination_connection_id,
            **limits,
        )
        self.told: dict[Quic, list[Any]] = {self.client: [], self.server: []}
        self.client.connect(SERVER, self.now)
        self.settle()
        self.loss = loss

    def step(self) -> bool:
        moved = False
        for sender, receiver, address in (
            (self.client, self.server, CLIENT),
            (self.server, self.client, SERVER),
        ):
            for data, _ in sender.datagrams_to_send(self.now):
                moved = True
                if self.random.random() >= self.loss:
                    receiver.receive_datagram(data, address, self.now)
            while (event := receiver.next_event()) is not None:
                self.told[receiver].append(event)
                if self.retains and isinstance(event, events.StreamDataReceived):
                    assert receiver.retain_stream(event.stream_id)
        return moved

    def tick(self) -> None:
        self.now = max(self.now + 0.0002, self.next_timer())
        for end in self.told:
            at = end.get_timer()
            if at is not None and at <= self.now:
                end.handle_timer(self.now)

    def settle(self) -> None:
        """Until only the idle timers are left."""
        while True:
            if not self.step():
                if self.next_timer() > self.now + 10:
                    return
                self.tick()

    def next_timer(self) -> float:
        return min(at for end in self.told if (at := end.get_timer()) is not None)

    def take(self, end: Quic, kind: type) -> list[Any]:
        told, self.told[end] = self.told[end], []
        return [event for event in told if isinstance(event, kind)]


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.2])
def test_data_arrives_whatever_is_lost(certificate: Certificate, loss: float) -> None:
    wire = Wire(certificate, loss=loss, seed=7)
    client, server = wire.client, wire.server
    data = {4 * number: wire.random.randbytes(30_000) for number in range(100)}
    received: dict[int, bytearray] = {stream_id: bytearray() for stream_id in data}
    ended: set[int] = set()
    waiting = list(data)
    while len(ended) < len(data):
        while waiting and client.can_open(unidirectional=False):
            stream_id = waiting.pop(0)
            assert client.get_next_available_stream_id() == stream_id
            client.send_stream_data(stream_id, data[stream_id], end_stream=True)
        if not wire.step():
            wire.tick()
        for event in wire.take(server, events.StreamDataReceived):
            server.stream_consumed(event.stream_id, len(event.data))
            server.send_stream_data(event.stream_id, event.data, event.end_stream)
        for event in wire.take(client, events.StreamDataReceived):
            client.stream_consumed(event.stream_id, len(event.data))
            received[event.stream_id] += event.data
            if event.end_stream:
                ended.add(event.stream_id)
    assert received == data
    wire.loss = 0.0
    wire.settle()
    # Nothing is left over: no stream, no unacknowledged byte, no credit unaccounted for.
    for end in (client, server):
        assert not end._streams
        assert not end._active
        assert end.kept == 0
        assert end._consumed == end._local_max_data.used == 3_000_000


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_reset_does_not_overtake_the_header(certificate: Certificate, loss: float) -> None:
    wire = Wire(certificate, loss=loss)
    assert wire.client.peer_resets_at
    codes = {2 + 4 * number: 1000 + number for number in range(40)}
    for stream_id, code in codes.items():
        wire.client.write_header(stream_id, HEADER)
        wire.client.send_stream_data(stream_id, b"body")
        wire.client.reset_stream_at(stream_id, code, len(HEADER) + 1)
    headers: dict[int, bytes] = dict.fromkeys(codes, b"")
    resets: dict[int, int] = {}
    while len(resets) < len(codes):
        if not wire.step():
            wire.tick()
        for event in wire.take(wire.server, events.QuicEvent):
            if isinstance(event, events.StreamDataReceived):
                assert not event.end_stream
                headers[event.stream_id] += event.data
            elif isinstance(event, events.StreamReset):
                resets[event.stream_id] = event.error_code
                assert headers[event.stream_id].startswith(HEADER)
    assert resets == codes
    wire.loss = 0.0
    wire.settle()
    assert wire.server._consumed == wire.server._local_max_data.used
    assert not wire.client._streams and not wire.server._streams


@pytest.mark.parametrize(
    ("stream_id", "code", "final_size", "reliable_size", "error"),
    [
        (2, 1, 3, 4, QuicErrorCode.FRAME_ENCODING_ERROR),
        (3, 1, 3, 3, QuicErrorCode.STREAM_STATE_ERROR),
        (2, 1, 1 << 19, 0, QuicErrorCode.FLOW_CONTROL_ERROR),
        (2, 1, 2, 0, QuicErrorCode.FINAL_SIZE_ERROR),
        (6, 2, 9, 9, QuicErrorCode.STREAM_STATE_ERROR),
        (6, 1, 8, 8, QuicErrorCode.FINAL_SIZE_ERROR),
    ],
)
def test_bad_reset_stream_at_closes_with_its_code(
    certificate: Certificate,
    stream_id: int,
    code: int,
    final_size: int,
    reliable_size: int,
    error: QuicErrorCode,
) -> None:
    wire = Wire(certificate)
    wire.client.send_stream_data(2, b"abc")
    wire.client.send_stream_data(6, b"abc")
    wire.settle()
    inject_reset_at(wire.server, 6, 1, 9, 9)  # waits for bytes 3 to 8
    with pytest.raises(Exception, match=r"Error: \d+") as caught:
        inject_reset_at(wire.server, stream_id, code, final_size, reliable_size)
    assert caught.value.error_code == error  # type: ignore[attr-defined]


def inject_reset_at(quic: Quic, *fields: int) -> None:
    from aioquic.buffer import Buffer

    payload = b"".join(encode_uint_var(field) for field in fields)
    quic._handle_reset_stream_at_frame(None, 0x24, Buffer(data=payload))  # type: ignore[arg-type]


def test_streams_come_back_when_the_application_is_done(certificate: Certificate) -> None:
    wire = Wire(certificate)
    for number in range(64):
        wire.client.send_stream_data(2 + 4 * number, b"x", end_stream=True)
    wire.settle()
    taken = [event.stream_id for event in wire.take(wire.server, events.StreamDataReceived)]
    assert len(taken) == 64
    assert wire.client.can_open(unidirectional=True)  # nobody retained them
    wire.retains = True
    for number in range(64, 128):
        wire.client.send_stream_data(2 + 4 * number, b"x", end_stream=True)
    wire.settle()
    assert not wire.client.can_open(unidirectional=True)
    due = [wire.server.release_stream(2 + 4 * number) for number in range(64, 128)]
    assert any(due)
    wire.settle()
    assert wire.client.can_open(unidirectional=True)


def test_unread_data_is_bounded_by_the_windows(certificate: Certificate) -> None:
    wire = Wire(certificate)
    for number in range(8):
        wire.client.send_stream_data(2 + 4 * number, bytes(1 << 19))
    wire.settle()
    received = sum(len(event.data) for event in wire.take(wire.server, events.StreamDataReceived))
    assert received == 1 << 20  # max_data; a single stream is stopped at a quarter of it
    assert wire.server.stream_consumed(2, 1 << 18)
    wire.server.stream_consumed(6, 1 << 18)
    wire.settle()
    again = wire.take(wire.server, events.StreamDataReceived)
    assert sum(len(event.data) for event in again) == 1 << 19


@pytest.mark.parametrize(
    ("window", "burst"),
    [
        (1 << 16, 14),  # aioquic's: a quarter of the window
        (400 * 1200, 40),  # a millisecond of a round trip of ten
        (1 << 26, MAX_BURST),
    ],
)
def test_a_burst_lasts_as_long_as_timers_are_coarse(window: int, burst: int) -> None:
    pacer = Pacer(max_datagram_size=1200)
    pacer.update_rate(congestion_window=window, smoothed_rtt=0.01)
    now, sent = 1.0, 0
    while pacer.next_send_time(now=now) is None:
        pacer.update_after_send(now=now)
        sent += 1
    assert sent in (burst, burst + 1), "fractions of a packet are sums of floats"


def test_stop_tells_what_stays_unsent(certificate: Certificate) -> None:
    """Session flow control gets it back: the peer counts up to the final size."""
    wire = Wire(certificate)
    wire.client.write_header(2, HEADER)
    wire.client.send_stream_data(2, bytes(1 << 19))
    wire.settle()
    wire.server.stop_stream(2, 7)
    wire.settle()
    (stopped,) = wire.take(wire.client, events.StopSendingReceived)
    (reset,) = wire.take(wire.server, events.StreamReset)
    assert (stopped.stream_id, stopped.error_code) == (2, 7)
    assert reset.final_size == 1 << 18
    assert stopped.withheld == len(HEADER) + (1 << 19) - reset.final_size
    wire.client.write_header(6, HEADER)
    wire.client.send_stream_data(6, bytes(100))
    stream = wire.client.stream(6)
    assert stream is not None and stream.withheld(reliably=True) == 99
    assert stream.withheld(reliably=False) == 100


def test_exporter_agrees(certificate: Certificate) -> None:
    wire = Wire(certificate)
    exported = [
        end.export_keying_material(b"label", b"context", 48) for end in (wire.client, wire.server)
    ]
    assert exported[0] == exported[1]
    assert len(exported[0]) == 48


def test_full_disk_ends_the_key_log_only(caplog: pytest.LogCaptureFixture) -> None:
    log = KeyLog("/dev/full")
    log.write("CLIENT_RANDOM 00 00\n")
    log.write("CLIENT_RANDOM 11 11\n")
    assert caplog.text.count("not logged") == 1


class Nobody:
    """A QUIC connection, and an owner, that only remember."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **options: self.calls.append((name, arguments or options))


def test_panic_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    quic = Nobody()
    driver = Driver(
        quic=quic,  # type: ignore[arg-type]
        config=CoreConfig(is_client=True),
        owner=Nobody(),  # type: ignore[arg-type]
        max_datagram_frame_size=0,
    )

    class Broken:
        def __getattr__(self, name: str) -> Any:
            def panic(*_: Any) -> None:
                raise CorePanic("index out of bounds")

            return panic

    driver.core = Broken()  # type: ignore[assignment]
    driver.handle_event(events.StreamDataReceived(b"", False, 0), 1.0)
    driver.handle_event(events.StreamDataReceived(b"", False, 0), 1.0)
    driver.handle_timeout(2.0)
    assert driver.next_timeout() is None
    assert [name for name, _ in quic.calls] == ["close"]
    assert quic.calls[0][1]["error_code"] == 0x102


@pytest.mark.parametrize("engine_name", ["aioquic"], indirect=True)
async def test_close_is_repeated_for_a_peer_that_missed_it(connect: Any) -> None:
    pair = await connect()
    server = pair.server.connection
    sent: list[bytes] = []
    server._endpoint.send = lambda data, address: sent.append(data)
    server.close(code=0x100, reason="")
    await server.wait_closed()
    await asyncio.sleep(0)
    lost = len(sent)
    for _ in range(8):
        server.packet_received(b"late", None)
    assert len(sent) - lost == 4  # at the 1st, 2nd, 4th and 8th packet


@pytest.mark.parametrize("engine_name", ["aioquic"], indirect=True)
async def test_fin_that_answers_a_close_is_acknowledged_late(
    connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await connect()
    server, loop = pair.server.connection, asyncio.get_running_loop()
    session_id = await pair.session()
    server.close_session(session_id, code=7, reason="over")
    await pair.client.next("session_closed")
    heard_at: list[float] = []
    answered_at: asyncio.Future[float] = loop.create_future()
    receive, send = server.packet_received, server._endpoint.send

    def packet_received(data: bytes, address: Any) -> None:
        heard_at.append(loop.time())
        receive(data, address)

    def send_packet(data: bytes, address: Any) -> None:
        if heard_at and not answered_at.done():
            answered_at.set_result(loop.time())
        send(data, address)

    monkeypatch.setattr(server, "packet_received", packet_received)
    monkeypatch.setattr(server._endpoint, "send", send_packet)
    assert await answered_at - heard_at[-1] >= 0.019


@pytest.mark.parametrize("engine_name", ["aioquic"], indirect=True)
async def test_calls_from_another_thread_are_refused_and_change_nothing(connect: Any) -> None:
    pair = await connect()
    session_id = await pair.session()
    stream_id = await pair.client.open(session_id)
    engine = pair.client.connection

    def error_of(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            return error

    for call in (
        lambda: engine.stream_write(stream_id, b"stray", False),
        lambda: engine.stream_read(stream_id, -1),
        lambda: engine.stream_reset(stream_id, 1),
        lambda: engine.open_stream(session_id, False),
        lambda: engine.send_datagram(session_id, b"stray"),
        lambda: engine.receive_datagrams(session_id, 1),
        lambda: engine.close_session(session_id, code=1, reason=""),
        lambda: engine.close(code=1, reason=""),
    ):
        error = await asyncio.to_thread(error_of, call)
        assert isinstance(error, InvalidStateError), call
        assert repr(threading.current_thread().name) in str(error)
    await pair.client.write(stream_id, b"the only bytes", fin=True)
    await pair.server.next("stream_opened")
    assert await pair.server.read_all(stream_id) == b"the only bytes"


def test_refused_requests_leave_nothing_in_any_driver() -> None:
    """Their end comes with their data, or before they are refused, and QUIC says no more."""
    quic = Nobody()
    quic.peer_resets_at, quic.max_datagram_size = False, 1200  # type: ignore[attr-defined]
    quic.get_next_available_stream_id = lambda _unidirectional: 3  # type: ignore[attr-defined]
    quic.unsent = lambda _stream_id: 0  # type: ignore[attr-defined]
    driver = Driver(
        quic=quic,  # type: ignore[arg-type]
        config=CoreConfig(is_client=False),
        owner=Nobody(),  # type: ignore[arg-type]
        max_datagram_frame_size=65536,
    )
    driver.handle_event(events.HandshakeCompleted("h3", False, False), 0.0)
    settings = h3.control_stream(h3.SETTINGS_OF["15"])
    driver.handle_event(events.StreamDataReceived(settings, False, 2), 0.0)
    before = driver.core.stats()["streams"]
    whole = h3.connect_frame(token="webtransport-h3")
    malformed = h3.headers_frame([(":method", "CONNECT"), (":protocol", "webtransport-h3")])
    for number in range(0, 600, 3):
        now = number / 1000
        bad, ended, ending = (4 * (number + i) for i in range(3))
        driver.handle_event(events.StreamDataReceived(malformed, True, bad), now)
        driver.handle_event(events.StreamDataReceived(whole, True, ended), now)
        driver.reject_session(ended, status=404, headers={}, now=now)
        driver.handle_event(events.StreamDataReceived(whole, False, ending), now)
        driver.reject_session(ending, status=404, headers={}, now=now)
        driver.handle_event(events.StreamDataReceived(b"", True, ending), now)
    assert driver.core.stats()["streams"] == before
    assert "close" not in [name for name, _ in quic.calls]


def test_a_flood_of_datagrams_leaves_streams_their_share(certificate: Certificate) -> None:
    """Packet by packet the other kind goes first, whatever is queued."""
    wire = Wire(certificate)
    size, flood = 1 << 19, bytes(1000)
    wire.client.send_stream_data(2, bytes(size))
    received = 0
    while received < size:
        while len(wire.client.outgoing) < 60:
            wire.client.outgoing.push(0, flood)
        if not wire.step():
            wire.tick()
        for event in wire.take(wire.server, events.StreamDataReceived):
            received += len(event.data)
            wire.server.stream_consumed(2, len(event.data))
    assert size >= wire.client.datagrams_sent * len(flood) / 2


def test_a_datagram_that_fits_no_more_holds_nobody_up(certificate: Certificate) -> None:
    """The path, or the peer's connection id, has changed since it was given."""
    wire = Wire(certificate)
    largest = wire.client.max_datagram_payload()
    wire.client.outgoing.push(0, bytes(largest))
    wire.client.outgoing.push(0, b"small")
    wire.client._max_datagram_size -= 100
    wire.settle()
    arrived = wire.take(wire.server, events.DatagramFrameReceived)
    assert [event.data for event in arrived] == [b"small"]
    assert (wire.client.outgoing.dropped, len(wire.client.outgoing)) == (1, 0)


def test_datagrams_of_sessions_are_bounded_together_and_served_in_turn() -> None:
    queue = OutgoingDatagrams(4)
    for number in range(3):
        assert queue.push(0, b"a%d" % number)
    assert queue.push(4, b"b0")
    assert not queue.push(4, b"b1"), "one past the limit"
    assert queue.dropped == 1
    sent = []
    while queue:
        sent.append(queue.first())
        queue.pop()
    assert sent == [b"a1", b"b0", b"a2", b"b1"]
    queue.push(0, b"x")
    queue.end_session(0)
    assert (len(queue), queue.dropped) == (0, 2)
