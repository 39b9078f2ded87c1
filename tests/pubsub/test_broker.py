"""A broker with clients on streams in memory: topics, order, slow clients, refusals, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from pywebtransport.constants import ErrorCodes
from pywebtransport.pubsub import (
    LocalBackplane,
    Message,
    PubSubBroker,
    PubSubError,
    PubSubManager,
    SlowSubscriberPolicy,
    Subscription,
    SubscriptionFailedError,
)
from pywebtransport.stream import WebTransportStream
from tests.support.stream_pair import MemoryStream, stream_pair


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() <= {asyncio.current_task()}


class Clients:
    """Connects clients to one broker."""

    def __init__(self, broker: PubSubBroker) -> None:
        self.broker = broker
        self.tasks: list[asyncio.Task[None]] = []

    def stream(self, window: int = 1 << 20) -> MemoryStream:
        """The client's end of a stream that the broker serves."""
        one, other = stream_pair(window)
        serving = self.broker.handle_stream(cast(WebTransportStream, other))
        self.tasks.append(asyncio.create_task(serving))
        return one

    @asynccontextmanager
    async def manager(self) -> AsyncIterator[PubSubManager]:
        async with PubSubManager(stream=cast(WebTransportStream, self.stream())) as manager:
            yield manager


@asynccontextmanager
async def brokered(**options: Any) -> AsyncIterator[Clients]:
    async with PubSubBroker(**options) as broker:
        clients = Clients(broker)
        yield clients
    await asyncio.gather(*clients.tasks, return_exceptions=True)


async def take(subscription: Subscription, count: int) -> list[Message]:
    messages = subscription.messages()
    return [await anext(messages) for _ in range(count)]


class Lines:
    """A client that speaks the bytes itself and reads only when told to."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.write(data=data)

    async def expect(self, data: bytes) -> None:
        while len(self.buffer) < len(data):
            chunk = await self.stream.read(size=1 << 16)
            assert chunk, f"the stream ended after {self.buffer!r}"
            self.buffer += chunk
        assert self.buffer[: len(data)] == data
        self.buffer = self.buffer[len(data) :]

    async def barrier(self) -> None:
        """The broker has handled all that was sent before."""
        await self.send(b"SUB barrier\n")
        await self.expect(b"SUB-OK barrier\n")


async def test_the_bytes_that_clients_see() -> None:
    async with brokered() as clients:
        client = Lines(clients.stream())
        await client.send(b"SUB a.b\n")
        await client.expect(b"SUB-OK a.b\n")
        await client.send(b"SUB a.b\nPUB a.b 2\nhi")
        await client.expect(b"SUB-OK a.b\nMSG a.b 2\nhi")
        await client.send(b"SUB a.>\n")
        await client.expect(b"SUB-OK a.>\n")
        await client.send(b"PUB a.b 0\n")
        await client.expect(b"MSG a.b 0\nTOPIC a.b\nMSG a.> 0\n")
        await client.send(b"UNSUB a.b\nUNSUB unknown\nPUB a.b 1\nx")
        await client.expect(b"TOPIC a.b\nMSG a.> 1\nx")
        await client.send(b"SUB a.>.b\n")
        await client.expect(b"SUB-FAIL a.>.b > is allowed only at the end of a pattern\n")


async def test_messages_reach_every_subscriber_and_nobody_else() -> None:
    async with (
        brokered() as clients,
        clients.manager() as publisher,
        clients.manager() as one,
        clients.manager() as other,
    ):
        all_of_a = await one.subscribe(topic="a.*")
        only_b = await other.subscribe(topic="a.b")
        async with all_of_a, only_b:
            for topic in ("a.b", "a.c", "x"):
                await publisher.publish(topic=topic, data=topic)
            await publisher.publish(topic="a.b", data="end")
            assert await take(all_of_a, 3) == [
                Message("a.b", b"a.b"),
                Message("a.c", b"a.c"),
                Message("a.b", b"end"),
            ]
            assert [each.data for each in await take(only_b, 2)] == [b"a.b", b"end"]


async def test_the_order_of_each_publisher_is_kept_and_nothing_is_lost() -> None:
    count = 2000
    async with (
        brokered(max_queue_size=64) as clients,
        clients.manager() as subscriber,
    ):
        async with await subscriber.subscribe(topic="n.>", max_queue_size=4 * count) as numbers:

            async def publish(name: str) -> None:
                async with clients.manager() as publisher:
                    for number in range(count):
                        await publisher.publish(topic=f"n.{name}", data=str(number))

            await asyncio.gather(*(publish(name) for name in "abc"))
            received = await take(numbers, 3 * count)
        for name in "abc":
            numbers_of = [int(each.data) for each in received if each.topic == f"n.{name}"]
            assert numbers_of == list(range(count))
        assert clients.broker.stats.messages_dropped == 0


async def test_the_application_publishes_too() -> None:
    async with brokered() as clients, clients.manager() as manager:
        async with await manager.subscribe(topic="t") as subscription:
            await clients.broker.publish(topic="t", data="text")
            assert await take(subscription, 1) == [Message("t", b"text")]
        for topic in ("", "a b", "a.*"):
            with pytest.raises(ValueError, match="topic"):
                await clients.broker.publish(topic=topic, data=b"")
        with pytest.raises(ValueError, match="more than"):
            await clients.broker.publish(topic="t", data=b"x" * ((1 << 20) + 1))


async def test_statistics() -> None:
    async with brokered() as clients, clients.manager() as manager:
        await manager.subscribe(topic="a")
        await manager.subscribe(topic="b.*")
        await manager.publish(topic="a", data=b"")
        await manager.publish(topic="b.*", data=b"")
        await manager.subscribe(topic="barrier")
        stats = clients.broker.stats
        assert (stats.clients, stats.subscriptions, stats.topics) == (1, 3, 3)
        assert (stats.messages_published, stats.messages_refused) == (1, 1)
        assert (stats.messages_queued, stats.messages_dropped) == (1, 0)
        (subscriber,) = clients.broker.subscriber_stats()
        assert (subscriber.subscriptions, subscriber.messages_delivered) == (3, 1)
    assert clients.broker.stats.clients == 0
    assert clients.broker.stats.topics == 0


async def stuck(clients: Clients) -> Lines:
    """A subscriber to `t` that takes one message and then reads no more."""
    client = Lines(clients.stream(window=1))
    await client.send(b"SUB t\n")
    await client.expect(b"SUB-OK t\n")
    return client


async def publish_numbers(clients: Clients, count: int) -> None:
    async with clients.manager() as publisher:
        for number in range(count):
            await publisher.publish(topic="t", data=str(number))
            # Its own subscription comes back when the broker has handled the message.
            await publisher.subscribe(topic=f"barrier.{number}")


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        # One is with the client and one in the broker's write when the queue of three fills.
        (SlowSubscriberPolicy.DROP_OLDEST, ["0", "1", "7", "8", "9"]),
        ("drop_newest", ["0", "1", "2", "3", "4"]),
    ],
)
async def test_a_slow_subscriber_that_loses_messages(policy: str, kept: list[str]) -> None:
    async with brokered(max_queue_size=3, slow_subscriber_policy=policy) as clients:
        client = await stuck(clients)
        await publish_numbers(clients, 10)
        for number in kept:
            await client.expect(b"MSG t 1\n" + number.encode())
        assert clients.broker.stats.messages_dropped == 5
        await publish_numbers(clients, 1)
        await client.expect(b"MSG t 1\n0")


async def test_a_slow_subscriber_that_is_disconnected() -> None:
    async with brokered(max_queue_size=3, slow_subscriber_policy="disconnect") as clients:
        client = await stuck(clients)
        await publish_numbers(clients, 10)
        await clients.tasks[0]
        assert client.stream.peer.aborted == ErrorCodes.APP_RESOURCE_EXHAUSTED
        assert clients.broker.stats.clients_disconnected == 1
        assert clients.broker.stats.clients == 0


async def test_a_slow_subscriber_does_not_slow_the_others() -> None:
    async with brokered(max_queue_size=8) as clients, clients.manager() as fast:
        await stuck(clients)
        async with await fast.subscribe(topic="t", max_queue_size=1000) as subscription:
            await publish_numbers(clients, 100)
            received = await take(subscription, 100)
        assert [int(each.data) for each in received] == list(range(100))


async def test_the_bytes_of_a_queue_are_bounded_too() -> None:
    async with brokered(max_queue_bytes=3200, max_message_size=1000) as clients:
        client = await stuck(clients)
        async with clients.manager() as publisher:
            for number in range(10):
                await publisher.publish(topic="t", data=str(number) * 1000)
                await publisher.subscribe(topic=f"barrier.{number}")
        for number in (0, 1, 7, 8, 9):
            await client.expect(b"MSG t 1000\n" + str(number).encode() * 1000)


async def test_many_messages_in_one_read_do_not_overrun_a_fast_subscriber() -> None:
    async with (
        brokered(max_queue_size=16) as clients,
        clients.manager() as subscriber,
        await subscriber.subscribe(topic="t", max_queue_size=5000) as subscription,
    ):
        client = Lines(clients.stream())
        await client.send(b"PUB t 1\nx" * 5000)
        await take(subscription, 5000)
        assert clients.broker.stats.messages_dropped == 0


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_permissions(asynchronous: bool) -> None:
    asked: list[tuple[Any, str, str]] = []

    def decide(session: Any, action: str, topic: str) -> bool:
        asked.append((session, action, topic))
        if topic == "broken":
            raise RuntimeError("no database")
        return topic.startswith("open") or (topic.startswith("read") and action == "subscribe")

    async def decide_later(session: Any, action: str, topic: str) -> bool:
        return decide(session, action, topic)

    authorize: Callable[..., bool | Awaitable[bool]] = decide_later if asynchronous else decide
    async with brokered(authorize=authorize) as clients, clients.manager() as manager:
        for topic in ("closed", "broken"):
            with pytest.raises(SubscriptionFailedError, match="not authorized"):
                await manager.subscribe(topic=topic)
        async with (
            await manager.subscribe(topic="open") as allowed,
            await manager.subscribe(topic="read") as read_only,
        ):
            await manager.publish(topic="read", data=b"no")
            await manager.publish(topic="open", data=b"yes")
            assert await take(allowed, 1) == [Message("open", b"yes")]
            assert len(read_only._queue) == 0
        assert clients.broker.stats.messages_refused == 1
        assert (None, "publish", "read") in asked


async def test_the_limit_of_subscriptions() -> None:
    async with brokered(max_subscriptions=2) as clients, clients.manager() as manager:
        await manager.subscribe(topic="a")
        await manager.subscribe(topic="b")
        with pytest.raises(SubscriptionFailedError, match="2 subscriptions"):
            await manager.subscribe(topic="c")
        await manager.unsubscribe(topic="a")
        await manager.subscribe(topic="c")


@pytest.mark.parametrize(
    "data",
    [b"PUB t x\n", b"PUB\n", b"PUB t 1048577\n", b"PUB t 99999999999999\n", b"x" * 65536],
)
async def test_bytes_that_cannot_be_skipped_end_the_stream(data: bytes) -> None:
    async with brokered() as clients:
        client = Lines(clients.stream())
        await client.barrier()
        await client.send(data)
        await clients.tasks[0]
        assert client.stream.peer.aborted == ErrorCodes.APP_INVALID_REQUEST
        assert clients.broker.stats.topics == 0


async def test_bytes_that_can_be_skipped_are() -> None:
    async with brokered() as clients:
        client = Lines(clients.stream())
        await client.send(b"HELLO\n\nSUB-OK x\nMSG x 1\nxPUB a b 1\nxPUB \xff 1\nxUNSUB\nPUB  0\n")
        await client.barrier()
        assert clients.broker.stats.messages_refused == 3
        await client.send(b"SUB \xff\n")
        await client.expect(b"SUB-FAIL \xff a topic must not contain")


async def test_a_client_that_asks_for_ever_without_reading_is_held_back() -> None:
    async with brokered() as clients:
        stream = clients.stream(window=1)
        asking = asyncio.create_task(_ask(stream, 2000))
        client = Lines(stream)
        for _ in range(2000):
            await client.expect(b"SUB-OK t\n")
        await asking


async def _ask(stream: MemoryStream, count: int) -> None:
    for _ in range(count):
        await stream.write(data=b"SUB t\n")


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_client_that_leaves_leaves_nothing_behind(how: str) -> None:
    backplane = LocalBackplane()
    async with brokered(backplane=backplane) as clients:
        client = Lines(clients.stream())
        await client.send(b"SUB a.*\n")
        await client.expect(b"SUB-OK a.*\n")
        assert backplane._patterns.match("a.b") == ["a.*"]
        await (client.stream.close() if how == "end" else client.stream.abort())
        await clients.tasks[0]
        assert clients.broker.stats.clients == 0
        assert backplane._patterns.match("a.b") == []
        await clients.broker.publish(topic="a.b", data=b"")


async def test_closing_the_broker_ends_its_clients() -> None:
    clients: Clients
    async with brokered() as clients, clients.manager() as manager:
        async with await manager.subscribe(topic="t") as subscription:
            await clients.broker.close()
            await clients.broker.close()
            assert [data async for data in subscription] == []
        await manager.wait_closed()
        with pytest.raises(PubSubError, match="closed"):
            await clients.broker.publish(topic="t", data=b"")


@pytest.mark.parametrize(
    "options",
    [
        {"max_queue_size": 0},
        {"max_message_size": 0},
        {"max_streams_per_connection": 0},
        {"max_subscriptions": 0},
        {"max_queue_bytes": 1 << 20},
        {"slow_subscriber_policy": "wait"},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"max_|limits|wait"):
        PubSubBroker(**options)
