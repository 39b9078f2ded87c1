"""Brokers over a real Redis and a real NATS server: one topic space, order, outages, limits."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.pubsub import (
    Message,
    NatsBackplane,
    PubSubBroker,
    PubSubError,
    PubSubManager,
    RedisBackplane,
    SubscriptionFailedError,
)
from pywebtransport.pubsub.remote import RemoteBackplane
from pywebtransport.types import EventType
from tests.pubsub.test_broker import Clients, take
from tests.support.backplane_server import BackplaneServer, NatsServer, RedisServer

pytestmark = pytest.mark.timeout(40)


@pytest_asyncio.fixture(params=[RedisServer, NatsServer], ids=["redis", "nats"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[BackplaneServer]:
    async with request.param() as server:
        yield server
    assert asyncio.all_tasks() <= {asyncio.current_task()}


@asynccontextmanager
async def brokers(server: BackplaneServer, count: int) -> AsyncIterator[list[Clients]]:
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            broker = PubSubBroker(backplane=server.backplane(), max_queue_size=50_000)
            found.append(Clients(await stack.enter_async_context(broker)))
        yield found
    for clients in found:
        await asyncio.gather(*clients.tasks, return_exceptions=True)


def events(clients: Clients, event_type: EventType) -> asyncio.Task[object]:
    """The next event of the backplane, wanted from now on."""
    waiting = clients.broker.backplane.events.wait_for(event_type=event_type, timeout=20)
    return asyncio.ensure_future(waiting)


async def test_clients_of_different_brokers_share_the_topics(server: BackplaneServer) -> None:
    async with (
        brokers(server, 2) as (here, there),
        here.manager() as one,
        there.manager() as other,
    ):
        exact = await one.subscribe(topic="a.b")
        pattern = await one.subscribe(topic="a.*")
        rest = await one.subscribe(topic="a.>")
        own = await other.subscribe(topic="a.b")
        async with exact, pattern, rest, own:
            for topic in ("a", "a.b", "a.b.c", "b.b", "a.x"):
                await other.publish(topic=topic, data=topic)
            await other.publish(topic="a.b", data=b"\x00\xff\r\n")
            assert await take(exact, 2) == [
                Message("a.b", b"a.b"),
                Message("a.b", b"\x00\xff\r\n"),
            ]
            assert [each.topic for each in await take(pattern, 3)] == ["a.b", "a.x", "a.b"]
            assert [each.topic for each in await take(rest, 4)] == ["a.b", "a.b.c", "a.x", "a.b"]
            assert [each.data for each in await take(own, 2)] == [b"a.b", b"\x00\xff\r\n"]


@pytest.mark.parametrize(
    "topic",
    ["plain", "tøpic.ü", "a*b.c", "a>", "[x]?\\y", "100%", "a..b", ".", "/path:1", "$SYS", "_"],
)
async def test_topics_of_any_characters(server: BackplaneServer, topic: str) -> None:
    async with (
        brokers(server, 2) as (here, there),
        here.manager() as one,
        there.manager() as other,
        await one.subscribe(topic=topic) as exact,
        await one.subscribe(topic=">") as everything,
    ):
        await other.publish(topic="other", data=b"")
        await other.publish(topic=topic, data=b"x")
        assert await take(exact, 1) == [Message(topic, b"x")]
        assert await take(everything, 2) == [Message("other", b""), Message(topic, b"x")]


async def test_a_subscription_stands_when_it_is_confirmed(server: BackplaneServer) -> None:
    async with (
        brokers(server, 2) as (here, there),
        here.manager() as one,
        there.manager() as other,
    ):
        for number in range(50):
            async with await one.subscribe(topic=f"t.{number}") as subscription:
                await other.publish(topic=f"t.{number}", data=b"x")
                await take(subscription, 1)


async def test_subscribing_and_unsubscribing_in_any_order(server: BackplaneServer) -> None:
    async with (
        brokers(server, 2) as (here, there),
        here.manager() as one,
        there.manager() as other,
    ):
        for _ in range(20):
            for topic in ("t.x", "t.*", "t.>"):
                async with await one.subscribe(topic=topic):
                    pass
        async with (
            await one.subscribe(topic="t.*") as kept,
            await one.subscribe(topic="t.>") as left,
        ):
            await left.unsubscribe()
            await one.subscribe(topic="barrier")
            await other.publish(topic="t.x", data=b"x")
            assert await take(kept, 1) == [Message("t.x", b"x")]


async def test_ten_thousand_messages_arrive_in_order(server: BackplaneServer) -> None:
    count, each = 3, 3334
    async with brokers(server, count) as groups, AsyncExitStack() as stack:
        subscriptions = []
        for clients in groups:
            manager = await stack.enter_async_context(clients.manager())
            subscription = await manager.subscribe(topic="n.*", max_queue_size=count * each)
            subscriptions.append(await stack.enter_async_context(subscription))

        async def publish(index: int) -> None:
            async with groups[index].manager() as manager:
                for number in range(each):
                    await manager.publish(topic=f"n.{index}", data=str(number))

        await asyncio.gather(*(publish(index) for index in range(count)))
        for subscription in subscriptions:
            received = await take(subscription, count * each)
            for index in range(count):
                numbers = [int(m.data) for m in received if m.topic == f"n.{index}"]
                assert numbers == list(range(each))


async def test_an_outage_is_survived(server: BackplaneServer) -> None:
    async with brokers(server, 2) as (here, there), here.manager() as one, there.manager() as other:
        subscription = await one.subscribe(topic="t.*", max_queue_size=10_000)
        async with subscription:
            await other.publish(topic="t.before", data=b"")
            await take(subscription, 1)

            lost = [events(clients, EventType.CONNECTION_LOST) for clients in (here, there)]
            await server.kill()
            for event in await asyncio.gather(*lost):
                assert event.data["url"] == server.url  # type: ignore[attr-defined]
                assert event.data["error"]  # type: ignore[attr-defined]
            assert not here.broker.backplane.is_connected
            await asyncio.gather(
                *(events(clients, EventType.CONNECTION_FAILED) for clients in (here, there))
            )

            # What is published and asked for now waits.
            for number in range(100):
                await one.publish(topic="t.during", data=str(number))
            asking = asyncio.create_task(one.subscribe(topic="new"))
            back = [events(clients, EventType.CONNECTION_ESTABLISHED) for clients in (here, there)]
            await server.start()
            await asyncio.gather(*back)
            assert here.broker.backplane.is_connected

            received = await take(subscription, 100)
            assert [int(each.data) for each in received] == list(range(100))
            await other.publish(topic="t.after", data=b"")
            assert await take(subscription, 1) == [Message("t.after", b"")]
            async with await asking as new:
                await other.publish(topic="new", data=b"x")
                assert await take(new, 1) == [Message("new", b"x")]


async def test_a_server_that_comes_later(server: BackplaneServer) -> None:
    await server.kill()
    async with brokers(server, 1) as (clients,), clients.manager() as manager:
        await events(clients, EventType.CONNECTION_FAILED)
        with pytest.raises(SubscriptionFailedError, match="not answered"):
            await manager.subscribe(topic="early", timeout=0.05)
        asking = asyncio.create_task(manager.subscribe(topic="t"))
        await asyncio.sleep(0)
        await manager.publish(topic="t", data=b"x")
        await server.start()
        async with await asking as subscription:
            assert await take(subscription, 1) == [Message("t", b"x")]
        assert clients.broker.stats.topics <= 1


async def test_the_outbox_at_its_limit_makes_publishers_wait(server: BackplaneServer) -> None:
    await server.kill()
    for limits, sizes in (
        ({"max_waiting": 3}, [1, 1, 1, 1]),
        ({"max_waiting_bytes": 30}, [9, 9, 9, 9]),
    ):
        backplane = server.backplane(**limits)
        async with PubSubBroker(backplane=backplane) as broker:
            for size in sizes[:-1]:
                await broker.publish(topic="t", data=b"x" * size)
            waiting = asyncio.create_task(broker.publish(topic="t", data=b"x" * sizes[-1]))
            await backplane.events.wait_for(event_type=EventType.CONNECTION_FAILED, timeout=20)
            assert not waiting.done()
            assert broker.stats.messages_waiting == 3
            await server.start()
            await asyncio.wait_for(waiting, 20)
            await server.kill()


async def test_stopping_sends_what_waits(server: BackplaneServer) -> None:
    async with (
        brokers(server, 1) as (clients,),
        clients.manager() as manager,
        await manager.subscribe(topic="t", max_queue_size=3000) as subscription,
    ):
        async with PubSubBroker(backplane=server.backplane()) as broker:
            established = EventType.CONNECTION_ESTABLISHED
            await broker.backplane.events.wait_for(event_type=established, timeout=20)
            for number in range(3000):
                await broker.publish(topic="t", data=str(number))
        received = await take(subscription, 3000)
        assert [int(each.data) for each in received] == list(range(3000))


async def test_stopping_while_a_lost_connection_is_closed_leaves_nothing(
    server: BackplaneServer,
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for turns in range(12):
            async with PubSubBroker(backplane=server.backplane()) as broker:
                told = broker.backplane.events
                await told.wait_for(event_type=EventType.CONNECTION_ESTABLISHED, timeout=20)
                lost = asyncio.ensure_future(
                    told.wait_for(event_type=EventType.CONNECTION_LOST, timeout=20)
                )
                await server.kill()
                for _ in range(turns):
                    await asyncio.sleep(0)
            lost.cancel()
            await asyncio.wait([lost])
            await server.start()
            del broker, told, lost
        gc.collect()
    assert not [str(each.message) for each in caught]


async def test_stopping_without_a_server_fails_who_waits(server: BackplaneServer) -> None:
    await server.kill()
    backplane = server.backplane(max_waiting=1)
    broker = PubSubBroker(backplane=backplane)
    async with broker:
        await broker.publish(topic="t", data=b"")
        waiting = asyncio.create_task(broker.publish(topic="t", data=b""))
        asking = backplane.subscribe("t")
        await backplane.events.wait_for(event_type=EventType.CONNECTION_FAILED, timeout=20)
    for each in (waiting, asking, backplane.subscribe("t")):
        with pytest.raises(PubSubError, match="stopped"):
            await each


async def test_a_client_that_leaves_ends_its_subscriptions(server: BackplaneServer) -> None:
    async with brokers(server, 1) as (clients,):
        async with clients.manager() as manager:
            await manager.subscribe(topic="a")
            await manager.subscribe(topic="b.*")
        await asyncio.gather(*clients.tasks)
        backplane = clients.broker.backplane
        assert isinstance(backplane, RemoteBackplane)
        assert backplane._wanted == {}


async def test_a_message_too_large_for_nats_holds_nothing_up() -> None:
    async with (
        NatsServer() as server,
        brokers(server, 1) as (clients,),
        clients.manager() as manager,
        await manager.subscribe(topic="t") as subscription,
    ):
        await clients.broker.backplane.publish("t", b"x" * (2 << 20))
        await manager.publish(topic="t", data=b"x")
        assert await take(subscription, 1) == [Message("t", b"x")]


@pytest.mark.parametrize(
    ("make", "module", "key"),
    [
        (lambda: RedisBackplane("redis://localhost"), "redis.asyncio", "dependency.redis"),
        (lambda: NatsBackplane("nats://localhost"), "nats", "dependency.nats"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, make: type, module: str, key: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match="pip install") as caught:
        make()
    assert caught.value.config_key == key


@pytest.mark.parametrize(
    "limits",
    [
        {"max_waiting": 0},
        {"max_waiting_bytes": 0},
        {"min_retry_delay": 0},
        {"min_retry_delay": 2, "max_retry_delay": 1},
    ],
)
def test_limits_that_make_no_sense(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        RedisBackplane("redis://localhost", **limits)


async def test_managers_close_while_the_backplane_is_away() -> None:
    async with RedisServer() as server:
        await server.kill()
        async with brokers(server, 1) as (clients,), clients.manager() as manager:
            asking = asyncio.create_task(manager.subscribe(topic="t"))
            await events(clients, EventType.CONNECTION_FAILED)
            await manager.close()
            with pytest.raises(PubSubError):
                await asking
            assert isinstance(manager, PubSubManager)
