"""The sans-I/O QUIC API: against itself, aioquic and qh3, and from three kinds of driver."""

from __future__ import annotations

import dataclasses
import importlib
import random
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.quic import QuicConfiguration, QuicConnection, QuicConnectionError, events

from .conftest import Make
from .drivers import CLIENT, SERVER, Wire, blocking_loop, name_of, on_asyncio, on_trio

PAIRS = [
    ("native", "native"),
    ("native", "aioquic"),
    ("aioquic", "native"),
    ("native", "qh3"),
    ("qh3", "native"),
]
both = pytest.mark.parametrize(("client_kind", "server_kind"), PAIRS)


def wire(make: Make, client_kind: str, server_kind: str, **options: Any) -> Wire:
    client = make(client_kind, True)
    return Wire(client, lambda packet: make(server_kind, False, packet), **options)


def connected(make: Make, client_kind: str, server_kind: str, **options: Any) -> Wire:
    pair = wire(make, client_kind, server_kind, **options)
    ends = (pair.client_events, pair.server_events)
    pair.run_until(lambda: all("HandshakeCompleted" in map(name_of, e) for e in ends))
    return pair


@both
def test_handshake_agrees_on_the_protocol(make: Make, client_kind: str, server_kind: str) -> None:
    pair = connected(make, client_kind, server_kind)
    for seen in (pair.client_events, pair.server_events):
        (event,) = [e for e in seen if name_of(e) == "HandshakeCompleted"]
        assert event.alpn_protocol == "h3"
    negotiated = [name_of(e) for e in pair.client_events if "ed" in name_of(e)]
    assert negotiated.index("ProtocolNegotiated") < negotiated.index("HandshakeCompleted")


@both
def test_streams_of_both_kinds_carry_data_both_ways(
    make: Make, client_kind: str, server_kind: str
) -> None:
    pair = connected(make, client_kind, server_kind)
    sent: dict[int, bytes] = {}
    for end, uni in [(pair.client, False), (pair.client, True), (pair.server, False),
                     (pair.server, True)]:  # fmt: skip
        stream_id = end.get_next_available_stream_id(is_unidirectional=uni)
        sent[stream_id] = random.Random(stream_id).randbytes(3_000_000)
        end.send_stream_data(stream_id, sent[stream_id], True)
    assert sorted(sent) == [0, 1, 2, 3]

    def arrived() -> bool:
        return all(
            pair.stream_data(pair.server_events if i % 2 == 0 else pair.client_events, i)[1]
            for i in sent
        )

    pair.run_until(arrived)
    for stream_id, data in sent.items():
        seen = pair.server_events if stream_id % 2 == 0 else pair.client_events
        assert pair.stream_data(seen, stream_id) == (data, True)


@both
def test_reset_and_stop_carry_their_codes(make: Make, client_kind: str, server_kind: str) -> None:
    pair = connected(make, client_kind, server_kind)
    pair.client.send_stream_data(0, b"hello")
    pair.run_until(lambda: pair.stream_data(pair.server_events, 0)[0] == b"hello")
    pair.server.stop_stream(0, 21)
    pair.server.reset_stream(0, 22)
    pair.run_until(
        lambda: {"StopSendingReceived", "StreamReset"} <= set(map(name_of, pair.client_events))
    )
    codes = {
        name_of(e): (e.stream_id, e.error_code)
        for e in pair.client_events
        if name_of(e) in ("StopSendingReceived", "StreamReset")
    }
    assert codes == {"StopSendingReceived": (0, 21), "StreamReset": (0, 22)}


@both
def test_datagrams_and_pings(make: Make, client_kind: str, server_kind: str) -> None:
    pair = connected(make, client_kind, server_kind)
    for number in range(50):
        pair.client.send_datagram_frame(bytes([number]) * 100)
        pair.server.send_datagram_frame(bytes([number]) * 200)
    pair.client.send_ping(99)

    def datagrams(seen: list[Any]) -> list[bytes]:
        return [e.data for e in seen if name_of(e) == "DatagramFrameReceived"]

    pair.run_until(lambda: len(datagrams(pair.server_events)) == 50
                   and len(datagrams(pair.client_events)) == 50
                   and "PingAcknowledged" in map(name_of, pair.client_events))  # fmt: skip
    assert datagrams(pair.server_events) == [bytes([n]) * 100 for n in range(50)]
    assert datagrams(pair.client_events) == [bytes([n]) * 200 for n in range(50)]
    (ping,) = [e for e in pair.client_events if name_of(e) == "PingAcknowledged"]
    assert ping.uid == 99


@both
def test_close_carries_code_and_reason(make: Make, client_kind: str, server_kind: str) -> None:
    pair = connected(make, client_kind, server_kind)
    pair.client.close(error_code=0x123, reason_phrase="enough")
    pair.run_until(lambda: "ConnectionTerminated" in map(name_of, pair.server_events))
    pair.run_until(lambda: "ConnectionTerminated" in map(name_of, pair.client_events))
    (event,) = [e for e in pair.server_events if name_of(e) == "ConnectionTerminated"]
    assert (event.error_code, event.frame_type, event.reason_phrase) == (0x123, None, "enough")


@both
def test_loss_delays_data_and_loses_none(make: Make, client_kind: str, server_kind: str) -> None:
    luck = random.Random(5)
    pair = connected(make, client_kind, server_kind, lose=lambda _: luck.random() < 0.05)
    data = random.Random(1).randbytes(500_000)
    pair.client.send_stream_data(0, data, True)
    pair.run_until(lambda: pair.stream_data(pair.server_events, 0)[1], limit=600)
    assert pair.stream_data(pair.server_events, 0) == (data, True)


def test_no_common_protocol_ends_with_the_tls_alert(make: Make) -> None:
    pair = wire(make, "native", "native")
    pair.client.configuration.alpn_protocols = ["other"]
    client = QuicConnection(configuration=pair.client.configuration)
    pair = Wire(client, lambda packet: make("native", False))
    pair.run_until(lambda: "ConnectionTerminated" in map(name_of, pair.client_events))
    (event,) = pair.client_events
    assert event.error_code == 0x178  # no_application_protocol
    assert event.frame_type == 6


def test_an_untrusted_certificate_is_refused_and_a_pinned_one_accepted(
    make: Make, certificate: tuple[Path, Path]
) -> None:
    import hashlib
    import ssl

    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[0].read_text())).digest()
    for hashes, expected in [
        ([bytes(32)], "ConnectionTerminated"),
        ([bytes(32), digest], "HandshakeCompleted"),
    ]:
        configuration = QuicConfiguration(alpn_protocols=["h3"], server_certificate_hashes=hashes)
        pair = Wire(
            QuicConnection(configuration=configuration), lambda packet: make("native", False)
        )
        pair.run_until(lambda p=pair, e=expected: e in map(name_of, p.client_events))


def test_wrong_use_names_what_is_wrong(make: Make, tmp_path: Path) -> None:
    with pytest.raises(QuicConnectionError, match="a server needs a certificate"):
        QuicConnection(configuration=QuicConfiguration(is_client=False))
    with pytest.raises(QuicConnectionError, match=r"vegas.* is not one of"):
        QuicConnection(configuration=QuicConfiguration(congestion_control_algorithm="vegas"))
    broken = tmp_path / "broken.pem"
    broken.write_text("not a certificate")
    with pytest.raises(QuicConnectionError, match=r"broken\.pem"):
        QuicConnection(configuration=QuicConfiguration(cafile=str(broken)))
    client = make("native", True)
    with pytest.raises(ValueError, match="resolve names first"):
        client.connect(("localhost", 1), 0.0)
    pair = connected(make, "native", "native")
    with pytest.raises(QuicConnectionError, match="connect was called before"):
        pair.client.connect(SERVER, pair.now)
    with pytest.raises(QuicConnectionError, match="stream 3 is not one"):
        pair.client.send_stream_data(3, b"x")
    limit = pair.client.max_datagram_size
    with pytest.raises(QuicConnectionError, match=f"{limit + 1} bytes.*allows {limit}"):
        pair.client.send_datagram_frame(bytes(limit + 1))


def test_garbage_changes_nothing(make: Make) -> None:
    pair = connected(make, "native", "native")
    noise = random.Random(3)
    for end, addr in ((pair.server, CLIENT), (pair.client, SERVER)):
        for size in range(0, 1500, 7):
            end.receive_datagram(noise.randbytes(size), addr, pair.now)
    pair.client.send_stream_data(0, b"still here", True)
    pair.run_until(lambda: pair.stream_data(pair.server_events, 0) == (b"still here", True))


def test_secrets_are_logged(make: Make, tmp_path: Path) -> None:
    log = tmp_path / "secrets.txt"
    pair = Wire(
        make("native", True, secrets_log_file=str(log)), lambda packet: make("native", False)
    )
    pair.run_until(lambda: "HandshakeCompleted" in map(name_of, pair.client_events))
    assert "CLIENT_TRAFFIC_SECRET_0" in log.read_text()


MESSAGE = random.Random(11).randbytes(200_000)
drivers = pytest.mark.parametrize(("client_kind", "server_kind"), [PAIRS[0]])


@drivers
def test_from_a_blocking_socket_loop(make: Make, client_kind: str, server_kind: str) -> None:
    answer = blocking_loop(make(client_kind, True), make(server_kind, False), MESSAGE)
    assert answer == MESSAGE


@drivers
async def test_from_asyncio(make: Make, client_kind: str, server_kind: str) -> None:
    assert await on_asyncio(make(client_kind, True), make(server_kind, False), MESSAGE) == MESSAGE


@drivers
def test_from_trio(make: Make, client_kind: str, server_kind: str) -> None:
    import trio

    answer = trio.run(on_trio, make(client_kind, True), make(server_kind, False), MESSAGE)
    assert answer == MESSAGE


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (events.ConnectionTerminated(1, None, "r"), ["error_code", "frame_type", "reason_phrase"]),
        (
            events.HandshakeCompleted("h3", False, False),
            ["alpn_protocol", "early_data_accepted", "session_resumed"],
        ),
        (events.PingAcknowledged(7), ["uid"]),
        (events.StopSendingReceived(1, 4), ["error_code", "stream_id"]),
        (events.StreamDataReceived(b"x", True, 4), ["data", "end_stream", "stream_id"]),
        (events.StreamReset(1, 4), ["error_code", "stream_id"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, events.QuicEvent) else "",
)
def test_events_are_the_documented_dataclasses(event: Any, fields: list[str]) -> None:
    assert [field.name for field in dataclasses.fields(event)] == fields
    values = dataclasses.asdict(event)
    assert event == type(event)(**values) == type(event)(*values.values())
    first = fields[0]
    setattr(event, first, "changed")
    assert getattr(event, first) == "changed"
    for package in ("aioquic", "qh3"):
        theirs = getattr(importlib.import_module(f"{package}.quic.events"), type(event).__name__)
        assert {field.name for field in dataclasses.fields(theirs)} == set(fields)
