"""Publish and subscribe over WebTransport streams: the client's manager and the server's broker.

A client talks to its server over one bidirectional stream::

    async with PubSubManager(stream=stream) as pubsub:
        subscription = await pubsub.subscribe(topic="weather.*")
        async with subscription:
            async for message in subscription.messages():
                print(message.topic, message.data)

A server mounts a broker, and all its clients share the topics::

    broker = PubSubBroker()
    broker.mount(app, path="/pubsub")

With ``PubSubBroker(backplane=RedisBackplane(url))`` or ``NatsBackplane(url)`` the clients of
several processes and machines share them.
"""

from __future__ import annotations

from pywebtransport.pubsub.backplane import Backplane, LocalBackplane
from pywebtransport.pubsub.broker import BrokerStats, PubSubBroker
from pywebtransport.pubsub.exceptions import (
    NotSubscribedError,
    PubSubError,
    SubscriptionFailedError,
)
from pywebtransport.pubsub.manager import PubSubManager, PubSubStats
from pywebtransport.pubsub.nats import NatsBackplane
from pywebtransport.pubsub.redis import RedisBackplane
from pywebtransport.pubsub.subscriber import SlowSubscriberPolicy, SubscriberStats
from pywebtransport.pubsub.subscription import Message, Subscription

__all__ = [
    "Backplane",
    "BrokerStats",
    "LocalBackplane",
    "Message",
    "NatsBackplane",
    "NotSubscribedError",
    "PubSubBroker",
    "PubSubError",
    "PubSubManager",
    "PubSubStats",
    "RedisBackplane",
    "SlowSubscriberPolicy",
    "SubscriberStats",
    "Subscription",
    "SubscriptionFailedError",
]
