"""What the three managers share: a register that closed members leave by themselves.

Adding, finding and removing take constant time, whatever the number of members: a member
tells of its end and nothing is searched. Two things look at every member: a sweep
on a timer, for members that ended without a word, and the states in statistics.

Everything here runs on the event loop's thread, so there are no locks.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from operator import attrgetter
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from pywebtransport._link.ends import Register
from pywebtransport.exceptions import WebTransportError

__all__ = ["Member", "ResourceManager"]

logger = logging.getLogger(__name__)

STATE = attrgetter("state")


class Member(Protocol):
    """What a manager asks of its members."""

    @property
    def is_closed(self) -> bool: ...
    @property
    def state(self) -> StrEnum: ...
    def _join(self, register: Register) -> None: ...
    def _leave(self, register: Register) -> None: ...


IdT = TypeVar("IdT")
MemberT = TypeVar("MemberT", bound=Member)


class ResourceManager(ABC, Generic[IdT, MemberT]):
    """A register with a limit, used as ``async with``; leaving it closes every member."""

    _closed_states: ClassVar[frozenset[StrEnum]]
    _error: ClassVar[type[WebTransportError]]
    _plural: ClassVar[str]

    def __init__(self, *, limit: int, cleanup_interval: float) -> None:
        self._limit = limit
        self._cleanup_interval = cleanup_interval
        self._members: dict[IdT, MemberT] | None = None
        self._timers: list[Periodic] = []
        self._total_created = 0
        self._total_closed = 0
        self._max_concurrent = 0

    async def __aenter__(self) -> Self:
        if self._members is None:
            self._members = {}
            self._start_timers()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.shutdown()

    def __len__(self) -> int:
        return len(self._members or ())

    async def shutdown(self) -> None:
        """Close every member, all at the same time; what fails is logged. Idempotent."""
        members, self._members = self._members, None
        if members is None:
            return
        timers, self._timers = self._timers, []
        for timer in timers:
            timer.stop()
        for member in members.values():
            member._leave(self)
        self._total_closed += len(members)
        results = await asyncio.gather(
            *(self._close(member) for member in members.values()), return_exceptions=True
        )
        for member_id, result in zip(members, results, strict=True):
            if isinstance(result, Exception):
                logger.error("closing %s failed: %r", member_id, result)
        for timer in timers:
            await timer.wait_stopped()

    async def cleanup_closed_resources(self) -> int:
        """Forget members that have ended; how many there were."""
        closed = [key for key, member in (self._members or {}).items() if member.is_closed]
        for key in closed:
            self._remove(key)
        return len(closed)

    def _all(self) -> list[MemberT]:
        return list((self._members or {}).values())

    async def get_all_resources(self) -> list[MemberT]:
        """The members, oldest first."""
        return self._all()

    async def get_resource(self, *, resource_id: IdT) -> MemberT | None:
        """The member of this id, or None."""
        return None if self._members is None else self._members.get(resource_id)

    async def get_stats(self) -> dict[str, Any]:
        """Counters, and how many members are in each state; empty before entering."""
        if self._members is None and not self._total_created:
            return {}
        states = Counter(map(STATE, (self._members or {}).values()))
        count = states.total()
        return {
            "total_created": self._total_created,
            "total_closed": self._total_closed,
            "current_count": count,
            "max_concurrent": self._max_concurrent,
            "active": count - sum(states[state] for state in self._closed_states),
            f"max_{self._plural}": self._limit,
            "states": dict(states),
        }

    # for the subclasses

    @abstractmethod
    def _id_of(self, member: MemberT) -> IdT:
        """What it is registered under."""

    @abstractmethod
    async def _close(self, member: MemberT) -> None:
        """Close a member at shutdown."""

    def _start_timers(self) -> None:
        self._every(self._cleanup_interval, self.cleanup_closed_resources)

    def _every(self, interval: float, action: Callable[[], Awaitable[Any]]) -> None:
        self._timers.append(Periodic(interval, action))

    def _active_members(self) -> dict[IdT, MemberT]:
        if self._members is None:
            name = type(self).__name__
            raise self._error(f"{name} has not been activated: use it with `async with`")
        return self._members

    def _take(self, member_id: IdT, member: MemberT) -> None:
        """Take a member in, up to the limit; one that is known stays as it is."""
        members = self._members
        if members is None:
            members = self._active_members()
        if member_id not in members:
            if len(members) >= self._limit:
                raise self._error(f"Maximum {self._plural} ({self._limit}) exceeded")
            self._insert(member_id, member)

    def _insert(self, member_id: IdT, member: MemberT) -> None:
        members = self._members
        if members is None:
            members = self._active_members()
        members[member_id] = member
        self._total_created += 1
        if len(members) > self._max_concurrent:
            self._max_concurrent = len(members)
        if member.is_closed:
            # It has told of its end before this heard.
            self._remove(member_id)
        else:
            member._join(self)

    def _remove(self, member_id: IdT) -> MemberT | None:
        member = None if self._members is None else self._members.pop(member_id, None)
        if member is not None:
            member._leave(self)
            self._total_closed += 1
        return member

    def _member_replaced(self, member: MemberT) -> None:
        member_id = self._id_of(member)
        if self._members is not None and member_id in self._members:
            self._members[member_id] = member

    def _member_ended(self, member: MemberT) -> None:
        # It has left by itself.
        if self._members is not None and self._members.pop(self._id_of(member), None) is not None:
            self._total_closed += 1


class Periodic:
    """Calls ``action`` every ``interval`` seconds until it is stopped.

    Between two calls there is no task: one that is left when its loop ends would complain of it.
    """

    def __init__(self, interval: float, action: Callable[[], Awaitable[Any]]) -> None:
        self._interval = interval
        self._action = action
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._arm()

    def stop(self) -> None:
        """No call begins from now on; one that runs is cancelled, unless it is the caller."""
        self._is_stopped = True
        self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def wait_stopped(self) -> None:
        """Wait for the call that :meth:`stop` cancelled."""
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait([self._task])

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._begin)

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._call())

    async def _call(self) -> None:
        try:
            await self._action()
        except Exception:
            logger.exception("a periodic check failed: %r", self._action)
        finally:
            # Also when something that the action waited for was cancelled.
            self._task = None
            if not self._is_stopped:
                self._arm()
