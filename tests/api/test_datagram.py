"""Datagram transports, of sessions and on a sender of their own, and what is built on them."""

from __future__ import annotations

import asyncio
import itertools
import struct
from math import inf
from typing import Any

import pytest

from pywebtransport.datagram import (
    DatagramBroadcaster,
    DatagramMessage,
    DatagramStats,
    DatagramTransportDiagnostics,
    StructuredDatagramTransport,
    WebTransportDatagramTransport,
)
from pywebtransport.datagram.utils import calculate_checksum
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ConfigurationError,
    DatagramError,
    SerializationError,
    TimeoutError,
)
from pywebtransport.serializer import JSONSerializer
from pywebtransport.types import EventType
from tests.api.ends import ends, turns


class Own:
    """A transport whose sender is a list."""

    def __init__(self, **options: Any) -> None:
        self.sent: list[bytes] = []
        self.transport = WebTransportDatagramTransport(
            session_id="session",
            **{
                "datagram_sender": self.sent.append,
                "max_datagram_size": 100,
                "high_water_mark": 4,
            }
            | options,
        )

    async def __aenter__(self) -> tuple[WebTransportDatagramTransport, list[bytes]]:
        await self.transport.initialize()
        return self.transport, self.sent

    async def __aexit__(self, *exception: object) -> None:
        await self.transport.close()


# A sender of one's own: the queue.


async def test_every_call_before_initialize_is_refused() -> None:
    transport = Own().transport
    assert transport.diagnostics.queue_stats == {}
    for operation in (
        transport.send(data=b"x"),
        transport.try_send(data=b"x"),
        transport.receive(),
        transport.try_receive(),
        transport.receive_with_metadata(),
        transport.receive_from_protocol(data=b"x"),
    ):
        with pytest.raises(DatagramError, match="not initialized"):
            await operation
    with pytest.raises(DatagramError, match="not initialized"):
        transport.enable_heartbeat()
    async with transport:
        await transport.send(data=b"x")


async def test_highest_priority_goes_first_and_is_clamped() -> None:
    async with Own() as (transport, sent):
        for priority, data in ((-5, b"a"), (1, b"b"), (0, b"c"), (9, b"d")):
            await transport.send(data=data, priority=priority)
        assert transport.get_send_buffer_size() == 4
        assert transport.diagnostics.queue_stats["outgoing"] == {
            "size": 4,
            "max_size": 4,
            "priority_0": 2,
            "priority_1": 1,
            "priority_2": 1,
        }
        assert sent == []
        await turns(1)
        assert sent == [b"d", b"b", b"a", b"c"]


async def test_full_queue_makes_room_at_priority_0_or_refuses() -> None:
    async with Own() as (transport, sent):
        await transport.send(data=b"low")
        for _ in range(3):
            await transport.send(data=b"high", priority=2)
        await transport.send(data=b"more", priority=1)  # "low" makes room
        with pytest.raises(DatagramError, match="high_water_mark=4"):
            await transport.send(data=b"refused", priority=2)
        assert not await transport.try_send(data=b"refused")
        await turns(1)
        assert sent == [b"high"] * 3 + [b"more"]
        stats = transport.diagnostics.stats
        assert (stats.datagrams_sent, stats.send_drops) == (5, 3)


async def test_size_at_the_limit_and_one_past_it() -> None:
    async with Own() as (transport, _):
        await transport.send(data=b"x" * 100)
        with pytest.raises(DatagramError) as caught:
            await transport.send(data=b"x" * 101)
        assert (caught.value.datagram_size, caught.value.max_size) == (101, 100)
        assert not await transport.try_send(data="é" * 51)
        assert transport.diagnostics.stats.send_failures == 2
        assert await transport.send_multiple(datagrams=[b"1", b"2", b"x" * 101, b"3"]) == 2


async def test_expired_datagrams_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Own() as (transport, sent):
        with pytest.raises(DatagramError, match="expired"):
            await transport.send(data=b"x", ttl=0)
        await transport.send(data=b"late", ttl=1.0)
        await transport.send(data=b"fine", ttl=100.0)
        import time

        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 2)
        await turns(1)
        assert sent == [b"fine"]
        assert transport.diagnostics.stats.send_drops == 2


async def test_failing_sender_is_counted() -> None:
    def fail(data: bytes) -> None:
        raise RuntimeError("no")

    async with Own(datagram_sender=fail) as (transport, _):
        await transport.send(data=b"x")
        await turns(1)
        stats = transport.diagnostics.stats
        assert (stats.datagrams_sent, stats.send_failures) == (1, 1)


async def test_buffers_can_be_cleared() -> None:
    async with Own() as (transport, sent):
        await transport.send(data=b"x")
        assert await transport.clear_send_buffer() == 1
        await turns(1)
        assert sent == []
        for _ in range(3):
            await transport.receive_from_protocol(data=b"x")
        await transport.receive_from_protocol(data=b"")
        assert transport.get_receive_buffer_size() == 3
        assert await transport.clear_receive_buffer() == 3
        assert await transport.try_receive() is None


async def test_full_incoming_queue_drops_the_oldest() -> None:
    async with Own() as (transport, _):
        for number in range(6):
            await transport.receive_from_protocol(data=b"%d" % number)
        assert await transport.receive_multiple() == [b"2", b"3", b"4", b"5"]
        assert transport.diagnostics.stats.receive_drops == 2


async def test_metadata() -> None:
    async with Own() as (transport, _):
        await transport.receive_from_protocol(data=b"abc")
        received = await transport.receive_with_metadata()
        assert received["data"] == b"abc"
        metadata = received["metadata"]
        assert metadata["checksum"] == calculate_checksum(data=b"abc")[:8]
        assert (metadata["size"], metadata["sequence"], metadata["priority"]) == (3, 0, 0)
        assert metadata["age"] >= 0
        assert metadata["receive_time"] >= 0
        assert transport.receive_sequence == 1


async def test_closed_transport_refuses_and_wakes() -> None:
    own = Own()
    async with own as (transport, sent):
        receiving = [asyncio.create_task(transport.receive()) for _ in range(3)]
        await turns()
        await transport.send(data=b"lost")
        await transport.close()
        for task in receiving:
            with pytest.raises(DatagramError, match="closed"):
                await task
        with pytest.raises(DatagramError, match="closed"):
            await transport.send(data=b"x")
        assert not await transport.try_send(data=b"x")
        assert await transport.try_receive() is None
        assert (transport.is_closed, transport.is_readable, transport.is_writable) == (
            *(True, False),
            False,
        )
        await transport.close()
        await turns()
        assert sent == []


async def test_heartbeat() -> None:
    async with Own() as (transport, sent):
        transport.enable_heartbeat(interval=0.001)
        transport.enable_heartbeat()
        async with asyncio.timeout(2):
            while len(sent) < 3:
                await turns(1)
        await transport.disable_heartbeat()
        count = len(sent)
        assert all(data.startswith(b"HEARTBEAT:") and data[10:].isdigit() for data in sent)
        await asyncio.sleep(0.005)
        assert len(sent) == count
        await transport.disable_heartbeat()


# Of a session: straight to the engine.


async def test_datagrams_of_a_session_arrive_in_order() -> None:
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        receiving = await both.server.create_datagram_transport()
        assert sending.max_datagram_size == 1200
        for number in range(90):
            await sending.send(data=b"%d" % number)
        assert [await receiving.receive() for _ in range(90)] == [b"%d" % n for n in range(90)]
        assert (sending.datagrams_sent, sending.bytes_sent) == (90, 170)
        assert (receiving.datagrams_received, receiving.bytes_received) == (90, 170)
        assert (sending.send_sequence, receiving.receive_sequence) == (90, 90)
        assert sending.get_send_buffer_size() == 0


async def test_several_at_once_arrive_in_order_and_are_counted() -> None:
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        receiving = await both.server.create_datagram_transport()
        await sending.send_datagrams([b"%d" % number for number in range(60)])
        await sending.send_datagrams(())
        await both.client.send_datagrams(datagrams=["é", bytearray(b"xy"), memoryview(b"z")])
        expected = [*(b"%d" % number for number in range(60)), "é".encode(), b"xy", b"z"]
        assert await receiving.receive() == b"0"
        assert await receiving.receive_multiple(max_count=1) == [b"1"]
        assert await receiving.receive_multiple(max_count=7) == expected[2:9]
        assert await receiving.receive_multiple(max_count=1000) == expected[9:]
        stats = sending.diagnostics.stats
        assert (stats.datagrams_sent, stats.bytes_sent) == (63, 115)
        assert (stats.min_datagram_size, stats.max_datagram_size) == (1, 2)
        assert (receiving.datagrams_received, receiving.bytes_received) == (63, 115)


async def test_several_at_once_stop_at_the_first_that_cannot_be_sent() -> None:
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        receiving = await both.server.create_datagram_transport()
        with pytest.raises(DatagramError) as caught:
            await sending.send_datagrams([b"1", b"2", bytes(1201), b"3"])
        assert (caught.value.datagram_size, caught.value.max_size) == (1201, 1200)
        assert await sending.send_multiple(datagrams=[b"4", bytes(1201), b"5"]) == 1
        assert await receiving.receive_multiple(max_count=9) == [b"1", b"2", b"4"]
        with pytest.raises(DatagramError, match="expired"):
            await sending.send_datagrams([b"6"], ttl=0)
        stats = sending.diagnostics.stats
        assert (stats.datagrams_sent, stats.send_failures, stats.send_drops) == (3, 2, 1)
        await sending.close()
        with pytest.raises(DatagramError, match="closed"):
            await sending.send_datagrams([b"7"])


async def test_several_at_once_are_sent_one_by_one_where_each_is_told_or_queued() -> None:
    async with Own() as (transport, sent):
        await transport.send_datagrams([b"a", "b", b"c"], priority=1)
        assert transport.get_send_buffer_size() == 3
        await turns(1)
        assert sent == [b"a", b"b", b"c"]
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        told: list[Any] = []
        sending.on(event_type=EventType.DATAGRAM_SENT, handler=lambda event: told.append(event))
        await sending.send_datagrams([b"a", b"bc"])
        await turns()
        assert [event.data["size"] for event in told] == [1, 2]


async def test_many_at_once_leave_the_loop_to_others() -> None:
    async with ends(max_datagrams=100_000) as both:
        sending = await both.client.create_datagram_transport()
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def look() -> None:
            seen.append(sending.datagrams_sent)
            loop.call_soon(look)

        look()
        await sending.send_datagrams([b"x"] * 50_000)
        between = [after - before for before, after in itertools.pairwise(seen)]
        assert max(between) <= 2_048


async def test_empty_datagram_arrives() -> None:
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        receiving = await both.server.create_datagram_transport()
        await sending.send(data=b"")
        assert await receiving.receive(timeout=1) == b""


@pytest.mark.parametrize("is_batch", [False, True])
async def test_senders_wait_for_room_in_the_engine(is_batch: bool) -> None:
    async with ends(max_datagrams=10) as both:
        sending = await both.client.create_datagram_transport()
        receiving = await both.server.create_datagram_transport()
        numbers = [b"%d" % number for number in range(100)]

        async def send() -> None:
            if is_batch:
                await sending.send_datagrams(numbers)
            else:
                for number in numbers:
                    await sending.send(data=number)

        task = asyncio.ensure_future(send())
        await turns()
        assert sending.datagrams_sent == 10
        assert [await receiving.receive(timeout=1) for _ in numbers] == numbers
        await task
        assert sending.diagnostics.stats.send_drops == 0


async def test_whoever_waits_for_room_is_told_of_the_end_and_can_be_cancelled() -> None:
    async with ends(max_datagrams=10) as both:
        sending = await both.client.create_datagram_transport()
        await sending.send_datagrams([b"x"] * 10)
        waiting = [asyncio.ensure_future(sending.send(data=b"y")) for _ in range(2)]
        waiting.append(asyncio.ensure_future(sending.send_datagrams([b"y"])))
        await turns()
        waiting[0].cancel()
        await turns()
        assert [task.done() for task in waiting] == [True, False, False]
        await both.client.close()
        for task in waiting[1:]:
            with pytest.raises(DatagramError):
                await task
        assert sending.datagrams_sent == 10


async def test_what_waits_for_room_expires() -> None:
    async with ends(max_datagrams=1) as both:
        sending = await both.client.create_datagram_transport()
        await sending.send(data=b"x")
        with pytest.raises(DatagramError, match="expired"):
            await sending.send(data=b"y", ttl=0.001)
        with pytest.raises(DatagramError, match="expired"):
            await sending.send_datagrams([b"y"], ttl=0.001)
        assert sending.diagnostics.stats.send_drops == 2


async def test_try_send_makes_room_and_counts() -> None:
    async with ends(max_datagrams=10) as both:
        sending = await both.client.create_datagram_transport()
        for number in range(12):
            assert await sending.try_send(data=b"%d" % number)
        assert sending.diagnostics.stats.send_drops == 2
        receiving = await both.server.create_datagram_transport()
        assert (await receiving.receive_multiple(max_count=100))[0] == b"2"


async def test_what_waits_in_the_engine_is_in_the_diagnostics() -> None:
    async with ends() as both:
        receiving = await both.server.create_datagram_transport()
        for _ in range(95):
            await both.client.send_datagram(data=b"x")
        diagnostics = receiving.diagnostics
        assert diagnostics.queue_stats["incoming"] == {
            "size": 95,
            "max_size": 100,
            "priority_0": 95,
            "priority_1": 0,
            "priority_2": 0,
        }
        assert diagnostics.issues == ["Incoming queue nearly full: 95/100"]
        assert diagnostics.stats.datagrams_received == 0
        assert (receiving.incoming_max_age, receiving.outgoing_max_age) == (None, None)
        assert receiving.outgoing_high_water_mark == 100
        assert len(await receiving.receive_multiple(max_count=200)) == 95


async def test_metadata_goes_to_one_receiver_and_times_out() -> None:
    async with ends() as both:
        receiving = await both.server.create_datagram_transport()
        with pytest.raises(TimeoutError):
            await receiving.receive_with_metadata(timeout=0.001)
        waiting = [asyncio.create_task(receiving.receive_with_metadata()) for _ in range(2)]
        await turns()
        await both.client.send_datagram(data=b"1")
        await both.client.send_datagram(data=b"2")
        async with asyncio.timeout(1):
            received = [await task for task in waiting]
        assert [each["data"] for each in received] == [b"1", b"2"]
        assert [each["metadata"]["sequence"] for each in received] == [0, 1]
        assert set(received[0]["metadata"]) == {
            *("size", "timestamp", "age", "checksum", "sequence", "priority", "ttl"),
            *("is_expired", "receive_time"),
        }


async def test_too_large_names_size_and_limit() -> None:
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        with pytest.raises(DatagramError) as caught:
            await sending.send(data=bytes(1201))
        assert (caught.value.datagram_size, caught.value.max_size) == (1201, 1200)
        assert not await sending.try_send(data=bytes(1201))


async def test_receive_times_out_and_can_be_repeated() -> None:
    async with ends() as both:
        receiving = await both.server.create_datagram_transport()
        waiting = asyncio.create_task(receiving.receive(timeout=3.0))
        await turns()
        await both.clock.advance(3.1)
        with pytest.raises(TimeoutError) as caught:
            await waiting
        assert caught.value.timeout_duration == 3.0
        await both.client.send_datagram(data=b"x")
        assert await receiving.receive(timeout=3.0) == b"x"
        assert receiving.diagnostics.stats.receive_errors == 1


async def test_several_receivers_get_one_each() -> None:
    async with ends() as both:
        receiving = await both.server.create_datagram_transport()
        tasks = [asyncio.create_task(receiving.receive()) for _ in range(5)]
        await turns()
        tasks[0].cancel()
        for number in range(4):
            await both.client.send_datagram(data=b"%d" % number)
        async with asyncio.timeout(1):
            assert await asyncio.gather(*tasks[1:]) == [b"0", b"1", b"2", b"3"]


async def test_receiver_cancelled_when_woken_leaves_the_datagram() -> None:
    async with ends() as both:
        receiving = await both.server.create_datagram_transport()
        tasks = [asyncio.create_task(receiving.receive()) for _ in range(2)]
        await turns()
        await both.client.send_datagram(data=b"x")
        receiving._on_readable()
        tasks[0].cancel()
        async with asyncio.timeout(1):
            assert await tasks[1] == b"x"


async def test_event_carries_the_data_and_takes_nothing() -> None:
    async with ends() as both:
        receiving = await both.server.create_datagram_transport()
        await both.client.send_datagram(data=b"before")
        await turns()
        told: list[Event] = []
        receiving.on(event_type=EventType.DATAGRAM_RECEIVED, handler=told.append)
        await both.client.send_datagram(data=b"after")
        await turns()
        assert [event.data["data"] for event in told if event.data] == [b"before", b"after"]
        assert told[1].data is not None
        assert (told[1].data["size"], told[1].data["sequence"]) == (5, 1)
        assert await receiving.receive_multiple() == [b"before", b"after"]


async def test_json() -> None:
    async with ends() as both:
        sending = await both.client.create_datagram_transport()
        receiving = await both.server.create_datagram_transport()
        await sending.send_json(data={"a": [1, 2], "b": "é"})
        assert both.server_engine.datagrams[0][0] == b'{"a":[1,2],"b":"\\u00e9"}'
        assert await receiving.receive_json(timeout=1) == {"a": [1, 2], "b": "é"}
        with pytest.raises(DatagramError, match="cannot be JSON"):
            await sending.send_json(data={1, 2})
        for bad in (b"{", b"\xff"):
            await sending.send(data=bad)
            with pytest.raises(DatagramError, match="not JSON"):
                await receiving.receive_json()


async def test_busy_sender_leaves_the_loop_to_others() -> None:
    async with ends(max_datagrams=10_000) as both:
        sending = await both.client.create_datagram_transport()
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(6_500):
            await sending.send(data=b"x")
        task.cancel()
        assert others >= 100


# Values.


def test_message() -> None:
    message = DatagramMessage(data=b"abc", ttl=10.0)
    assert message.size == 3
    assert message.checksum == calculate_checksum(data=b"abc")[:8]
    assert not message.is_expired
    assert DatagramMessage(data=b"", timestamp=0.0, ttl=1.0).is_expired
    assert not DatagramMessage(data=b"", timestamp=0.0).is_expired
    assert "data" not in message.to_dict()
    with pytest.raises(ValueError, match="md99"):
        calculate_checksum(data=b"", algorithm="md99")


def test_stats() -> None:
    stats = DatagramStats(session_id="s", created_at=0)
    assert (stats.send_success_rate, stats.receive_success_rate, stats.avg_send_time) == (1, 1, 0)
    assert stats.min_datagram_size == inf
    assert stats.to_dict()["min_datagram_size"] == 0
    stats.datagrams_sent, stats.send_failures, stats.total_send_time = 1, 1, 2.0
    stats.total_datagram_size = 10
    assert (stats.send_success_rate, stats.avg_send_time, stats.avg_datagram_size) == (0.5, 2, 10)
    assert "total_send_time" not in stats.to_dict()
    stats.send_drops = 1
    issues = DatagramTransportDiagnostics(
        stats=stats,
        queue_stats={"outgoing": {"size": 10, "max_size": 10}},
        is_closed=True,
    ).issues
    assert len(issues) == 5


# What is built on transports.


async def test_structured_datagrams() -> None:
    async with Own() as (transport, sent):
        registry: dict[int, type[Any]] = {258: dict}
        structured = StructuredDatagramTransport(
            datagram_transport=transport, serializer=JSONSerializer(), registry=registry
        )
        await structured.send_obj(obj={"x": 1})
        await turns(1)
        assert sent == [b'\x01\x02{"x": 1}']
        await transport.receive_from_protocol(data=sent[0])
        assert await structured.receive_obj() == {"x": 1}
        with pytest.raises(SerializationError, match="list"):
            await structured.send_obj(obj=[])
        await transport.receive_from_protocol(data=b"\x00\x01{}")
        with pytest.raises(SerializationError, match="type id 1"):
            await structured.receive_obj()
        await transport.receive_from_protocol(data=b"\x00")
        with pytest.raises(struct.error):
            await structured.receive_obj()
        with pytest.raises(TimeoutError):
            await structured.receive_obj(timeout=0.001)
        await structured.close()
        assert structured.is_closed


@pytest.mark.parametrize("registry", [{1: int, 2: int}, {65536: int}, {-1: int}])
async def test_bad_registries(registry: dict[int, type[Any]]) -> None:
    with pytest.raises(ConfigurationError):
        StructuredDatagramTransport(
            datagram_transport=Own().transport, serializer=JSONSerializer(), registry=registry
        )


async def test_broadcaster() -> None:
    first, second, closed = Own(), Own(max_datagram_size=1), Own()
    async with first, second, closed:
        await closed.transport.close()
        broadcaster = DatagramBroadcaster()
        with pytest.raises(DatagramError, match="not been activated"):
            await broadcaster.broadcast(data=b"x")
        async with broadcaster:
            for own in (first, second, closed, first):
                await broadcaster.add_transport(transport=own.transport)
            assert await broadcaster.get_transport_count() == 3
            assert await broadcaster.broadcast(data="x") == 2
            assert await broadcaster.get_transport_count() == 2
            assert await broadcaster.broadcast(data=b"yz") == 1
            assert await broadcaster.get_transport_count() == 2
            await turns(1)
            assert (first.sent, second.sent) == ([b"x", b"yz"], [b"x"])
            await broadcaster.remove_transport(transport=first.transport)
            await broadcaster.remove_transport(transport=first.transport)
            assert await broadcaster.get_transport_count() == 1
        assert not first.transport.is_closed
