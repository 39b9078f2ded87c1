"""The server's side of publish and subscribe: one topic space for all clients."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast

from pywebtransport._messages import finish, read_chunk
from pywebtransport._sparse_log import SparseLog
from pywebtransport._waiting import forget_cancellation
from pywebtransport._words import peer_text
from pywebtransport.constants import DEFAULT_MAX_MESSAGE_SIZE, ErrorCodes
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub.backplane import Backplane, LocalBackplane
from pywebtransport.pubsub.exceptions import PubSubError
from pywebtransport.pubsub.protocol import Command, CommandParser, encode_line, encode_message
from pywebtransport.pubsub.subscriber import (
    QueueLimits,
    SlowSubscriberPolicy,
    Subscriber,
    SubscriberStats,
)
from pywebtransport.pubsub.topic import (
    MAX_TOPIC_SIZE,
    check_pattern,
    check_topic,
    pattern_tokens,
)
from pywebtransport.types import Data, StreamDirection

if TYPE_CHECKING:
    from pywebtransport._link.sides import Connection
    from pywebtransport.server import ServerApp
    from pywebtransport.session import WebTransportSession
    from pywebtransport.stream import WebTransportStream

__all__ = ["Authorize", "BrokerStats", "PubSubBroker"]

logger = logging.getLogger(__name__)

DEFAULT_MAX_QUEUE_SIZE = 1024
"""Messages that wait for one client."""
DEFAULT_MAX_QUEUE_BYTES = 8 << 20
"""Bytes that wait for one client."""
DEFAULT_MAX_STREAMS_PER_CONNECTION = 16
"""Streams of one connection that are clients."""
DEFAULT_MAX_SUBSCRIPTIONS = 1024
"""Topics and patterns of one client."""

DEFAULT_MAX_PATTERN_TOKENS = 4096
"""Tokens of all patterns with wildcards of one client: what each message may have to pass."""

FRAME_OVERHEAD = 2 * MAX_TOPIC_SIZE + 64
"""What a message is longer than its data when it is queued."""

Authorize: TypeAlias = Callable[
    ["WebTransportSession | None", Literal["publish", "subscribe"], str], bool | Awaitable[bool]
]
"""Called with session, action and topic; False refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStats:
    """A broker's figures at one moment; those in the past tense count from its start."""

    clients: int
    subscriptions: int
    """Of all clients together."""
    topics: int
    """Different topics and patterns with a subscription."""
    messages_published: int
    """By the clients and the application of this process."""
    messages_refused: int
    """Published without permission or to what is no topic."""
    messages_queued: int
    """Copies handed to the queues of clients, dropped ones included."""
    messages_dropped: int
    """Copies dropped because a queue was full."""
    clients_disconnected: int
    """Because their queue was full."""
    messages_waiting: int
    """Published, but not sent to the backplane yet."""


class _Topic:
    """A topic or pattern that someone wants."""

    __slots__ = ("active", "subscribers", "users")

    def __init__(self, active: asyncio.Future[None]) -> None:
        self.active = active
        self.users = 0
        self.subscribers: dict[Subscriber, None] = {}


class PubSubBroker:
    """Serves every client that publishes and subscribes with the line protocol.

    Mount it on a :class:`~pywebtransport.server.ServerApp`: ``broker.mount(app, path="/pubsub")``,
    or give :meth:`handle_session` to ``app.route`` and close the broker yourself. Every
    bidirectional stream of a session is a client of its own.

    Clients may subscribe to patterns: ``*`` stands for one token of a topic, ``>`` at the end for
    one or more. A client gets a message once for each of its topics and patterns that matches,
    its own messages included. The order in which one client publishes is the order in which every
    subscription receives.

    What a client has not read waits in a queue of at most ``max_queue_size`` messages and
    ``max_queue_bytes`` bytes; then ``slow_subscriber_policy`` applies. A client whose stream takes
    nothing for the write timeout of the configuration is disconnected in any case.

    Args:
        backplane: What connects several brokers; without one this broker is alone.
        slow_subscriber_policy: ``"drop_oldest"``, ``"drop_newest"`` or ``"disconnect"``.
        max_message_size: Bytes of a message; a larger one ends the stream of its publisher.
        max_streams_per_connection: Streams of one connection that are clients, in whatever
            session; one more is aborted.
        max_subscriptions: Topics and patterns of one client; one more is refused. None has more
            than 16 tokens.
        max_pattern_tokens: Tokens of all patterns with wildcards of one client together; a pattern
            that would be more is refused.
        authorize: Asked before each subscription and each message; plain or asynchronous.
    """

    def __init__(
        self,
        *,
        backplane: Backplane | None = None,
        max_queue_size: int = DEFAULT_MAX_QUEUE_SIZE,
        max_queue_bytes: int = DEFAULT_MAX_QUEUE_BYTES,
        slow_subscriber_policy: SlowSubscriberPolicy | str = SlowSubscriberPolicy.DROP_OLDEST,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_streams_per_connection: int = DEFAULT_MAX_STREAMS_PER_CONNECTION,
        max_subscriptions: int = DEFAULT_MAX_SUBSCRIPTIONS,
        max_pattern_tokens: int = DEFAULT_MAX_PATTERN_TOKENS,
        authorize: Authorize | None = None,
    ) -> None:
        counts = (max_queue_size, max_streams_per_connection, max_subscriptions, max_pattern_tokens)
        if min(max_message_size, *counts) <= 0:
            raise ValueError("the limits of a broker must be positive")
        if max_queue_bytes < max_message_size + FRAME_OVERHEAD:
            raise ValueError(
                f"max_queue_bytes must be at least max_message_size + {FRAME_OVERHEAD}, "
                "room for one message"
            )
        self._backplane = LocalBackplane() if backplane is None else backplane
        self._limits = QueueLimits(
            max_queue_size, max_queue_bytes, SlowSubscriberPolicy(slow_subscriber_policy)
        )
        self._max_message_size = max_message_size
        self._max_streams_per_connection = max_streams_per_connection
        self._max_subscriptions = max_subscriptions
        self._max_pattern_tokens = max_pattern_tokens
        self._authorize = authorize
        self._topics: dict[str, _Topic] = {}
        self._subscribers: dict[Subscriber, asyncio.Task[Any]] = {}
        self._streams_of: Counter[Connection] = Counter()
        """How many of them each connection has."""
        self._refusals = SparseLog(logger)
        self._starting: asyncio.Future[None] | None = None
        self._is_closed = False
        self._published = self._refused = self._queued = self._dropped = self._disconnected = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def backplane(self) -> Backplane:
        """Its ``events`` say when it loses its server and when it has it back."""
        return self._backplane

    @property
    def stats(self) -> BrokerStats:
        """A snapshot of the figures."""
        return BrokerStats(
            clients=len(self._subscribers),
            subscriptions=sum(len(each.patterns) for each in self._subscribers),
            topics=len(self._topics),
            messages_published=self._published,
            messages_refused=self._refused,
            messages_queued=self._queued,
            messages_dropped=self._dropped,
            clients_disconnected=self._disconnected,
            messages_waiting=self._backplane.messages_waiting,
        )

    def subscriber_stats(self) -> list[SubscriberStats]:
        """The figures of each client, to find the slow ones."""
        return [subscriber.stats for subscriber in self._subscribers]

    def mount(self, app: ServerApp, *, path: str) -> None:
        """Serve the sessions of a path; start and close the broker with the application.

        A broker has one life: an application that starts once more needs a new one.
        """
        app.on_startup(self.start)
        app.on_shutdown(self.close)
        app.route(path=path)(self.handle_session)

    async def start(self) -> None:
        """Start the backplane; the first session does it too. Idempotent.

        Raises:
            PubSubError: The broker is closed.
        """
        if self._is_closed:
            raise PubSubError("the broker is closed and does not start again: make a new one")
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._backplane.start(self._deliver))
        await asyncio.shield(self._starting)

    async def close(self) -> None:
        """End every client's stream, send what was published, stop the backplane. Idempotent."""
        self._is_closed = True
        caller = asyncio.current_task()
        tasks = [task for task in self._subscribers.values() if task is not caller]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._starting is not None:
            await self._backplane.stop()

    async def publish(self, *, topic: str, data: Data) -> None:
        """Publish from the application. ValueError when ``topic`` is none or ``data`` too large.

        Waits while a backplane without a connection has as much waiting as it may.
        """
        check_topic(topic)
        payload = data.encode() if isinstance(data, str) else bytes(data)
        if len(payload) > self._max_message_size:
            raise ValueError(f"{len(payload)} bytes are more than {self._max_message_size}")
        await self.start()
        await self._publish(topic, payload)

    async def handle_session(self, session: WebTransportSession) -> None:
        """Serve every bidirectional stream of a session until the session ends."""
        await self.start()
        connection = session.connection
        streams: set[asyncio.Task[None]] = set()

        def served(task: asyncio.Task[None]) -> None:
            streams.discard(task)
            self._streams_of[connection] -= 1
            if not self._streams_of[connection]:
                del self._streams_of[connection]

        try:
            async for stream in session.incoming_streams():
                if stream.direction is not StreamDirection.BIDIRECTIONAL:
                    await stream.abort(code=ErrorCodes.APP_INVALID_REQUEST)
                    continue
                if self._streams_of[connection] >= self._max_streams_per_connection:
                    self._refusals.warning(
                        "a Pub/Sub connection has %d streams already: one more is refused",
                        self._max_streams_per_connection,
                    )
                    await stream.abort(code=ErrorCodes.APP_RESOURCE_EXHAUSTED)
                    continue
                self._streams_of[connection] += 1
                client = self.handle_stream(cast("WebTransportStream", stream), session=session)
                task = asyncio.create_task(client)
                streams.add(task)
                task.add_done_callback(served)
        finally:
            for task in streams:
                task.cancel()
            if streams:
                await asyncio.wait(streams)

    async def handle_stream(
        self, stream: WebTransportStream, *, session: WebTransportSession | None = None
    ) -> None:
        """Serve one client on one stream until either side ends it."""
        await self.start()
        task = asyncio.current_task()
        assert task is not None
        subscriber = Subscriber(stream=stream, session=session, limits=self._limits)
        subscriber.writer = asyncio.create_task(subscriber.write())
        self._subscribers[subscriber] = task
        parser = CommandParser(max_message_size=self._max_message_size)
        try:
            while data := await read_chunk(stream, parser.size):
                for command in parser.feed(data):
                    await self._handle(subscriber, command)
        except PubSubError as error:
            logger.warning("a Pub/Sub client sent what is no command: %s", error.message)
            with suppress(WebTransportError):
                await stream.abort(code=ErrorCodes.APP_INVALID_REQUEST)
        except WebTransportError as error:
            logger.debug("the stream of a Pub/Sub client failed: %s", error.message)
        finally:
            del self._subscribers[subscriber]
            for pattern in subscriber.patterns:
                self._release(pattern, subscriber)
            self._disconnected += subscriber.is_overrun
            subscriber.writer.cancel()
            await asyncio.wait([subscriber.writer])
            forget_cancellation(subscriber.writer)
            await finish(stream)

    async def _handle(self, subscriber: Subscriber, command: Command) -> None:
        match command.verb:
            case "PUB":
                await self._publish_for(subscriber, command.topic, command.data)
            case "SUB":
                refusal = await self._subscribe(subscriber, command.topic)
                if refusal:
                    await subscriber.answer(encode_line("SUB-FAIL", command.topic, refusal))
                else:
                    await subscriber.answer(encode_line("SUB-OK", command.topic))
            case "UNSUB":
                if command.topic in subscriber.patterns:
                    subscriber.discard(command.topic)
                    self._release(command.topic, subscriber)
            case verb:
                logger.debug("an unknown command %.40r was ignored", verb)

    async def _publish_for(self, subscriber: Subscriber, topic: str, data: bytes) -> None:
        try:
            check_topic(topic)
        except ValueError as error:
            self._refused += 1
            logger.debug("a message was refused: %s", error)
            return
        if self._authorize is not None and not await self._allows(subscriber, "publish", topic):
            self._refused += 1
            return
        await self._publish(topic, data)

    async def _publish(self, topic: str, data: bytes) -> None:
        self._published += 1
        await self._backplane.publish(topic, data)

    async def _subscribe(self, subscriber: Subscriber, pattern: str) -> str:
        """Why the subscription is refused; empty when it stands."""
        if pattern in subscriber.patterns:
            return ""
        try:
            check_pattern(pattern)
        except ValueError as error:
            return str(error)
        if len(subscriber.patterns) >= self._max_subscriptions:
            return f"a client may have {self._max_subscriptions} subscriptions"
        if subscriber.pattern_tokens + pattern_tokens(pattern) > self._max_pattern_tokens:
            return f"the patterns of a client may have {self._max_pattern_tokens} tokens together"
        if self._authorize is not None and not await self._allows(subscriber, "subscribe", pattern):
            return "not authorized"
        topic = self._topics.get(pattern)
        if topic is None:
            topic = self._topics[pattern] = _Topic(self._backplane.subscribe(pattern))
        topic.users += 1
        subscriber.add(pattern)
        try:
            await asyncio.shield(topic.active)
        except PubSubError as error:
            subscriber.discard(pattern)
            self._release(pattern, subscriber)
            return error.message
        # No await from here to the SUB-OK, which therefore precedes the first message.
        topic.subscribers[subscriber] = None
        return ""

    def _release(self, pattern: str, subscriber: Subscriber) -> None:
        topic = self._topics[pattern]
        topic.subscribers.pop(subscriber, None)
        topic.users -= 1
        if not topic.users:
            del self._topics[pattern]
            self._backplane.unsubscribe(pattern)

    async def _allows(
        self, subscriber: Subscriber, action: Literal["publish", "subscribe"], topic: str
    ) -> bool:
        assert self._authorize is not None
        try:
            allowed = self._authorize(subscriber.session, action, topic)
            return bool(await allowed if inspect.isawaitable(allowed) else allowed)
        except Exception as error:
            logger.error(
                "authorize failed, %s to %s is refused", action, peer_text(topic), exc_info=error
            )
            return False

    def _deliver(self, pattern: str, topic: str, data: bytes) -> bool:
        wanted = self._topics.get(pattern)
        if wanted is None:
            return False
        message = encode_message("MSG", pattern, data)
        if pattern != topic:
            message = encode_line("TOPIC", topic) + message
        crowded = False
        for subscriber in wanted.subscribers:
            self._dropped += subscriber.offer(message)
            crowded |= subscriber.is_crowded
        self._queued += len(wanted.subscribers)
        return crowded
