"""NATS as the backplane: one subject for each topic. Needs the extra ``nats``."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.pubsub.backplane import Deliver
from pywebtransport.pubsub.remote import (
    DEFAULT_PREFIX,
    BackplaneLink,
    RemoteBackplane,
    heed_cancellation,
)
from pywebtransport.pubsub.topic import is_pattern

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["NatsBackplane"]

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT = 10
PING_INTERVAL = 15
"""Seconds after which the server is asked whether it is still there."""
MAX_INBOX = 65536
"""Messages received and not delivered; then the library's own queues fill."""

RESERVED = re.compile(r"[%*>]")
EMPTY_TOKEN = "%"


class NatsBackplane(RemoteBackplane):
    """Brokers with the same NATS servers and prefix share one topic space.

    The topic ``news.sport`` is the subject ``pywebtransport.news.sport``, with the bytes of the
    message as they are, so other programs can publish and subscribe too. In a token the characters
    ``%``, ``*`` and ``>`` are percent-encoded; an empty token is ``%``. A message larger than the
    server allows (1 MiB unless configured) is dropped with an error in the log. Without the
    package ``nats-py``: ConfigurationError.

    Args:
        url: ``nats://`` or ``tls://``; several, separated by commas, are one cluster.
        prefix: The tokens that subjects begin with.
        options: Further keyword arguments for ``nats.connect``, credentials for instance.
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
            import nats  # noqa: F401
        except ImportError as error:
            raise ConfigurationError(
                "NatsBackplane needs the package nats-py: "
                "pip install 'pywebtransport-native[nats]'",
                config_key="dependency.nats",
            ) from error
        self._prefix = prefix
        self._options = dict(options or {})

    async def _connect(self, deliver: Deliver) -> BackplaneLink:
        from nats.aio.client import Client

        link = _Link(Client(), f"{self._prefix}.", deliver)
        try:
            await link.open(self._url.split(","), self._options)
        except BaseException:
            await link.close()
            raise
        return link


class _Link:
    """One client of the server, that does not reconnect by itself."""

    def __init__(self, client: Client, prefix: str, deliver: Deliver) -> None:
        self._client = client
        self._prefix = prefix
        self._deliver = deliver
        self._subscriptions: dict[str, Subscription] = {}
        self._inbox: deque[tuple[str, str, bytes]] = deque()
        self._received = asyncio.Event()
        self._delivered = asyncio.Event()
        self._error: Exception | None = None
        self._is_closed = False
        self._confirmation_subject = client.new_inbox()
        self._confirmations: dict[bytes, asyncio.Future[None]] = {}

    async def open(self, servers: list[str], options: Mapping[str, Any]) -> None:
        from nats.errors import NoServersError

        settings: dict[str, Any] = {
            "connect_timeout": COMMAND_TIMEOUT,
            "ping_interval": PING_INTERVAL,
            **options,
        }
        # Reconnecting is the backplane's, which knows what is unconfirmed: one round of attempts.
        settings |= {
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "error_cb": self._on_error,
            "closed_cb": self._on_closed,
        }
        try:
            await self._client.connect(servers, **settings)
        except NoServersError:
            raise self._error or ConnectionError("no server can be reached") from None
        await self._client.subscribe(self._confirmation_subject, cb=self._on_confirmation)

    async def subscribe(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            self._subscriptions[pattern] = await self._client.subscribe(
                self._subject(pattern), cb=self._handler(pattern)
            )

    async def unsubscribe(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            subscription = self._subscriptions.pop(pattern, None)
            if subscription is not None:
                await subscription.unsubscribe()

    async def confirm(self) -> None:
        # A message to itself takes its turn behind all that was sent before. The client's flush()
        # does not: it writes its PING past the commands that are still buffered.
        token = uuid.uuid4().hex.encode()
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations[token] = confirmed
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                await self._client.publish(self._confirmation_subject, token)
                heed_cancellation()
                await confirmed
        finally:
            del self._confirmations[token]

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        from nats.errors import MaxPayloadError

        for topic, data in messages:
            try:
                await self._client.publish(self._subject(topic), data)
            except MaxPayloadError:
                # It would never fit, and what waits behind it would wait for ever.
                logger.error("a message of %d bytes to %r is too large for NATS", len(data), topic)
        await self.confirm()

    async def receive(self) -> None:
        while True:
            while self._inbox:
                crowded = self._deliver(*self._inbox.popleft())
                self._delivered.set()
                if crowded:
                    await asyncio.sleep(0)
            if self._is_closed:
                raise self._error or ConnectionError("the server closed the connection")
            self._received.clear()
            await self._received.wait()

    async def close(self) -> None:
        # What a broken connection says when it is closed is no news.
        with suppress(Exception):
            await self._client.close()

    def _handler(self, pattern: str) -> Callable[[Msg], Awaitable[None]]:
        exact = not is_pattern(pattern)

        async def handle(message: Msg) -> None:
            # The inbox outlives the client's queues, which are dropped when a connection breaks.
            while len(self._inbox) >= MAX_INBOX:
                self._delivered.clear()
                await self._delivered.wait()
            topic = pattern if exact else self._topic(message.subject)
            self._inbox.append((pattern, topic, message.data))
            self._received.set()

        return handle

    async def _on_confirmation(self, message: Msg) -> None:
        confirmed = self._confirmations.get(message.data)
        if confirmed is not None and not confirmed.done():
            confirmed.set_result(None)

    async def _on_error(self, error: Exception) -> None:
        logger.debug("NATS: %s", error)
        self._error = error

    async def _on_closed(self) -> None:
        self._is_closed = True
        self._received.set()

    def _subject(self, pattern: str) -> str:
        return self._prefix + ".".join(
            token if token in ("*", ">") else RESERVED.sub(_percent, token) or EMPTY_TOKEN
            for token in pattern.split(".")
        )

    def _topic(self, subject: str) -> str:
        tokens = subject.removeprefix(self._prefix).split(".")
        return ".".join("" if token == EMPTY_TOKEN else unquote(token) for token in tokens)


def _percent(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
