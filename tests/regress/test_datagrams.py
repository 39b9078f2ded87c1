"""Datagrams above the transport: broadcasts, reliable ones, payloads that are not what they say."""

from __future__ import annotations

import asyncio
import struct

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.datagram import (
    DatagramBroadcaster,
    DatagramReliabilityLayer,
    StructuredDatagramTransport,
    WebTransportDatagramTransport,
)
from pywebtransport.datagram.reliability import RECEIVE_WINDOW, REPEAT_BURST, SEND_WINDOW
from pywebtransport.events import Event
from pywebtransport.exceptions import DatagramError, SerializationError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.types import EventType
from tests.api.ends import turns
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within
from tests.support.certificate import Certificate
from tests.support.raw_http3 import control_stream, response_frame
from tests.support.raw_peer import SERVER_SETTINGS, RawServer


async def test_a_payload_too_large_is_the_caller_s_fault(site: MakeSite) -> None:
    here = await site()
    transports = [await (await here.pair()).client.create_datagram_transport() for _ in range(3)]
    async with DatagramBroadcaster() as broadcaster:
        for transport in transports:
            await broadcaster.add_transport(transport=transport)
        with pytest.raises(DatagramError) as raised:
            await broadcaster.broadcast(data=bytes(70_000))
        assert raised.value.datagram_size == 70_000
        assert await broadcaster.get_transport_count() == 3
        await transports[0].close()
        before = len(asyncio.all_tasks())
        sending = broadcaster.broadcast(data=b"fine")
        with pytest.raises(StopIteration) as stopped:
            sending.send(None)  # It waits for nothing.
        assert stopped.value.value == 2
        assert len(asyncio.all_tasks()) == before
        assert await broadcaster.get_transport_count() == 2


async def test_a_peer_without_room_for_a_session_s_id_takes_no_datagrams(
    engine: str, certificate: Certificate
) -> None:
    """Type and id are two bytes already; not even an empty payload is sent."""
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with (
        RawServer(certificate, max_datagram_frame_size=1) as server,
        WebTransportClient(config=config) as client,
    ):
        connecting = asyncio.create_task(client.connect(f"https://127.0.0.1:{server.port}/"))
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), control_stream(SERVER_SETTINGS))
        request, _ = await peer.request()
        peer.send(request, response_frame())
        transport = await (await within(connecting)).create_datagram_transport()
        for payload in (b"", b"x"):
            with pytest.raises(DatagramError, match="the peer takes no datagrams"):
                await transport.send(payload)
        await peer.round_trip()
        assert peer.datagrams == []
        peer.close()


async def test_json_that_nests_too_deep_is_no_json(site: MakeSite) -> None:
    pair = await (await site()).pair()
    arrivals = await pair.server.create_datagram_transport()
    await pair.client.send_datagram(data=b"[" * 1090)
    with pytest.raises(DatagramError, match="not JSON"):
        await within(arrivals.receive_json())


async def test_an_object_without_its_type_is_both_kinds_of_error(site: MakeSite) -> None:
    pair = await (await site()).pair()
    arrivals = StructuredDatagramTransport(
        datagram_transport=await pair.server.create_datagram_transport(),
        serializer=JSONSerializer(),
        registry={1: dict},
    )
    for kind in (SerializationError, struct.error):
        await pair.client.send_datagram(data=b"x")
        with pytest.raises(kind, match="a datagram of 1 bytes is shorter"):
            await within(arrivals.receive_obj())


class Own:
    """A transport whose datagrams go nowhere but into a list."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.transport = WebTransportDatagramTransport(
            session_id="s",
            datagram_sender=self.sent.append,
            max_datagram_size=1200,
            high_water_mark=100_000,
        )

    async def __aenter__(self) -> Own:
        await self.transport.initialize()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.transport.close()


def data(sequence: int, payload: bytes = b"") -> bytes:
    return b"\x04DATA" + sequence.to_bytes(4) + payload


async def test_a_sender_waits_at_its_window() -> None:
    async with Own() as own, DatagramReliabilityLayer(own.transport, ack_timeout=60) as layer:
        for _ in range(SEND_WINDOW):
            await within(layer.send(data=b"x"))
        waiting = asyncio.create_task(layer.send(data=b"y"))
        await turns(10)
        assert not waiting.done()
        await own.transport.receive_from_protocol(data=b"\x03ACK1")
        await turns(10)
        assert not waiting.done(), "the oldest is still on its way"
        await own.transport.receive_from_protocol(data=b"\x03ACK0")
        await within(waiting)
        also = [asyncio.create_task(layer.send(data=b"z")) for _ in range(2)]
        done, left = await asyncio.wait(also, timeout=0.05)
        assert (len(done), len(left)) == (1, 1), "two numbers were freed"
        await layer.close()
        for task in left:
            with pytest.raises(DatagramError, match="closed"):
                await within(task)


async def test_repetitions_are_paced() -> None:
    async with Own() as own, DatagramReliabilityLayer(own.transport, ack_timeout=0.05) as layer:
        for _ in range(3 * REPEAT_BURST):
            await layer.send(data=b"x")
        await turns(3)
        own.sent.clear()
        most = 0
        async with asyncio.timeout(5):
            while len(own.sent) < 3 * REPEAT_BURST:
                before = len(own.sent)
                await asyncio.sleep(0.001)
                most = max(most, len(own.sent) - before)
    assert 0 < most <= REPEAT_BURST


async def test_a_loss_is_told() -> None:
    told: asyncio.Queue[Event] = asyncio.Queue()
    async with Own() as own:
        own.transport.on(event_type=EventType.DATAGRAM_ERROR, handler=told.put_nowait)
        async with DatagramReliabilityLayer(
            own.transport, ack_timeout=0.001, max_retries=2
        ) as layer:
            await layer.send(data=b"precious")
            event = await within(told.get())
            assert event.data == {"data": b"precious", "sequence": 0, "retries": 2}
            assert layer.messages_lost == 1
            await within(layer.send(data=b"next"))


async def test_a_late_repetition_is_one() -> None:
    async with Own() as own, DatagramReliabilityLayer(own.transport) as layer:
        count = 3000
        for sequence in range(count):
            await own.transport.receive_from_protocol(data=data(sequence, b"%d" % sequence))
            assert await within(layer.receive()) == b"%d" % sequence
        for sequence in (0, 1, count - 1500, count - 1):
            await own.transport.receive_from_protocol(data=data(sequence, b"again"))
        await own.transport.receive_from_protocol(data=data(count, b"new"))
        assert await within(layer.receive()) == b"new"


async def test_what_is_remembered_of_numbers_is_bounded_and_wraps() -> None:
    async with Own() as own, DatagramReliabilityLayer(own.transport) as layer:

        async def arrives(sequence: int) -> bool:
            await own.transport.receive_from_protocol(data=data(sequence % (1 << 32), b"m"))
            if not layer._received:
                return False
            await layer.receive()
            return True

        for sequence in range(2, 2 * RECEIVE_WINDOW, 2):  # every other one never comes
            assert await arrives(sequence)
        assert len(layer._window._ahead) <= RECEIVE_WINDOW
        assert await arrives(2 * RECEIVE_WINDOW - 3), "within the window"
        assert not await arrives(1), "too old to be told from a repetition"
        for base in range(0, 1 << 32, 1 << 30):
            assert await arrives(base + 2 * RECEIVE_WINDOW)
        assert await arrives((1 << 32) + 3 * RECEIVE_WINDOW), "the numbers begin again"
        assert not await arrives((1 << 32) + 3 * RECEIVE_WINDOW)
