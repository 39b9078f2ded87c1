"""What one client's patterns cost the broker is bounded."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport.pubsub import PubSubBroker, PubSubManager, SubscriptionFailedError
from pywebtransport.pubsub.topic import (
    MAX_TOPIC_TOKENS,
    PatternTree,
    check_pattern,
    check_topic,
    pattern_tokens,
)
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within


def test_a_topic_has_so_many_tokens_and_no_more() -> None:
    assert MAX_TOPIC_TOKENS == 16
    check_topic(".".join("a" * 16))
    check_pattern(".".join("*" * 16))
    for check, text in ((check_topic, "a" * 17), (check_pattern, "*" * 17)):
        with pytest.raises(ValueError, match="more than 16 tokens, this one has 17"):
            check(".".join(text))


def test_what_a_pattern_counts() -> None:
    assert [pattern_tokens(each) for each in ("a.b", "*", "a.*", "a.b.>")] == [0, 1, 2, 3]


async def test_the_patterns_of_a_client_are_bounded_together(site: MakeSite) -> None:
    pair = await (await site()).pair()
    async with PubSubBroker(max_pattern_tokens=6) as broker:
        task = asyncio.create_task(broker.handle_session(pair.server))
        stream = await pair.client.create_bidirectional_stream()
        async with PubSubManager(stream=stream) as manager:
            await within(manager.subscribe(topic="a.b.c.d.e.f.g"))
            await within(manager.subscribe(topic="a.b.*"))
            await within(manager.subscribe(topic="c.b.>"))
            with pytest.raises(SubscriptionFailedError, match="may have 6 tokens together"):
                await within(manager.subscribe(topic="*"))
            await manager.unsubscribe(topic="a.b.*")
            await within(manager.subscribe(topic="x.*.y"))
            with pytest.raises(SubscriptionFailedError, match="more than 16 tokens"):
                await within(manager.subscribe(topic=".".join("a" * 512)))
        await pair.client.close()
        await within(task)


def test_a_topic_is_not_followed_deeper_than_the_tree() -> None:
    tree = PatternTree()
    tree.add("a.*")
    assert tree.match("a.b") == ["a.*"]
    assert tree.match(".".join("a" * 100_000)) == []
