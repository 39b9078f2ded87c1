"""The sending side of a datagram transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from math import inf

from pywebtransport._engine.base import EngineClosed, SessionRefused
from pywebtransport._link.link import Link
from pywebtransport.datagram.queue import DatagramQueue
from pywebtransport.datagram.statistics import measured
from pywebtransport.exceptions import DatagramError, datagram_too_large
from pywebtransport.types import Buffer, Data
from pywebtransport.utils import ensure_bytes, get_logger

__all__ = ["Outbox"]

logger = get_logger(name=__name__)


class Outbox:
    """Hands datagrams to a session's engine at once, or to a sender by priority.

    For a sender they are queued until the end of the event loop's turn.
    """

    __slots__ = (
        "_control_id",
        "_handle",
        "_link",
        "_queue",
        "_sender",
        "_senders",
        "bytes_sent",
        "drops",
        "expired",
        "failures",
        "largest",
        "limit",
        "max_size",
        "max_time",
        "sent",
        "smallest",
        "total_time",
    )

    def __init__(
        self,
        *,
        sender: Callable[[bytes], None] | None,
        limit: int,
        max_size: int,
        link: Link | None = None,
        control_id: int = -1,
    ) -> None:
        self._sender = sender
        self._link = link
        self._control_id = control_id
        self._handle: asyncio.Handle | None = None
        self._queue: DatagramQueue | None = None
        self._senders: list[asyncio.Future[None]] = []
        """Who waits for room in the engine."""
        self.limit = limit
        self.max_size = max_size
        self.sent = 0
        self.bytes_sent = 0
        self.failures = 0
        self.drops = 0
        self.expired = 0
        """Of the drops, those whose ``ttl`` was over."""
        self.smallest: float = inf
        self.largest = 0
        self.total_time = 0.0
        """Seconds in the sender."""
        self.max_time = 0.0

    @property
    def queue(self) -> DatagramQueue:
        """What waits for the sender."""
        if self._queue is None:
            self._queue = DatagramQueue(max_size=self.limit)
        return self._queue

    def send(self, data: Data | Buffer, priority: int, ttl: float | None) -> bool:
        """Hand over or queue one datagram; False: the engine has no room, :meth:`wait` for it.

        Raises:
            DatagramError: It is too large, has expired, or finds no room.
        """
        if ttl is not None and ttl <= 0:
            raise self._expired(ttl)
        link = self._link
        if link is None:
            self._enqueue(ensure_bytes(data=data), priority, ttl)
            return True
        if type(data) is str:
            data = data.encode()
        try:
            if not link.engine.offer_datagram(self._control_id, data):  # type: ignore[arg-type]
                return False
        except DatagramError:
            self.failures += 1
            raise
        except (EngineClosed, SessionRefused) as error:
            raise self._ended(error) from error
        # As `_count`, which would be one call more.
        size = len(data)
        self.sent += 1
        self.bytes_sent += size
        if size > self.largest:
            self.largest = size
        if size < self.smallest:
            self.smallest = size
        return True

    def push(self, data: Data | Buffer, priority: int, ttl: float | None) -> None:
        """As :meth:`send`, but where the engine has no room, its oldest makes some."""
        if self._link is None:
            self.send(data, priority, ttl)
            return
        if ttl is not None and ttl <= 0:
            raise self._expired(ttl)
        if type(data) is str:
            data = data.encode()
        try:
            is_room = self._link.engine.send_datagram(self._control_id, data)  # type: ignore[arg-type]
        except DatagramError:
            self.failures += 1
            raise
        except (EngineClosed, SessionRefused) as error:
            raise self._ended(error) from error
        self.drops += not is_room
        self._count([data])

    def send_block(self, block: list[Data | Buffer], ttl: float | None) -> int:
        """Hand several to the engine, as far as it takes them; how many. 0: :meth:`wait`.

        Raises:
            DatagramError: As of :meth:`send`, for the first.
        """
        if ttl is not None and ttl <= 0:
            raise self._expired(ttl)
        link = self._link
        assert link is not None
        if str in map(type, block):
            block = [data.encode() if type(data) is str else data for data in block]
        try:
            count = link.engine.offer_datagrams(self._control_id, block)  # type: ignore[arg-type]
        except DatagramError:
            self.failures += 1
            raise
        except (EngineClosed, SessionRefused) as error:
            raise self._ended(error) from error
        if count:
            self._count(block[:count])
        return count

    async def wait(self, loop: asyncio.AbstractEventLoop, ttl: float | None) -> None:
        """Until the engine has room, or the transport is closed.

        Raises:
            DatagramError: Not within ``ttl`` seconds.
        """
        future: asyncio.Future[None] = loop.create_future()
        self._senders.append(future)
        try:
            async with asyncio.timeout(ttl):
                await future
        except TimeoutError:
            assert ttl is not None
            raise self._expired(ttl) from None
        finally:
            if future in self._senders:
                self._senders.remove(future)

    def wake(self) -> None:
        """Let those who wait try again."""
        senders, self._senders = self._senders, []
        for future in senders:
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Drop what waits."""
        self.wake()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._queue is not None:
            self.drops += self._queue.clear()

    def _enqueue(self, data: bytes, priority: int, ttl: float | None) -> None:
        if len(data) > self.max_size:
            self.failures += 1
            raise datagram_too_large(size=len(data), max_size=self.max_size)
        dropped = self.queue.dropped
        if not self.queue.put(data, priority, ttl):
            self.drops += 1
            raise DatagramError(
                f"the outgoing queue is full: high_water_mark={self.queue.max_size}"
            )
        self.drops += self.queue.dropped - dropped
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._hand_over)
        self._count([data])

    def _hand_over(self) -> None:
        """Give the sender what was queued in this turn of the loop."""
        self._handle = None
        assert self._sender is not None
        while (entry := self.queue.take()) is not None:
            data, queued_at, ttl = entry
            if ttl is not None and time.time() - queued_at > ttl:
                self.drops += 1
                self.expired += 1
                continue
            started = time.perf_counter()
            try:
                self._sender(data)
            except Exception as error:
                self.failures += 1
                logger.warning("datagram of %d bytes could not be sent: %s", len(data), error)
            elapsed = time.perf_counter() - started
            self.total_time += elapsed
            self.max_time = max(self.max_time, elapsed)

    def _count(self, datagrams: Sequence[Data | Buffer]) -> None:
        size, smallest, largest = measured(datagrams)
        self.sent += len(datagrams)
        self.bytes_sent += size
        self.largest = max(self.largest, largest)
        self.smallest = min(self.smallest, smallest)

    def _expired(self, ttl: float) -> DatagramError:
        self.drops += 1
        self.expired += 1
        return DatagramError(f"the datagram has expired: ttl={ttl}")

    def _ended(self, error: Exception) -> DatagramError:
        self.failures += 1
        return DatagramError(f"the datagram cannot be sent: {error}")
