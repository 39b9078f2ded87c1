"""Datagrams that are repeated until the peer acknowledges them.

A frame is one byte with the length of the type's name, the name, and the payload. DATA carries a
32-bit sequence number, big-endian, and the data; ACK carries the number in decimal digits.
"""

from __future__ import annotations

import asyncio
import builtins
import struct
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pywebtransport._waiting import wait_among
from pywebtransport.exceptions import DatagramError, TimeoutError
from pywebtransport.types import Data
from pywebtransport.utils import ensure_bytes, get_logger

if TYPE_CHECKING:
    from pywebtransport.datagram.transport import WebTransportDatagramTransport

__all__ = ["DatagramReliabilityLayer"]

logger = get_logger(name=__name__)

DATA, ACK = b"DATA", b"ACK"
ACK_PRIORITY = 2
SEQUENCE = struct.Struct("!I")
SEQUENCES = 1 << 32
SEQUENCE_DIGITS = 10
REMEMBERED = 1024
"""Sequence numbers that are kept to tell repetitions."""
MAX_UNSENT_ACKS = 1024
"""Acknowledgements that wait for a congested transport; the oldest is dropped, its frame is
repeated."""
MAX_UNREAD = 1024
"""Messages kept for ``receive``; beyond, new ones are not acknowledged, so that they come again."""


@dataclass(slots=True)
class Pending:
    """A frame that has not been acknowledged."""

    frame: bytes
    sent_at: float
    retries: int = 0


class DatagramReliabilityLayer:
    """Repeats what it sends until it is acknowledged, and drops repetitions it receives.

    What arrives is given out in the order of arrival, which is not always the order of sending.
    Both sides need a layer; use it with ``async with``. The transport is kept by a weak reference
    and stays open; its other datagrams are received from it as ever.

    Args:
        datagram_transport: The transport below.
        ack_timeout: Seconds until a frame is repeated.
        max_retries: Repetitions until a frame is given up silently.
    """

    def __init__(
        self,
        datagram_transport: WebTransportDatagramTransport,
        *,
        ack_timeout: float = 2.0,
        max_retries: int = 5,
    ) -> None:
        self._transport = weakref.ref(datagram_transport)
        self._ack_timeout = ack_timeout
        self._max_retries = max_retries
        self._pending: dict[int, Pending] = {}
        self._next_sequence = 0
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._received: deque[bytes] = deque()
        self._acks: deque[int] = deque(maxlen=MAX_UNSENT_ACKS)
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._work: asyncio.Event = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closed = False

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise DatagramError("the reliability layer is closed; make a new one")
        if not self._tasks:
            transport = self._alive()
            if transport._claim is not None:
                raise DatagramError("the transport has a reliability layer already")
            self._tasks = [
                asyncio.create_task(self._acknowledge()),
                asyncio.create_task(self._repeat()),
            ]
            transport._give_to(self._on_datagram)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def send(self, *, data: Data) -> None:
        """Send a message; returns after its first transmission.

        Raises:
            DatagramError: The layer was not entered or is closed, the transport is gone, or as its
                ``send``.
        """
        self._active()
        transport = self._alive()
        sequence = self._next_sequence
        self._next_sequence = (sequence + 1) % SEQUENCES
        frame = _frame(DATA, SEQUENCE.pack(sequence) + ensure_bytes(data=data))
        # The acknowledgement can be here before a congested transport's send() returns.
        self._pending[sequence] = Pending(frame, asyncio.get_running_loop().time())
        try:
            await transport.send(data=frame)
        except BaseException:
            self._pending.pop(sequence, None)
            raise

    async def receive(self, *, timeout: float | None = None) -> bytes:
        """Return the next message.

        Args:
            timeout: Seconds to wait; ``None`` for ever.

        Raises:
            TimeoutError: None came in time.
            DatagramError: The layer was not entered, or is closed.
        """
        self._active()
        try:
            async with asyncio.timeout(timeout):
                while not self._received:
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    await wait_among(self._receivers, future)
                    self._active()
            return self._received.popleft()
        except builtins.TimeoutError:
            raise TimeoutError(
                f"no message within {timeout} s",
                timeout_duration=timeout,
                operation="receive message",
            ) from None
        finally:
            # Woken for a message that another task, or nobody, took: the next in turn looks.
            if self._received:
                self._wake()

    async def close(self) -> None:
        """Stop, and forget what was not acknowledged. Idempotent; the transport stays open."""
        self._is_closed = True
        transport = self._transport()
        if transport is not None and self._tasks:
            transport._give_to(None)
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._pending.clear()
        while self._receivers:
            self._wake()

    def _active(self) -> None:
        if self._is_closed:
            raise DatagramError("the reliability layer is closed")
        if not self._tasks:
            raise DatagramError("DatagramReliabilityLayer has not been activated: use `async with`")

    def _alive(self) -> WebTransportDatagramTransport:
        transport = self._transport()
        if transport is None or transport.is_closed:
            raise DatagramError("the datagram transport is gone")
        return transport

    def _wake(self) -> None:
        while self._receivers:
            future = self._receivers.popleft()
            if not future.done():
                future.set_result(None)
                return

    def _on_datagram(self, data: bytes) -> bool:
        """Whether it is for this layer."""
        kind, payload = _parse(data)
        if kind == ACK:
            if payload.isdigit() and len(payload) <= SEQUENCE_DIGITS:
                self._pending.pop(int(payload), None)
        elif kind == DATA and len(payload) >= SEQUENCE.size:
            (sequence,) = SEQUENCE.unpack_from(payload)
            if sequence not in self._seen:
                if len(self._received) >= MAX_UNREAD:
                    return True
                self._seen[sequence] = None
                if len(self._seen) > REMEMBERED:
                    self._seen.popitem(last=False)
                self._received.append(payload[SEQUENCE.size :])
                self._wake()
            self._acks.append(sequence)
            self._work.set()
        return kind in (ACK, DATA)

    async def _acknowledge(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._acks:
                frame = _frame(ACK, str(self._acks.popleft()).encode())
                await self._try_send(frame, ACK_PRIORITY)

    async def _repeat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._ack_timeout)
            due = loop.time() - self._ack_timeout
            for sequence, pending in list(self._pending.items()):
                if pending.sent_at > due or sequence not in self._pending:
                    continue
                if pending.retries >= self._max_retries:
                    logger.debug("message %d was never acknowledged", sequence)
                    del self._pending[sequence]
                    continue
                pending.retries += 1
                pending.sent_at = loop.time()
                await self._try_send(pending.frame, 0)

    async def _try_send(self, frame: bytes, priority: int) -> None:
        try:
            await self._alive().send(data=frame, priority=priority)
        except DatagramError as error:
            logger.debug("frame not sent: %s", error)


def _frame(kind: bytes, payload: bytes) -> bytes:
    return bytes((len(kind),)) + kind + payload


def _parse(data: bytes) -> tuple[bytes, bytes]:
    """Type and payload; an empty type when it is no frame."""
    end = 1 + data[0] if data else 0
    return (data[1:end], data[end:]) if len(data) >= end else (b"", b"")
