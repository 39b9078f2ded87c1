"""The client's side of the line protocol on one bidirectional stream."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pywebtransport._messages import finish, read_chunk
from pywebtransport._waiting import forget_cancellation
from pywebtransport._words import peer_text
from pywebtransport.constants import (
    DEFAULT_MAX_MESSAGE_SIZE,
    DEFAULT_PUBSUB_SUBSCRIPTION_QUEUE_SIZE,
    DEFAULT_STREAM_LINE_LIMIT,
)
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub.exceptions import (
    NotSubscribedError,
    PubSubError,
    SubscriptionFailedError,
)
from pywebtransport.pubsub.protocol import Command, CommandParser, encode_line, encode_message
from pywebtransport.pubsub.subscription import Message, Subscription
from pywebtransport.pubsub.topic import FORBIDDEN
from pywebtransport.types import Data

if TYPE_CHECKING:
    from pywebtransport.stream import WebTransportStream

__all__ = ["PubSubManager", "PubSubStats", "Subscription"]

logger = logging.getLogger(__name__)

TAKE_BACK_TIMEOUT = 1.0
"""Seconds for the stream to take an UNSUB that nobody waits for."""


@dataclass(kw_only=True)
class PubSubStats:
    """What a manager has done; times in seconds since the epoch."""

    created_at: float = field(default_factory=time.time)
    topics_subscribed: int = 0
    messages_published: int = 0
    messages_received: int = 0
    subscription_errors: int = 0

    def to_dict(self) -> dict[str, float | int]:
        """The fields by name."""
        return asdict(self)


class PubSubManager:
    """Publishes and subscribes over one stream to a server that speaks the line protocol.

    Use it with ``async with``; the end of the stream, from either side, closes it. A message
    larger than ``max_message_size`` cannot be skipped safely: it closes the manager.
    """

    def __init__(
        self, *, stream: WebTransportStream, max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE
    ) -> None:
        if max_message_size <= 0:
            raise ValueError("max_message_size must be positive")
        self._stream = stream
        self._parser = CommandParser(max_message_size=max_message_size)
        self._stats = PubSubStats()
        self._pending: dict[str, tuple[asyncio.Future[Subscription | PubSubError], int]] = {}
        """By topic: who waits for the answer, and the queue size that is wanted."""
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._published_to: str | None = None
        self._reader: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise PubSubError("PubSubManager was entered before; make a new one")
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def stats(self) -> PubSubStats:
        """The live figures."""
        return self._stats

    async def subscribe(
        self,
        *,
        topic: str,
        max_queue_size: int = DEFAULT_PUBSUB_SUBSCRIPTION_QUEUE_SIZE,
        timeout: float = 10.0,
    ) -> Subscription:
        """Subscribe to a topic, or to a pattern where the server knows patterns.

        Several subscriptions to one topic each get every message. Cancelled or timed out, the
        subscription is taken back at the server.

        Raises:
            SubscriptionFailedError: the server refused, or did not answer within ``timeout``.
            PubSubError: the manager is not entered or closed, or a subscription to the topic is
                being asked for already.
            ValueError: the topic cannot be written, or ``max_queue_size`` is not positive.
        """
        if max_queue_size <= 0:
            raise ValueError("max_queue_size must be positive")
        _check_writable(topic)
        self._check_open()
        if topic in self._pending:
            raise PubSubError(f"a subscription to {topic!r} is already pending")
        answer: asyncio.Future[Subscription | PubSubError]
        answer = asyncio.get_running_loop().create_future()
        self._pending[topic] = answer, max_queue_size
        is_asked = False
        try:
            async with asyncio.timeout(timeout):
                await self._write(encode_line("SUB", topic))
                is_asked = True
                outcome = await answer
        except TimeoutError:
            self._stats.subscription_errors += 1
            if is_asked:
                await self._take_back(topic)
            raise SubscriptionFailedError(
                f"the subscription to {topic!r} was not answered within {timeout} s"
            ) from None
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                confirmed = answer.result()
                if isinstance(confirmed, Subscription):
                    await self._leave(confirmed)
            elif is_asked:
                await self._take_back(topic)
            raise
        finally:
            if topic in self._pending and self._pending[topic][0] is answer:
                del self._pending[topic]
        try:
            if isinstance(outcome, PubSubError):
                raise outcome
            return outcome
        finally:
            # What is raised holds this frame, and so must not be held by it.
            del outcome, answer

    async def unsubscribe(self, *, topic: str) -> None:
        """End every subscription to a topic; an unknown one is no error.

        Does not wait for the server. NotSubscribedError when the stream has ended.
        """
        if self._reader is None:
            self._check_open()
        ended = self._subscriptions.pop(topic, None)
        if ended is None:
            return
        for subscription in ended:
            subscription._end()
        try:
            self._check_open()
            self._stats.topics_subscribed -= 1
            await self._write(encode_line("UNSUB", topic))
        except PubSubError as error:
            raise NotSubscribedError(error.message) from error

    async def publish(self, *, topic: str, data: Data) -> None:
        """Publish bytes, or text as UTF-8. Returns when the stream has taken the message.

        Raises:
            PubSubError: the manager is not entered or closed, or the stream fails.
            ValueError: the topic cannot be written.
        """
        _check_writable(topic)
        self._check_open()
        payload = data.encode() if isinstance(data, str) else bytes(data)
        await self._write(encode_message("PUB", topic, payload))
        self._stats.messages_published += 1

    async def close(self) -> None:
        """End the stream and every subscription; pending ones fail. Idempotent.

        What has been published still reaches the server.
        """
        if self._reader is None:
            return
        if self._closing is None:
            self._begin_closing("the Pub/Sub manager is closed")
        await self._closed.wait()

    async def wait_closed(self) -> None:
        """Wait until the manager is closed: by :meth:`close` or by the end of the stream."""
        await self._closed.wait()

    def _check_open(self) -> None:
        if self._reader is None:
            raise PubSubError(
                "PubSubManager has not been activated. Use it with `async with PubSubManager(...)`."
            )
        if self._closing is not None:
            raise PubSubError("the Pub/Sub stream is closed")

    async def _write(self, command: bytes, *, wait_flush: bool = True) -> None:
        if self._closing is not None:
            raise PubSubError("the Pub/Sub stream is closed")
        try:
            await self._stream.write(data=command, wait_flush=wait_flush)
        except WebTransportError as error:
            raise PubSubError(f"the Pub/Sub stream failed: {error.message}") from error

    async def _leave(self, subscription: Subscription) -> None:
        """End one subscription; the server hears of the last one of a topic."""
        subscription._end()
        others = self._subscriptions.get(subscription.topic, [])
        if subscription in others:
            others.remove(subscription)
            if not others:
                del self._subscriptions[subscription.topic]
                self._stats.topics_subscribed -= 1
                await self._take_back(subscription.topic)

    async def _take_back(self, topic: str) -> None:
        if topic in self._subscriptions:
            return
        try:
            async with asyncio.timeout(TAKE_BACK_TIMEOUT):
                await self._write(encode_line("UNSUB", topic), wait_flush=False)
        except (PubSubError, TimeoutError) as error:
            logger.debug("%r was not unsubscribed: %s", topic, error)

    async def _read(self) -> None:
        reason = "the server ended the Pub/Sub stream"
        is_failure = True
        try:
            while data := await read_chunk(self._stream, self._parser.size):
                for command in self._parser.feed(data):
                    self._receive(command)
            is_failure = False
        except WebTransportError as error:
            reason = f"the Pub/Sub stream failed: {error.message}"
            logger.debug("%s", reason)
        except Exception as error:
            reason = f"the Pub/Sub stream failed: {error}"
            logger.error("the Pub/Sub stream failed", exc_info=error)
        if self._closing is None:
            self._begin_closing(reason, is_failure=is_failure)

    def _receive(self, command: Command) -> None:
        match command.verb:
            case "MSG":
                topic = self._published_to or command.topic
                self._published_to = None
                subscriptions = self._subscriptions.get(command.topic)
                if subscriptions:
                    self._stats.messages_received += 1
                    message = Message(topic, command.data)
                    for subscription in subscriptions:
                        subscription._put(message)
            case "TOPIC":
                self._published_to = command.topic
            case "SUB-OK":
                self._confirm(command.topic)
            case "SUB-FAIL":
                answer, _ = self._pending.pop(command.topic, (None, 0))
                if answer is not None and not answer.done():
                    self._stats.subscription_errors += 1
                    reason = command.data.decode("utf-8", "replace")
                    answer.set_result(
                        SubscriptionFailedError(
                            peer_text(reason) if reason else "no reason was given"
                        )
                    )
            case verb:
                logger.debug("an unknown command %.40r was ignored", verb)

    def _confirm(self, topic: str) -> None:
        answer, max_queue_size = self._pending.pop(topic, (None, 0))
        if answer is None or answer.done():
            return
        # The queue is there before the next command is read, so that nothing is missed.
        subscription = Subscription(topic=topic, manager=self, max_queue_size=max_queue_size)
        if topic not in self._subscriptions:
            self._subscriptions[topic] = []
            self._stats.topics_subscribed += 1
        self._subscriptions[topic].append(subscription)
        answer.set_result(subscription)

    def _begin_closing(self, reason: str, *, is_failure: bool = False) -> None:
        closing = self._close(reason, is_failure)
        self._closing = asyncio.get_running_loop().create_task(closing)

    async def _close(self, reason: str, is_failure: bool) -> None:
        try:
            for answer, _ in self._pending.values():
                if not answer.done():
                    answer.set_result(PubSubError(reason))
            for subscriptions in self._subscriptions.values():
                for subscription in subscriptions:
                    subscription._end(reason if is_failure else None)
                # They know the manager; that the topic was subscribed to stays known.
                subscriptions.clear()
            self._stats.topics_subscribed = 0
            if self._reader is not None and not self._reader.done():
                self._reader.cancel()
                await asyncio.wait([self._reader])
                forget_cancellation(self._reader)
            await finish(self._stream)
        finally:
            self._closed.set()


def _check_writable(topic: str) -> None:
    """What the line protocol can carry; which topics mean something, the server decides."""
    if not topic or FORBIDDEN.search(topic):
        raise ValueError("a topic must be a text without white space or control characters")
    if len(topic.encode()) > DEFAULT_STREAM_LINE_LIMIT - len("SUB-FAIL  \n") - 200:
        raise ValueError("the topic does not fit into a line")
