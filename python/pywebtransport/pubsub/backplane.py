"""What carries messages between the brokers of one topic space.

A broker tells its backplane which patterns its subscribers want and publishes everything to it;
the backplane hands back each message once for every wanted pattern that takes it. Within one
process that is :class:`LocalBackplane`; the others speak to a server that processes share.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

from pywebtransport.events import EventEmitter
from pywebtransport.pubsub.topic import PatternTree

__all__ = ["Backplane", "Deliver", "LocalBackplane"]

Deliver: TypeAlias = Callable[[str, str, bytes], bool]
"""Called with pattern, topic and data. True: a queue fills up, let the loop run."""


class Backplane(ABC):
    """One topic space. Messages of one publisher keep their order for each pattern.

    A backplane with a server emits on :attr:`events`, with ``{"url": ..., "error": ...}`` as data,
    CONNECTION_ESTABLISHED each time it has (again) connected and renewed its subscriptions,
    CONNECTION_LOST when that connection broke, and CONNECTION_FAILED for each attempt in vain.
    """

    def __init__(self) -> None:
        self.events = EventEmitter()

    @abstractmethod
    async def start(self, deliver: Deliver) -> None:
        """Begin; messages go to ``deliver``. Does not wait for a server."""

    @abstractmethod
    def subscribe(self, pattern: str) -> asyncio.Future[None]:
        """Want the messages of a pattern; done when none can be missed any more."""

    @abstractmethod
    def unsubscribe(self, pattern: str) -> None:
        """Want them no more."""

    @abstractmethod
    async def publish(self, topic: str, data: bytes) -> None:
        """Publish; waits while too much waits to be sent."""

    @abstractmethod
    async def stop(self) -> None:
        """End, after what was published has been sent. Idempotent."""

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether messages get through now."""

    @property
    def messages_waiting(self) -> int:
        """Published messages that have not been sent."""
        return 0


class LocalBackplane(Backplane):
    """The topic space of one broker."""

    def __init__(self) -> None:
        super().__init__()
        self._patterns = PatternTree()
        self._deliver: Deliver | None = None

    async def start(self, deliver: Deliver) -> None:
        self._deliver = deliver

    def subscribe(self, pattern: str) -> asyncio.Future[None]:
        self._patterns.add(pattern)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def unsubscribe(self, pattern: str) -> None:
        self._patterns.discard(pattern)

    async def publish(self, topic: str, data: bytes) -> None:
        if self._deliver is None:
            return
        crowded = False
        for pattern in self._patterns.match(topic):
            crowded |= self._deliver(pattern, topic, data)
        if crowded:
            await asyncio.sleep(0)

    async def stop(self) -> None:
        self._deliver = None

    @property
    def is_connected(self) -> bool:
        return self._deliver is not None
