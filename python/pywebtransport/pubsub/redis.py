"""Redis as the backplane: one channel for each topic. Needs the extra ``redis``."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.pubsub.backplane import Deliver
from pywebtransport.pubsub.remote import (
    DEFAULT_PREFIX,
    BackplaneLink,
    RemoteBackplane,
    heed_cancellation,
)
from pywebtransport.pubsub.topic import is_pattern, matches

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisBackplane"]

COMMAND_TIMEOUT = 10.0
HEALTH_INTERVAL = 15.0
"""Seconds of silence after which the server is asked whether it is still there."""

GLOB_SPECIAL = re.compile(r"([*?\[\]\\])")


class RedisBackplane(RemoteBackplane):
    """Brokers with the same Redis server and prefix share one topic space.

    The topic ``news`` is the channel ``pywebtransport:news``, with the bytes of the message as
    they are, so other programs can publish and subscribe too. Without the package ``redis``:
    ConfigurationError.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database.
        prefix: What channels begin with, before a colon.
        options: Further keyword arguments for ``redis.asyncio.Redis.from_url``.
        limits: ``max_waiting``, ``max_waiting_bytes``, ``min_retry_delay``, ``max_retry_delay``.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        options: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> None:
        super().__init__(url, **limits)
        try:
            import redis.asyncio  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                "RedisBackplane needs the package redis: "
                "pip install 'pywebtransport-native[redis]'",
                config_key="dependency.redis",
            ) from error
        self._prefix = prefix
        self._options = dict(options or {})

    async def _connect(self, deliver: Deliver) -> BackplaneLink:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        # Reconnecting is the backplane's; protocol 2 so that a PING answers among the messages.
        # The timeouts are here: a socket_timeout makes the client use asyncio.wait_for.
        options: dict[str, Any] = {
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "socket_timeout": None,
            **self._options,
        }
        commands = Redis.from_url(self._url, **options)
        events = Redis.from_url(self._url, **options)
        link = _Link(commands, events, f"{self._prefix}:", deliver)
        try:
            await link.open()
        except BaseException:
            await link.close()
            raise
        return link


class _Link:
    """A connection for commands and one for messages."""

    def __init__(self, commands: Redis, events: Redis, prefix: str, deliver: Deliver) -> None:
        self._commands = commands
        self._events = events
        self._pubsub = events.pubsub()
        self._prefix = prefix
        self._deliver = deliver
        self._patterns: dict[str, set[str]] = {}
        """By glob: the patterns that it stands for, `a.*` and `a.>` for instance."""
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}
        self._asked = False

    async def open(self) -> None:
        await self._commands.ping()
        # A connection without a subscription would not be read. This channel is no topic's.
        await self._pubsub.subscribe(self._prefix)

    async def subscribe(self, patterns: Sequence[str]) -> None:
        channels = [self._prefix + each for each in patterns if not is_pattern(each)]
        globs = []
        for pattern in filter(is_pattern, patterns):
            glob = self._glob(pattern)
            if glob not in self._patterns:
                globs.append(glob)
            self._patterns.setdefault(glob, set()).add(pattern)
        if channels:
            await self._pubsub.subscribe(*channels)
        if globs:
            await self._pubsub.psubscribe(*globs)

    async def unsubscribe(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            if not is_pattern(pattern):
                await self._pubsub.unsubscribe(self._prefix + pattern)
                continue
            glob = self._glob(pattern)
            same = self._patterns.get(glob, set())
            same.discard(pattern)
            if not same and self._patterns.pop(glob, None) is not None:
                await self._pubsub.punsubscribe(glob)

    async def confirm(self) -> None:
        # The server answers in order, so this answer follows those to what was sent before.
        token = uuid.uuid4().hex.encode()
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations[token] = confirmed
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await self._pubsub.ping(token)
                heed_cancellation()
                await confirmed
        finally:
            del self._confirmations[token]

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        pipeline = self._commands.pipeline(transaction=False)
        for topic, data in messages:
            pipeline.publish(self._prefix + topic, data)
        async with asyncio.timeout(COMMAND_TIMEOUT):
            await pipeline.execute()

    async def receive(self) -> None:
        while True:
            heed_cancellation()
            message = await self._pubsub.get_message(timeout=HEALTH_INTERVAL)
            if message is None:
                await self._ask()
            elif self._handle(message):
                await asyncio.sleep(0)

    async def close(self) -> None:
        for client in (self._pubsub, self._events, self._commands):
            # What a broken connection says when it is closed is no news.
            with suppress(Exception):
                await client.aclose()

    def _handle(self, message: dict[str, Any]) -> bool:
        data = message["data"]
        match message["type"]:
            case "message":
                topic = self._topic(message["channel"])
                return topic is not None and self._deliver(topic, topic, data)
            case "pmessage":
                topic = self._topic(message["channel"])
                glob = message["pattern"].decode()
                crowded = False
                for pattern in tuple(self._patterns.get(glob, ())):
                    if topic is not None and matches(pattern, topic):
                        crowded |= self._deliver(pattern, topic, data)
                return crowded
            case "pong":
                self._asked = False
                confirmed = self._confirmations.get(data)
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(None)
        return False

    async def _ask(self) -> None:
        if self._asked:
            raise ConnectionError(f"the server has not answered for {HEALTH_INTERVAL} s")
        self._asked = True
        await self._pubsub.ping()

    def _topic(self, channel: bytes) -> str | None:
        try:
            return channel.decode().removeprefix(self._prefix)
        except UnicodeDecodeError:  # published by another program
            return None

    def _glob(self, pattern: str) -> str:
        def escape(text: str) -> str:
            return GLOB_SPECIAL.sub(r"\\\1", text)

        tokens = ["*" if each in ("*", ">") else escape(each) for each in pattern.split(".")]
        return escape(self._prefix) + ".".join(tokens)
