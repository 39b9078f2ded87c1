"""Datagrams repeated until they are acknowledged."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport.datagram import DatagramReliabilityLayer, WebTransportDatagramTransport
from pywebtransport.exceptions import DatagramError, TimeoutError
from pywebtransport.types import EventType
from tests.api.ends import turns


class Wire:
    """Two transports; `deliver` decides what becomes of each datagram."""

    def __init__(self, deliver: Callable[[bytes], bool] = lambda data: True) -> None:
        self.deliver = deliver
        self.sent: list[tuple[int, bytes]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.transports = [
            WebTransportDatagramTransport(
                session_id=str(end),
                datagram_sender=lambda data, end=end: self.carry(end, data),  # type: ignore[misc]
                max_datagram_size=1200,
                high_water_mark=2000,
            )
            for end in range(2)
        ]

    def carry(self, end: int, data: bytes) -> None:
        self.sent.append((end, data))
        if self.deliver(data):
            arriving = self.transports[1 - end].receive_from_protocol(data=data)
            task = asyncio.ensure_future(arriving)
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def __aenter__(self) -> tuple[WebTransportDatagramTransport, ...]:
        for transport in self.transports:
            await transport.initialize()
        return tuple(self.transports)

    async def __aexit__(self, *exception: object) -> None:
        for transport in self.transports:
            await transport.close()


async def test_frames_on_the_wire() -> None:
    wire = Wire()
    async with wire as (first, second):
        async with (
            DatagramReliabilityLayer(first) as sender,
            DatagramReliabilityLayer(second) as receiver,
        ):
            await sender.send(data="abc")
            assert await receiver.receive(timeout=1) == b"abc"
            await sender.send(data=b"def")
            assert await receiver.receive(timeout=1) == b"def"
            while sender._pending:
                await turns(1)
        assert [data for end, data in wire.sent if end == 0] == [
            b"\x04DATA\x00\x00\x00\x00abc",
            b"\x04DATA\x00\x00\x00\x01def",
        ]
        assert [data for end, data in wire.sent if end == 1] == [b"\x03ACK0", b"\x03ACK1"]
        assert not first.is_closed


async def test_everything_arrives_once_with_loss() -> None:
    chance = random.Random(3)
    wire = Wire(lambda data: chance.random() >= 0.2)
    async with (
        wire as (first, second),
        DatagramReliabilityLayer(first, ack_timeout=0.01, max_retries=50) as sender,
        DatagramReliabilityLayer(second) as receiver,
    ):
        messages = [b"%d" % number for number in range(200)]
        for message in messages:
            await sender.send(data=message)
        received = [await receiver.receive(timeout=5) for _ in messages]
        assert sorted(received) == sorted(messages)
        with pytest.raises(TimeoutError):
            await receiver.receive(timeout=0.05)
    print(f"{len(wire.sent)} frames for 200 messages")


async def test_gives_up_after_its_retries() -> None:
    wire = Wire(lambda data: False)
    async with wire as (first, _):
        async with DatagramReliabilityLayer(first, ack_timeout=0.002, max_retries=2) as sender:
            await sender.send(data=b"x")
            async with asyncio.timeout(2):
                while sender._pending:
                    await turns(1)
        assert len(wire.sent) == 3
        assert len({data for _, data in wire.sent}) == 1


async def test_malformed_frames_are_ignored() -> None:
    wire = Wire()
    async with wire as (first, second), DatagramReliabilityLayer(second) as receiver:
        for data in (
            b"\x00",
            b"\xff",
            b"\x04DAT",
            b"\x04DATA\x00\x00\x00",
            b"\x03ACK-1",
            b"\x03ACK",
            b"\x03ACK\xb2",
            b"\x03ACK" + b"9" * 80,
            b"\x05OTHERxyz",
        ):
            await first.send(data=data)
        await first.send(data=b"\x04DATA\x00\x00\x00\x07fine")
        assert await receiver.receive(timeout=1) == b"fine"


async def test_closing_wakes_and_refuses() -> None:
    wire = Wire()
    async with wire as (first, _):
        layer = DatagramReliabilityLayer(first)
        with pytest.raises(DatagramError, match="not been activated"):
            await layer.send(data=b"x")
        async with layer:
            receiving = asyncio.create_task(layer.receive())
            await turns()
            await layer.close()
            with pytest.raises(DatagramError, match="closed"):
                await receiving
            with pytest.raises(DatagramError, match="closed"):
                await layer.send(data=b"x")
        with pytest.raises(DatagramError, match="closed"):
            await layer.__aenter__()


async def test_transport_that_is_gone() -> None:
    wire = Wire()
    async with wire as (first, _), DatagramReliabilityLayer(first) as layer:
        await first.close()
        with pytest.raises(DatagramError, match="the datagram transport is closed"):
            await layer.send(data=b"x")


async def test_acknowledgement_may_come_before_the_sender_is_told() -> None:
    """A congested transport pauses in ``send`` after the datagram has gone."""

    class Congested(WebTransportDatagramTransport):
        async def send(self, **options: Any) -> None:
            await super().send(**options)
            await turns(10)

    sent: list[bytes] = []

    def carry(data: bytes) -> None:
        sent.append(data)
        acknowledgement = b"\x03ACK%d" % (len(sent) - 1)
        arriving.append(
            asyncio.ensure_future(transport.receive_from_protocol(data=acknowledgement))
        )

    arriving: list[asyncio.Future[None]] = []
    transport = Congested(session_id="s", datagram_sender=carry, max_datagram_size=100)
    async with transport, DatagramReliabilityLayer(transport, ack_timeout=0.5) as layer:
        await layer.send(data=b"x")
        assert not layer._pending
        with pytest.raises(DatagramError):
            await layer.send(data=bytes(101))
        assert not layer._pending
    assert len(sent) == 1


@pytest.mark.parametrize("surplus", [0, 1])
async def test_unsent_acknowledgements_are_bounded(surplus: int) -> None:
    from pywebtransport.datagram.reliability import MAX_UNSENT_ACKS

    is_free = asyncio.Event()

    class Stuck(WebTransportDatagramTransport):
        async def send(self, **options: Any) -> None:
            await is_free.wait()
            sent.append(options["data"])

    sent: list[bytes] = []
    transport = Stuck(session_id="s", datagram_sender=lambda data: None, max_datagram_size=100)
    async with transport, DatagramReliabilityLayer(transport) as layer:
        await transport.receive_from_protocol(data=b"\x04DATA\x00\x00\x00\x00first")
        assert await layer.receive() == b"first"
        await turns()
        for _ in range(MAX_UNSENT_ACKS + surplus):
            await transport.receive_from_protocol(data=b"\x04DATA\x00\x00\x00\x00again")
        is_free.set()
        await turns(MAX_UNSENT_ACKS)
        assert len(sent) == 1 + MAX_UNSENT_ACKS


async def test_receives_that_time_out_leave_nothing() -> None:
    async with Wire() as (first, _), DatagramReliabilityLayer(first) as layer:
        for _ in range(3):
            with pytest.raises(TimeoutError) as caught:
                await layer.receive(timeout=0.001)
        assert caught.value.timeout_duration == 0.001
        assert not layer._receivers


async def test_frames_are_the_layer_s_and_the_rest_is_the_transport_s() -> None:
    wire = Wire()
    async with wire as (first, second):
        told: list[bytes] = []
        second.on(
            event_type=EventType.DATAGRAM_RECEIVED,
            handler=lambda event: told.append(event.data["data"]),  # type: ignore[index]
        )
        async with (
            DatagramReliabilityLayer(first) as sender,
            DatagramReliabilityLayer(second) as receiver,
        ):
            for number in range(300):
                await sender.send(data=b"%d" % number)
            await first.send(data=b"plain")
            assert [await receiver.receive(timeout=1) for _ in range(300)]
            assert await second.receive(timeout=1) == b"plain"
            assert await second.try_receive() is None
            with pytest.raises(DatagramError, match="has a reliability layer already"):
                await DatagramReliabilityLayer(second).__aenter__()
            await DatagramReliabilityLayer(second).close()
        stats = second.diagnostics.stats
        assert (stats.datagrams_received, stats.receive_drops) == (301, 0)
        assert len(told) == 301, "the event is for everything"
        await first.send(data=b"\x04DATA\x00\x00\x00\x00late")
        assert await second.receive(timeout=1) == b"\x04DATA\x00\x00\x00\x00late"


async def test_transport_is_not_kept_alive() -> None:
    transport = WebTransportDatagramTransport(
        session_id="s", datagram_sender=lambda data: None, max_datagram_size=100
    )
    layer = DatagramReliabilityLayer(transport)
    seen = weakref.ref(transport)
    del transport
    assert seen() is None
    with pytest.raises(DatagramError, match="gone"):
        await layer.__aenter__()


async def test_unread_messages_are_bounded() -> None:
    from pywebtransport.datagram.reliability import MAX_UNREAD

    wire = Wire()
    async with (
        wire as (first, second),
        DatagramReliabilityLayer(first, ack_timeout=0.01) as sender,
        DatagramReliabilityLayer(second) as receiver,
    ):
        for number in range(MAX_UNREAD + 1):
            await sender.send(data=b"%d" % number)
            await turns(1)
        while len(sender._pending) > 1:
            await turns(1)
        assert len(receiver._received) == MAX_UNREAD
        for _ in range(MAX_UNREAD + 1):
            await receiver.receive(timeout=1)
