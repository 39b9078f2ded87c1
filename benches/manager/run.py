"""``python -m benches.manager.run``: what managers, pools and emitters cost as they fill.

Each row is one operation at growing numbers of members already there. Time per operation has to
stay level; the last rows, statistics and sweep, look at every member and grow with them.
Members are stand-ins without a network, so that only the registers are measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from pywebtransport.events import EventEmitter
from pywebtransport.manager import ConnectionManager, SessionManager, StreamManager
from pywebtransport.pool import SessionPool
from pywebtransport.types import EventType, SessionState, StreamDirection

RESULTS = Path(__file__).resolve().parents[1] / "results/manager.json"
PROBE = 1000
"""Operations per figure, on top of the members that are already there."""


class Member(EventEmitter):
    """A connection, session or stream, as far as a manager can see."""

    direction = StreamDirection.BIDIRECTIONAL
    is_closed = False
    is_closing = False
    last_activity_time = 0.0
    state = SessionState.CONNECTED

    def __init__(self, number: int) -> None:
        self.stream_id = number
        self.session_id = self.connection_id = f"member_{number}"

    async def close(self, **_: Any) -> None:
        self.is_closed = True


class Client:
    """Makes sessions for a pool."""

    def __init__(self) -> None:
        self.made = 0

    async def connect(self, **_: Any) -> Member:
        self.made += 1
        return Member(self.made)


async def per_operation(
    operation: Callable[[Member], Awaitable[Any]], members: list[Member]
) -> float:
    start = time.perf_counter()
    for member in members:
        await operation(member)
    return (time.perf_counter() - start) / len(members) * 1e6


async def manager_costs(
    manager: Any,
    size: int,
    add: Callable[[Member], Awaitable[Any]],
    find: Callable[[Member], Awaitable[Any]],
    remove: Callable[[Member], Awaitable[Any]],
    closed: EventType,
) -> dict[str, float]:
    costs: dict[str, float] = {}
    async with manager:
        for number in range(size):
            await add(Member(number))
        probes = [Member(size + number) for number in range(PROBE)]
        costs["add"] = await per_operation(add, probes)
        costs["find"] = await per_operation(find, probes)
        costs["remove"] = await per_operation(remove, probes)
        for member in probes:
            await add(member)
        costs["end of a member"] = await per_operation(
            lambda member: member.emit(event_type=closed), probes
        )
        assert len(manager) == size
        start = time.perf_counter()
        await manager.get_stats()
        costs["statistics (all members)"] = (time.perf_counter() - start) * 1e6
        start = time.perf_counter()
        await manager.cleanup_closed_resources()
        costs["sweep (all members)"] = (time.perf_counter() - start) * 1e6
    return costs


async def connection_costs(size: int) -> dict[str, float]:
    manager = ConnectionManager(max_connections=size + PROBE)
    return await manager_costs(
        manager,
        size,
        lambda member: manager.add_connection(connection=cast(Any, member)),
        lambda member: manager.get_resource(resource_id=member.connection_id),
        lambda member: manager.remove_connection(connection_id=member.connection_id),
        EventType.CONNECTION_CLOSED,
    )


async def session_costs(size: int) -> dict[str, float]:
    manager = SessionManager(max_sessions=size + PROBE)
    return await manager_costs(
        manager,
        size,
        lambda member: manager.add_session(session=cast(Any, member)),
        lambda member: manager.get_resource(resource_id=member.session_id),
        lambda member: manager.remove_session(session_id=member.session_id),
        EventType.SESSION_CLOSED,
    )


async def stream_costs(size: int) -> dict[str, float]:
    async def no_stream(is_unidirectional: bool) -> int:
        raise AssertionError("streams are added here, not opened")

    manager = StreamManager(stream_factory=no_stream, session_factory=cast(Any, lambda: None))
    return await manager_costs(
        manager,
        size,
        lambda member: manager.add_stream(stream=cast(Any, member)),
        lambda member: manager.get_resource(resource_id=member.stream_id),
        lambda member: manager.remove_stream(stream_id=member.stream_id),
        EventType.STREAM_CLOSED,
    )


async def pool_costs(size: int) -> dict[str, float]:
    pool = SessionPool(client=cast(Any, Client()), url="https://h/", max_size=size)
    async with pool:
        start = time.perf_counter()
        out = [await pool.acquire() for _ in range(size)]
        new = (time.perf_counter() - start) / size * 1e6
        for session in out:
            await pool.release(session)

        async def borrow(_: Member) -> None:
            await pool.release(await pool.acquire())

        return {
            "acquire a new one": new,
            "acquire and release": await per_operation(borrow, [Member(0)] * PROBE),
        }


CASES: dict[str, tuple[Callable[[int], Awaitable[dict[str, float]]], tuple[int, ...]]] = {
    "ConnectionManager": (connection_costs, (100, 1_000, 10_000)),
    "SessionManager": (session_costs, (100, 1_000, 10_000)),
    "StreamManager": (stream_costs, (1_000, 10_000, 100_000)),
    "SessionPool": (pool_costs, (100, 1_000, 10_000)),
}


async def measure(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name, (costs, sizes) in CASES.items():
        for size in sizes:
            for _ in range(rounds):
                for operation, figure in (await costs(size)).items():
                    row = table.setdefault(name, {}).setdefault(operation, {})
                    row[str(size)] = min(figure, row.get(str(size), figure))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    table = asyncio.run(measure(parser.parse_args().rounds))
    for name, (_, sizes) in CASES.items():
        print(f"{name:<28}" + "".join(f"{size:>12,}" for size in sizes) + "   growth")
        for operation, row in table[name].items():
            figures = [row[str(size)] for size in sizes]
            cells = "".join(f"{figure:>9.2f} µs" for figure in figures)
            print(f"  {operation:<26}{cells}   x{figures[-1] / figures[0]:.1f}")
    result = {"python": platform.python_version(), "microseconds": table}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
