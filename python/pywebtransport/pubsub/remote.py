"""What backplanes with a server share: the outbox, the wanted patterns, and the reconnecting.

Nothing is lost while the server is away: what is published waits in the outbox, and when that is
full its publishers wait. A batch whose confirmation was lost with the connection is sent again, so
after an outage a message may arrive twice; it never arrives out of its publisher's order.
Messages that others publish while this process is not connected do not reach it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from pywebtransport._words import redacted
from pywebtransport.pubsub.backplane import Backplane, Deliver
from pywebtransport.pubsub.exceptions import PubSubError
from pywebtransport.types import EventType

__all__ = ["BackplaneLink", "RemoteBackplane", "heed_cancellation"]

logger = logging.getLogger(__name__)

DEFAULT_PREFIX = "pywebtransport"
DEFAULT_MAX_WAITING = 10_000
"""Messages in the outbox."""
DEFAULT_MAX_WAITING_BYTES = 16 << 20
"""Bytes in the outbox."""
DEFAULT_MIN_RETRY_DELAY = 0.1
DEFAULT_MAX_RETRY_DELAY = 5.0
"""Seconds between two attempts to connect; the delay doubles from one to the other."""

CONNECT_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
"""Seconds in which the outbox must be sent when the backplane stops."""
BATCH_SIZE = 500
"""Messages that one confirmation is for."""


class BackplaneLink(Protocol):
    """One connection to the server. Any exception means that it is broken."""

    async def subscribe(self, patterns: Sequence[str]) -> None:
        """Ask for the messages of these."""

    async def unsubscribe(self, patterns: Sequence[str]) -> None:
        """Ask for them no more."""

    async def confirm(self) -> None:
        """Wait until the server has done all that was asked before."""

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send a batch; wait until the server has it."""

    async def receive(self) -> None:
        """Deliver messages until the connection breaks, then raise."""

    async def close(self) -> None:
        """Give everything back; the connection may be broken already."""


class RemoteBackplane(Backplane):
    """A backplane whose messages go through a server; it connects in the background."""

    def __init__(
        self,
        url: str,
        *,
        max_waiting: int = DEFAULT_MAX_WAITING,
        max_waiting_bytes: int = DEFAULT_MAX_WAITING_BYTES,
        min_retry_delay: float = DEFAULT_MIN_RETRY_DELAY,
        max_retry_delay: float = DEFAULT_MAX_RETRY_DELAY,
    ) -> None:
        super().__init__()
        if min(max_waiting, max_waiting_bytes) <= 0:
            raise ValueError("the limits of a backplane must be positive")
        if not 0 < min_retry_delay <= max_retry_delay:
            raise ValueError("min_retry_delay must be positive and at most max_retry_delay")
        self._url = url
        self._name = redacted(url)
        """Without the password, for logs and events."""
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._retry_delays = (min_retry_delay, max_retry_delay)
        self._outbox: deque[tuple[str, bytes]] = deque()
        self._outbox_bytes = 0
        self._wanted: dict[str, asyncio.Future[None]] = {}
        self._changes: deque[tuple[str, asyncio.Future[None] | None]] = deque()
        """Subscriptions (with a future) and their ends (without) that the server is not told."""
        self._outbox_filled = asyncio.Event()
        self._outbox_sent = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_connected = False
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def _connect(self, deliver: Deliver) -> BackplaneLink:
        """A new connection to the server, or any exception."""

    @property
    def is_connected(self) -> bool:
        return self._is_connected

    @property
    def messages_waiting(self) -> int:
        return len(self._outbox)

    async def start(self, deliver: Deliver) -> None:
        if self._task is None and not self._is_stopping:
            self._task = asyncio.get_running_loop().create_task(self._run(deliver))

    def subscribe(self, pattern: str) -> asyncio.Future[None]:
        active: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_stopping:
            active.set_exception(_stopped())
            return active
        self._wanted[pattern] = active
        self._changes.append((pattern, active))
        self._changed.set()
        return active

    def unsubscribe(self, pattern: str) -> None:
        if self._wanted.pop(pattern, None) is not None:
            self._changes.append((pattern, None))
            self._changed.set()

    async def publish(self, topic: str, data: bytes) -> None:
        size = len(topic) + len(data)
        while not self._has_room(size):
            self._outbox_sent.clear()
            await self._outbox_sent.wait()
        self._outbox.append((topic, data))
        self._outbox_bytes += size
        self._outbox_filled.set()

    def _has_room(self, size: int) -> bool:
        if self._is_stopping:
            raise _stopped()
        return not self._outbox or (
            len(self._outbox) < self._max_waiting
            and self._outbox_bytes + size <= self._max_waiting_bytes
        )

    async def stop(self) -> None:
        self._is_stopping = True
        self._outbox_sent.set()
        task, self._task = self._task, None
        if task is not None:
            with suppress(asyncio.TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT):
                    while self._outbox and self._is_connected:
                        self._outbox_sent.clear()
                        await self._outbox_sent.wait()
            if self._outbox:
                logger.warning("%d messages to %s are lost", len(self._outbox), self._name)
            task.cancel()
            await asyncio.wait([task])
            self._is_connected = False
        for active in self._wanted.values():
            if not active.done():
                active.set_exception(_stopped())
                active.exception()
        await self.events.close()

    async def _run(self, deliver: Deliver) -> None:
        shortest, longest = self._retry_delays
        delay = shortest
        while True:
            heed_cancellation()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    link = await self._connect(deliver)
                try:
                    heed_cancellation()
                    await self._serve(link)
                finally:
                    await _close(link)
            except Exception as error:
                if self._is_connected:
                    delay = shortest
                self._broken(error, attempt_in_vain=delay > shortest)
            # Processes that lost the server together do not all come back at the same moment.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, longest)

    def _broken(self, error: BaseException, *, attempt_in_vain: bool) -> None:
        # One line in the log for an outage, however many attempts it takes.
        level = logging.DEBUG if attempt_in_vain else logging.WARNING
        if self._is_connected:
            self._is_connected = False
            self._outbox_sent.set()
            logger.log(level, "lost %s: %s", self._name, _describe(error))
            self._tell(EventType.CONNECTION_LOST, error)
        else:
            logger.log(level, "cannot connect to %s: %s", self._name, _describe(error))
            self._tell(EventType.CONNECTION_FAILED, error)

    async def _serve(self, link: BackplaneLink) -> None:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Not a TaskGroup: in Python 3.11 it leaves this task counted as cancelled.
        tasks = [
            loop.create_task(link.receive()),
            loop.create_task(self._apply_changes(link, ready)),
            loop.create_task(self._send(link, ready)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in done:
            task.result()

    async def _renew(self, link: BackplaneLink) -> None:
        self._changes.clear()
        wanted = dict(self._wanted)
        if wanted:
            await link.subscribe(list(wanted))
        await link.confirm()
        self._activate(wanted.values())
        self._is_connected = True
        logger.info("connected to %s, %d subscriptions", self._name, len(wanted))
        self._tell(EventType.CONNECTION_ESTABLISHED, None)

    async def _send(self, link: BackplaneLink, ready: asyncio.Event) -> None:
        await ready.wait()
        while True:
            heed_cancellation()
            while not self._outbox:
                self._outbox_filled.clear()
                await self._outbox_filled.wait()
            batch = list(islice(self._outbox, BATCH_SIZE))
            await link.publish(batch)
            # Only now: a connection that breaks before leaves the batch to the next one.
            for topic, data in batch:
                self._outbox.popleft()
                self._outbox_bytes -= len(topic) + len(data)
            self._outbox_sent.set()

    async def _apply_changes(self, link: BackplaneLink, ready: asyncio.Event) -> None:
        await self._renew(link)
        ready.set()
        while True:
            heed_cancellation()
            while not self._changes:
                self._changed.clear()
                await self._changed.wait()
            changes = list(self._changes)
            self._changes.clear()
            for pattern, active in changes:
                await (link.unsubscribe if active is None else link.subscribe)([pattern])
            await link.confirm()
            self._activate(active for _, active in changes if active is not None)

    @staticmethod
    def _activate(futures: Iterable[asyncio.Future[None]]) -> None:
        for active in futures:
            if not active.done():
                active.set_result(None)

    def _tell(self, event_type: EventType, error: BaseException | None) -> None:
        data = {"url": self._name, "error": None if error is None else _describe(error)}
        self.events.emit_nowait(event_type=event_type, data=data, source=self)


def heed_cancellation() -> None:
    """Raise CancelledError when this task was cancelled but a client library went on.

    Before Python 3.12 asyncio.wait_for, which they use, swallows a cancellation that comes
    together with the result; a loop would then wait on a broken connection for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _close(link: BackplaneLink) -> None:
    """To the end, also when this task is cancelled meanwhile: sockets would stay open."""
    closing = asyncio.ensure_future(link.close())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait([closing])
        raise


def _stopped() -> PubSubError:
    return PubSubError("the backplane is stopped")


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
