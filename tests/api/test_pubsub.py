"""The client of publish and subscribe on a stream in memory: every row of the reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.pubsub import (
    Message,
    NotSubscribedError,
    PubSubError,
    PubSubManager,
    PubSubStats,
    Subscription,
    SubscriptionFailedError,
)
from pywebtransport.pubsub.protocol import Command, CommandParser, encode_line, encode_message
from pywebtransport.stream import WebTransportStream
from tests.support.stream_pair import MemoryStream, stream_pair


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() <= {asyncio.current_task()}


class Server:
    """The bare other end: what the client wrote, and bytes of the test's choice."""

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.received = b""

    async def expect(self, data: bytes) -> None:
        while len(self.received) < len(data):
            chunk = await self.stream.read(size=1 << 16)
            assert chunk, f"the stream ended after {self.received!r}"
            self.received += chunk
        assert self.received.startswith(data)
        self.received = self.received[len(data) :]

    async def send(self, data: bytes) -> None:
        await self.stream.write(data=data)

    async def accept(self, manager: PubSubManager, topic: str, **options: Any) -> Subscription:
        subscribing = asyncio.create_task(manager.subscribe(topic=topic, **options))
        await self.expect(b"SUB %s\n" % topic.encode())
        await self.send(b"SUB-OK %s\n" % topic.encode())
        return await subscribing


def manager_on(stream: MemoryStream, **options: Any) -> PubSubManager:
    return PubSubManager(stream=cast(WebTransportStream, stream), **options)


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[PubSubManager, Server]]:
    one, other = stream_pair()
    async with manager_on(one, **options) as manager:
        yield manager, Server(other)


async def test_the_bytes_of_every_command() -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "a.b")
        await manager.publish(topic="a.b", data="h\u00e9")
        await server.expect(b"PUB a.b 3\nh\xc3\xa9")
        await manager.publish(topic="tøpic", data=b"")
        await server.expect("PUB tøpic 0\n".encode())
        async with subscription:
            await server.send(b"MSG a.b 5\nA\nB C")
            async for data in subscription:
                assert data == b"A\nB C"
                break
        await server.expect(b"UNSUB a.b\n")


async def test_messages_and_their_topics() -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "a.*")
        async with subscription:
            await server.send(b"TOPIC a.x\nMSG a.* 1\n1MSG a.* 1\n2")
            messages = subscription.messages()
            assert await anext(messages) == Message("a.x", b"1")
            assert await anext(messages) == Message("a.*", b"2")


async def test_messages_are_queued_from_the_confirmation_on() -> None:
    async with connected() as (manager, server):
        subscribing = asyncio.create_task(manager.subscribe(topic="t"))
        await server.expect(b"SUB t\n")
        await server.send(b"SUB-OK t\nMSG t 1\n1")
        async with await subscribing as subscription:
            assert await anext(aiter(subscription)) == b"1"


async def test_a_full_queue_drops_the_new_messages() -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "t", max_queue_size=2)
        await server.send(b"MSG t 1\n1MSG t 1\n2MSG t 1\n3")
        await server.accept(manager, "barrier")
        async with subscription:
            await manager.unsubscribe(topic="t")
            assert [data async for data in subscription] == [b"1", b"2"]
        assert subscription.messages_dropped == 1
        assert manager.stats.messages_received == 3


async def test_the_default_queue_holds_sixteen() -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "t")
        await server.send(b"MSG t 1\nx" * 17)
        await server.accept(manager, "barrier")
        assert subscription.messages_dropped == 1


async def test_two_subscriptions_to_one_topic() -> None:
    async with connected() as (manager, server):
        one = await server.accept(manager, "t")
        other = await server.accept(manager, "t")
        assert manager.stats.topics_subscribed == 1
        await server.send(b"MSG t 1\nx")
        async with one, other:
            assert await anext(aiter(one)) == await anext(aiter(other)) == b"x"
            assert manager.stats.messages_received == 1
            async with one:
                pass
            await manager.publish(topic="still", data=b"")
            await server.expect(b"PUB still 0\n")
            assert other.is_ended is False
        await server.expect(b"UNSUB t\n")
        assert manager.stats.topics_subscribed == 0


async def test_unsubscribing_ends_every_subscription_of_the_topic() -> None:
    async with connected() as (manager, server):
        one = await server.accept(manager, "t")
        other = await server.accept(manager, "t")
        async with one, other:
            readers = [asyncio.create_task(_all(each)) for each in (one, other)]
            await one.unsubscribe()
            assert await asyncio.gather(*readers) == [[], []]
        await server.expect(b"UNSUB t\n")
        await manager.unsubscribe(topic="t")
        await manager.unsubscribe(topic="unknown")
        await manager.publish(topic="x", data=b"")
        await server.expect(b"PUB x 0\n")


async def _all(subscription: Subscription) -> list[bytes]:
    return [data async for data in subscription]


async def test_a_refusal() -> None:
    async with connected() as (manager, server):
        subscribing = asyncio.create_task(manager.subscribe(topic="t"))
        await server.expect(b"SUB t\n")
        await server.send(b"SUB-FAIL t because of the rules\n")
        with pytest.raises(SubscriptionFailedError, match="because of the rules"):
            await subscribing
        assert manager.stats.subscription_errors == 1
        await server.accept(manager, "t")


async def test_no_answer_in_time_takes_the_subscription_back() -> None:
    async with connected() as (manager, server):
        with pytest.raises(SubscriptionFailedError, match="not answered"):
            await manager.subscribe(topic="t", timeout=0.01)
        await server.expect(b"SUB t\nUNSUB t\n")
        assert manager.stats.subscription_errors == 1
        assert manager._pending == {}


async def test_a_stream_that_takes_nothing_does_not_outlast_the_timeout() -> None:
    one, other = stream_pair(window=1)
    async with manager_on(one) as manager:
        await manager.publish(topic="a", data=b"1")
        async with asyncio.timeout(0.5):
            with pytest.raises(SubscriptionFailedError, match="not answered"):
                await manager.subscribe(topic="t", timeout=0.01)
        # What was never asked for is not taken back.
        server = Server(other)
        await server.expect(b"PUB a 1\n1")
        await manager.publish(topic="b", data=b"2")
        await server.expect(b"PUB b 1\n2")


async def test_a_cancelled_subscribe_is_taken_back() -> None:
    async with connected() as (manager, server):
        subscribing = asyncio.create_task(manager.subscribe(topic="t"))
        await server.expect(b"SUB t\n")
        subscribing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await subscribing
        await server.expect(b"UNSUB t\n")
        # A late confirmation makes no subscription.
        await server.send(b"SUB-OK t\n")
        await server.accept(manager, "barrier")
        assert manager.stats.topics_subscribed == 1


async def test_a_second_pending_subscribe() -> None:
    async with connected() as (manager, server):
        subscribing = asyncio.create_task(manager.subscribe(topic="t"))
        await server.expect(b"SUB t\n")
        with pytest.raises(PubSubError, match="pending"):
            await manager.subscribe(topic="t")
        await server.send(b"SUB-OK t\n")
        await subscribing


async def test_a_queue_size_that_is_not_positive() -> None:
    async with connected() as (manager, _):
        for size in (0, -1):
            with pytest.raises(ValueError, match="positive"):
                await manager.subscribe(topic="t", max_queue_size=size)
            with pytest.raises(ValueError, match="positive"):
                Subscription(topic="t", manager=manager, max_queue_size=size)
    with pytest.raises(ValueError, match="positive"):
        manager_on(stream_pair()[0], max_message_size=0)


@pytest.mark.parametrize("topic", ["", "a b", "a\nb", "a\tb", "a\u2028b", "x" * 70_000])
async def test_topics_that_the_protocol_cannot_carry(topic: str) -> None:
    async with connected() as (manager, _):
        with pytest.raises(ValueError, match="topic"):
            await manager.publish(topic=topic, data=b"")
        with pytest.raises(ValueError, match="topic"):
            await manager.subscribe(topic=topic)


async def test_iterating_without_entering() -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "t")
        with pytest.raises(PubSubError, match="async with"):
            await anext(aiter(subscription))


async def test_a_manager_that_was_not_entered() -> None:
    manager = manager_on(stream_pair()[0])
    for call in (
        manager.publish(topic="t", data=b""),
        manager.subscribe(topic="t"),
        manager.unsubscribe(topic="t"),
    ):
        with pytest.raises(PubSubError, match="has not been activated"):
            await call
    await manager.close()


async def test_a_manager_is_entered_once() -> None:
    async with connected() as (manager, _):
        with pytest.raises(PubSubError, match="entered before"):
            await manager.__aenter__()


async def test_closing() -> None:
    one, other = stream_pair()
    server = Server(other)
    async with manager_on(one) as manager:
        subscription = await server.accept(manager, "t")
        pending = asyncio.create_task(manager.subscribe(topic="pending"))
        await server.expect(b"SUB pending\n")
        async with subscription:
            reading = asyncio.create_task(_all(subscription))
            await manager.publish(topic="last", data=b"words")
            await manager.close()
            await manager.close()
            assert await reading == []
        with pytest.raises(PubSubError):
            await pending
        with pytest.raises(PubSubError, match="closed"):
            await manager.publish(topic="t", data=b"")
        with pytest.raises(PubSubError, match="closed"):
            await manager.subscribe(topic="t")
        with pytest.raises(NotSubscribedError):
            await manager.unsubscribe(topic="t")
        await manager.unsubscribe(topic="unknown")
    assert one.is_closed
    await server.expect(b"PUB last 5\nwords")
    assert await other.read() == b""


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_the_end_of_the_stream_closes_the_manager(how: str) -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "t")
        pending = asyncio.create_task(manager.subscribe(topic="pending"))
        await server.expect(b"SUB pending\n")
        await server.send(b"MSG t 1\nx")
        await (server.stream.close() if how == "end" else server.stream.abort(code=3))
        with pytest.raises(PubSubError):
            await pending
        await manager.wait_closed()
        async with subscription:
            if how == "end":
                assert await _all(subscription) == [b"x"]
            else:
                with pytest.raises(PubSubError, match="the stream was reset"):
                    await _all(subscription)


async def test_unknown_lines_are_ignored() -> None:
    async with connected() as (manager, server):
        subscription = await server.accept(manager, "t")
        await server.send(b"HELLO\n\nPING 1 2 3\nSUB-OK\nSUB-OK never\nSUB-FAIL\nMSG other 2\nxx")
        await server.send(b"MSG t 1\nx")
        async with subscription:
            assert await anext(aiter(subscription)) == b"x"
        assert manager.stats.messages_received == 1


@pytest.mark.parametrize(
    "line",
    [
        b"MSG t x\n",
        b"MSG t -1\n",
        b"MSG t\n",
        b"MSG\n",
        b"MSG t 101\n",
        b"MSG t 9999999999999999\n",
        b"MSG t \xd9\xa3\n",
        b"x" * 65536,
    ],
)
async def test_what_cannot_be_skipped_closes_the_manager(line: bytes) -> None:
    async with connected(max_message_size=100) as (manager, server):
        subscription = await server.accept(manager, "t")
        await server.send(line)
        await manager.wait_closed()
        async with subscription:
            with pytest.raises(PubSubError, match="stream failed"):
                await _all(subscription)


async def test_a_message_at_the_limit() -> None:
    async with connected(max_message_size=100) as (manager, server):
        subscription = await server.accept(manager, "t")
        await server.send(b"MSG t 100\n" + b"x" * 100)
        async with subscription:
            assert await anext(aiter(subscription)) == b"x" * 100


async def test_a_publish_cancelled_while_the_stream_takes_nothing_is_not_sent() -> None:
    one, other = stream_pair(window=1)
    async with manager_on(one) as manager:
        await manager.publish(topic="a", data=b"1")
        waiting = asyncio.create_task(manager.publish(topic="b", data=b"2"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        server = Server(other)
        await server.expect(b"PUB a 1\n1")
        await manager.publish(topic="c", data=b"3")
        await server.expect(b"PUB c 1\n3")


def test_stats() -> None:
    stats = PubSubStats(created_at=1.0)
    assert stats.to_dict() == {
        "created_at": 1.0,
        "topics_subscribed": 0,
        "messages_published": 0,
        "messages_received": 0,
        "subscription_errors": 0,
    }


def test_a_line_at_the_limit_and_one_past_it() -> None:
    parser = CommandParser(max_line_size=16)
    assert list(parser.feed(b"SUB " + b"t" * 11 + b"\n")) == [Command("SUB", "t" * 11, b"")]
    with pytest.raises(PubSubError, match="16"):
        list(parser.feed(b"SUB " + b"t" * 12 + b"\n"))


commands = st.lists(
    st.one_of(
        st.tuples(st.just("SUB"), st.text("ab.*>é", min_size=1, max_size=8), st.just(b"")),
        st.tuples(st.just("PUB"), st.text("ab.é", min_size=1, max_size=8), st.binary(max_size=20)),
        st.tuples(st.just("MSG"), st.text("ab.é", min_size=1, max_size=8), st.binary(max_size=20)),
    ),
    max_size=8,
)


@given(commands, st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_a_parser_gives_back_what_was_encoded(
    encoded: list[tuple[str, str, bytes]], cuts: list[int]
) -> None:
    data = b"".join(
        encode_line(verb, topic) if verb == "SUB" else encode_message(verb, topic, payload)
        for verb, topic, payload in encoded
    )
    parser = CommandParser()
    found: list[Command] = []
    position = index = 0
    while position < len(data):
        size = cuts[index % len(cuts)]
        found += parser.feed(data[position : position + size])
        position += size
        index += 1
    assert found == [Command(*each) for each in encoded]


@given(st.binary(max_size=200))
def test_no_bytes_make_a_parser_raise_anything_else(data: bytes) -> None:
    parser = CommandParser(max_message_size=50, max_line_size=64)
    try:
        for command in parser.feed(data):
            assert isinstance(command, Command)
    except PubSubError as error:
        assert str(error)
