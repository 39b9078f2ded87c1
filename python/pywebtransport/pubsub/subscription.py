"""What a subscriber holds: the queue of one subscription."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from pywebtransport.pubsub.exceptions import PubSubError

__all__ = ["Message", "Subscription"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message and the topic that it was published to."""

    topic: str
    data: bytes


class Owner(Protocol):
    """What a subscription asks of its :class:`~pywebtransport.pubsub.PubSubManager`."""

    async def unsubscribe(self, *, topic: str) -> None: ...
    async def _leave(self, subscription: Subscription) -> None: ...


class Subscription:
    """The messages of one topic or pattern; :meth:`PubSubManager.subscribe` makes one.

    Use it with ``async with`` and iterate over it; the iteration ends with the subscription. The
    queue holds ``max_queue_size`` messages from the moment the server confirmed; a message that
    finds it full is dropped and counted.
    """

    def __init__(self, *, topic: str, manager: Owner, max_queue_size: int) -> None:
        if max_queue_size <= 0:
            raise ValueError("max_queue_size must be positive")
        self.topic = topic
        self._manager = manager
        self._max_queue_size = max_queue_size
        self._queue: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._entered = False
        self._ended = False
        self._failure: str | None = None
        self._dropped = 0

    @property
    def messages_dropped(self) -> int:
        """Messages that found the queue full."""
        return self._dropped

    @property
    def is_ended(self) -> bool:
        """Whether nothing more will be queued."""
        return self._ended

    async def __aenter__(self) -> Self:
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if not self._ended:
            await self._manager._leave(self)

    async def unsubscribe(self) -> None:
        """End this subscription and every other of the same topic."""
        await self._manager.unsubscribe(topic=self.topic)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for message in self.messages():
            yield message.data

    async def messages(self) -> AsyncIterator[Message]:
        """As iterating over the subscription, with the topic that each was published to.

        Raises:
            PubSubError: The subscription was not entered; or its stream was reset, or its session
                lost or closed with a code. A stream that the server ends is a quiet end.
        """
        if not self._entered:
            raise PubSubError(
                "the subscription has not been entered: use `async with subscription`"
            )
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._failure is not None:
                raise PubSubError(self._failure)
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    def _put(self, message: Message) -> None:
        if len(self._queue) >= self._max_queue_size:
            self._dropped += 1
            return
        self._queue.append(message)
        self._changed.set()

    def _end(self, failure: str | None = None) -> None:
        """Nothing more comes; ``failure``: because of that."""
        self._ended = True
        self._failure = failure
        self._changed.set()
