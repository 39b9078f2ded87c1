"""Datagrams that are repeated until the peer acknowledges them.

A frame is one byte with the length of the type's name, the name, and the payload. DATA carries a
32-bit sequence number, big-endian, and the data; ACK carries the number in decimal digits.
"""

from __future__ import annotations

import asyncio
import builtins
import struct
import weakref
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pywebtransport._waiting import wait_among
from pywebtransport.exceptions import DatagramError, TimeoutError
from pywebtransport.types import Data, EventType
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
SEND_WINDOW = 1024
"""Sequence numbers between the oldest unacknowledged message and the next one, at most."""
RECEIVE_WINDOW = 16 * SEND_WINDOW
"""Sequence numbers behind the newest that are told from repetitions; what is older is one."""
REPEAT_BURST = 32
REPEAT_PAUSE = 0.01
"""Frames repeated in a row, and seconds before the next ones."""
MAX_UNSENT_ACKS = 1024
"""Acknowledgements that wait for a congested transport; the oldest is dropped, its frame is
repeated."""
MAX_UNREAD = 1024
"""Messages kept for ``receive``; beyond, new ones are not acknowledged, so that they come again."""


@dataclass(slots=True)
class Pending:
    """A frame that has not been acknowledged."""

    frame: bytes
    due: float
    """When it is repeated or given up, by the loop's clock."""
    retries: int = 0


class Window:
    """Which sequence numbers have been received: all before ``_next``, and those in ``_ahead``."""

    __slots__ = ("_ahead", "_next")

    def __init__(self) -> None:
        self._next = 0
        self._ahead: set[int] = set()
        """Distances from zero, not reduced to 32 bits, so that they can be compared."""

    def position(self, sequence: int) -> int | None:
        """Where a number belongs that has not been received; None for a repetition."""
        distance = (sequence - self._next) % SEQUENCES
        position = self._next + distance
        return None if distance >= SEQUENCES // 2 or position in self._ahead else position

    def add(self, position: int) -> None:
        """It has been received. What is too far behind it is given up."""
        self._ahead.add(position)
        lowest = position + 1 - RECEIVE_WINDOW
        if lowest > self._next:
            self._next = lowest
            self._ahead = {each for each in self._ahead if each >= lowest}
        while self._next in self._ahead:
            self._ahead.discard(self._next)
            self._next += 1


class DatagramReliabilityLayer:
    """Repeats what it sends until it is acknowledged, and drops repetitions it receives.

    What arrives is given out in the order of arrival, which is not always the order of sending.
    Both sides need a layer; use it with ``async with``. The transport is kept by a weak reference
    and stays open; its other datagrams are received from it as ever. Of a message that is given up
    the transport emits DATAGRAM_ERROR {data, sequence, retries}.

    Args:
        datagram_transport: The transport below.
        ack_timeout: Seconds until a frame is repeated.
        max_retries: Repetitions until a frame is given up.
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
        self._oldest = 0
        """The first number that is not acknowledged, or the next one."""
        self._window = Window()
        self._lost = 0
        self._received: deque[bytes] = deque()
        self._acks: deque[int] = deque(maxlen=MAX_UNSENT_ACKS)
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()
        """Tasks that wait in ``send`` for the window."""
        self._work: asyncio.Event = asyncio.Event()
        self._sent: asyncio.Event = asyncio.Event()
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
            transport._give_to(self)
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

        Waits while 1,024 messages lie between this one and the oldest that is not acknowledged.

        Raises:
            DatagramError: The layer was not entered or is closed, the transport is gone, or as its
                ``send``.
        """
        self._active()
        while self._is_full():
            self._alive()
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            await wait_among(self._room, future)
            self._active()
        transport = self._alive()
        sequence = self._next_sequence
        self._next_sequence = (sequence + 1) % SEQUENCES
        frame = _frame(DATA, SEQUENCE.pack(sequence) + ensure_bytes(data=data))
        # The acknowledgement can be here before a congested transport's send() returns.
        due = asyncio.get_running_loop().time() + self._ack_timeout
        self._pending[sequence] = Pending(frame, due)
        self._sent.set()
        try:
            await transport.send(data=frame)
        except BaseException:
            self._forget(sequence)
            raise

    @property
    def messages_lost(self) -> int:
        """Messages that were given up."""
        return self._lost

    async def receive(self, *, timeout: float | None = None) -> bytes:
        """Return the next message.

        Args:
            timeout: Seconds to wait; ``None`` for ever.

        Raises:
            TimeoutError: None came in time.
            DatagramError: The layer was not entered, or is closed; the transport is gone, or as its
                ``receive``.
        """
        self._active()
        try:
            async with asyncio.timeout(timeout):
                while not self._received:
                    self._alive()
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
                _wake(self._receivers)

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
        self._wake_all()

    def _active(self) -> None:
        if self._is_closed:
            raise DatagramError("the reliability layer is closed")
        if not self._tasks:
            raise DatagramError("DatagramReliabilityLayer has not been activated: use `async with`")

    def _alive(self) -> WebTransportDatagramTransport:
        transport = self._transport()
        if transport is None:
            raise DatagramError("the datagram transport is gone")
        if transport.is_closed:
            raise transport._inbox.ended()
        return transport

    def _is_full(self) -> bool:
        if not self._pending:
            return False
        # Repetition puts a message behind the newer ones: the oldest need not be the first.
        return (self._next_sequence - self._oldest) % SEQUENCES >= SEND_WINDOW

    def _forget(self, sequence: int) -> Pending | None:
        """A message was acknowledged, was given up, or never went."""
        pending = self._pending.pop(sequence, None)
        if pending is not None and sequence == self._oldest:
            while self._oldest != self._next_sequence and self._oldest not in self._pending:
                self._oldest = (self._oldest + 1) % SEQUENCES
            if self._room and not self._is_full():
                for future in self._room:
                    if not future.done():
                        future.set_result(None)
                self._room.clear()
        return pending

    def _on_datagram(self, data: bytes) -> bool:
        """Whether it is for this layer."""
        kind, payload = _parse(data)
        if kind == ACK:
            if payload.isdigit() and len(payload) <= SEQUENCE_DIGITS:
                self._forget(int(payload))
        elif kind == DATA and len(payload) >= SEQUENCE.size:
            (sequence,) = SEQUENCE.unpack_from(payload)
            position = self._window.position(sequence)
            if position is not None:
                if len(self._received) >= MAX_UNREAD:
                    return True
                self._window.add(position)
                self._received.append(payload[SEQUENCE.size :])
                _wake(self._receivers)
            self._acks.append(sequence)
            self._work.set()
        return kind in (ACK, DATA)

    def _on_transport_closed(self) -> None:
        self._wake_all()

    def _wake_all(self) -> None:
        for waiters in (self._receivers, self._room):
            while waiters:
                _wake(waiters)

    async def _acknowledge(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._acks:
                frame = _frame(ACK, str(self._acks.popleft()).encode())
                await self._try_send(frame, ACK_PRIORITY)

    async def _repeat(self) -> None:
        loop = asyncio.get_running_loop()
        burst = 0
        while True:
            # The first is due first: who is repeated goes to the end.
            sequence, pending = next(iter(self._pending.items()), (0, None))
            if pending is None:
                self._sent.clear()
                await self._sent.wait()
                continue
            wait = pending.due - loop.time()
            if wait > 0 or burst >= REPEAT_BURST:
                await asyncio.sleep(max(wait, REPEAT_PAUSE if burst >= REPEAT_BURST else 0))
                burst = 0
                continue
            burst += 1
            if pending.retries >= self._max_retries:
                self._give_up(sequence, pending)
                continue
            del self._pending[sequence]
            pending.retries += 1
            pending.due = loop.time() + self._ack_timeout
            self._pending[sequence] = pending
            await self._try_send(pending.frame, 0)

    def _give_up(self, sequence: int, pending: Pending) -> None:
        self._forget(sequence)
        self._lost += 1
        logger.debug("message %d was never acknowledged", sequence)
        transport = self._transport()
        if transport is not None:
            _, payload = _parse(pending.frame)
            transport.emit_nowait(
                event_type=EventType.DATAGRAM_ERROR,
                data={
                    "data": payload[SEQUENCE.size :],
                    "sequence": sequence,
                    "retries": pending.retries,
                },
                source=transport,
            )

    async def _try_send(self, frame: bytes, priority: int) -> None:
        try:
            await self._alive().send(data=frame, priority=priority)
        except DatagramError as error:
            logger.debug("frame not sent: %s", error)


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    """The next of them that still waits."""
    while waiters:
        future = waiters.popleft()
        if not future.done():
            future.set_result(None)
            return


def _frame(kind: bytes, payload: bytes) -> bytes:
    return bytes((len(kind),)) + kind + payload


def _parse(data: bytes) -> tuple[bytes, bytes]:
    """Type and payload; an empty type when it is no frame."""
    end = 1 + data[0] if data else 0
    return (data[1:end], data[end:]) if len(data) >= end else (b"", b"")
