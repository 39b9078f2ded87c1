"""A choice among several servers, each with one shared connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pywebtransport.config import ClientConfig
from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.exceptions import ConnectionError
from pywebtransport.utils import get_logger

__all__ = ["ConnectionLoadBalancer"]

logger = get_logger(name=__name__)


@dataclass(slots=True)
class Target:
    """One server and what is known of it."""

    host: str
    port: int
    weight: float = 1.0
    latency: float = 0.0
    """Seconds of the last connect; 0 while unknown."""
    failure: str | None = None
    """Why it has left the rotation; as text, since an exception would keep what failed alive."""
    connection: WebTransportConnection | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> str:
        return f"{self.host}:{self.port}"


class ConnectionLoadBalancer:
    """Gives out connections to targets by a strategy; use it with ``async with``.

    A target whose connection fails leaves the rotation until ``health_checker`` says that it is
    well again.

    Args:
        targets: Hosts and ports; repetitions are dropped.
        connection_factory: Called with the keywords config, host, port and path.
        health_checker: Called with the keywords host, port and timeout.
        health_check_interval: Seconds between two checks of the failed targets.
        health_check_timeout: Seconds that a check may take.

    Raises:
        ValueError: ``targets`` is empty.
    """

    def __init__(
        self,
        *,
        targets: list[tuple[str, int]],
        connection_factory: Callable[..., Awaitable[WebTransportConnection]],
        health_checker: Callable[..., Awaitable[bool]],
        health_check_interval: float = 30.0,
        health_check_timeout: float = 5.0,
    ) -> None:
        if not targets:
            raise ValueError("a load balancer needs at least one target")
        self._targets = [Target(host, port) for host, port in dict.fromkeys(targets)]
        self._connection_factory = connection_factory
        self._health_checker = health_checker
        self._interval = health_check_interval
        self._timeout = health_check_timeout
        self._index = 0
        self._is_activated = False
        self._checks: asyncio.Task[None] | None = None
        self._strategies: dict[str, Callable[[list[Target]], Target]] = {
            "round_robin": self._next,
            "weighted": _weighted,
            "least_latency": _fastest,
        }

    def __len__(self) -> int:
        return len(self._targets)

    async def __aenter__(self) -> Self:
        self._is_activated = True
        if self._checks is None:
            self._checks = asyncio.create_task(self._check_failed())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.shutdown()

    async def get_connection(
        self, *, config: ClientConfig, path: str = "/", strategy: str = "round_robin"
    ) -> WebTransportConnection:
        """A connection to the target that a strategy chooses: the shared one, or a new one.

        Args:
            config: For a new connection.
            path: For a new connection.
            strategy: ``round_robin``, ``weighted`` (at random, by weight) or ``least_latency``.

        Raises:
            ValueError: There is no such strategy.
            ConnectionError: Every target has failed, the one that another caller was waiting for
                has, or the load balancer is not entered or is shut down.

        What ``connection_factory`` raises marks the target as failed and is raised.
        """
        self._require_open()
        choose = self._strategies.get(strategy)
        if choose is None:
            raise ValueError(f"no strategy is named {strategy!r}; there are {[*self._strategies]}")
        available = [target for target in self._targets if target.failure is None]
        if not available:
            raise ConnectionError(f"all {len(self._targets)} targets have failed")
        target = choose(available)
        async with target.lock:
            if target.connection is not None and target.connection.is_connected:
                return target.connection
            self._require_open()
            if target.failure is not None:
                # While this caller waited. Trying again would let it wait twice as long.
                raise ConnectionError(f"{target.key} has failed: {target.failure}")
            started = time.perf_counter()
            target.connection = None
            try:
                connection = await self._connection_factory(
                    config=config, host=target.host, port=target.port, path=path
                )
            except Exception as error:
                target.failure = str(error) or repr(error)
                raise
            if self._checks is None:
                await connection.close()
            self._require_open()
            target.latency = time.perf_counter() - started
            target.connection = connection
            return connection

    async def get_load_balancer_stats(self) -> dict[str, Any]:
        """Counts of targets and of live connections."""
        self._require_activated()
        failed = sum(target.failure is not None for target in self._targets)
        return {
            "total_targets": len(self._targets),
            "failed_targets": failed,
            "available_targets": len(self._targets) - failed,
            "active_connections": sum(_is_connected(target) for target in self._targets),
        }

    async def get_target_stats(self) -> dict[str, Any]:
        """What is known of each target, by ``host:port``."""
        self._require_activated()
        return {
            target.key: {
                "host": target.host,
                "port": target.port,
                "weight": target.weight,
                "latency": target.latency,
                "failed": target.failure is not None,
                "connected": _is_connected(target),
            }
            for target in self._targets
        }

    async def update_target_weight(self, *, host: str, port: int, weight: float) -> None:
        """Set a target's weight, 0 at least; an unknown target is ignored."""
        self._require_activated()
        for target in self._targets:
            if (target.host, target.port) == (host, port):
                target.weight = max(weight, 0.0)

    async def close_all_connections(self) -> None:
        """Close the shared connections at the same time; failures are logged."""
        connections = [each.connection for each in self._targets if each.connection is not None]
        for target in self._targets:
            target.connection = None
        results = await asyncio.gather(
            *(connection.close() for connection in connections), return_exceptions=True
        )
        for result in results:
            if isinstance(result, Exception):
                logger.error("closing a connection failed: %r", result)

    async def shutdown(self) -> None:
        """Stop the checks and close the connections."""
        task, self._checks = self._checks, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self.close_all_connections()

    def _require_activated(self) -> None:
        if not self._is_activated:
            raise ConnectionError("ConnectionLoadBalancer has not been activated: use `async with`")

    def _require_open(self) -> None:
        self._require_activated()
        if self._checks is None:
            raise ConnectionError("the load balancer is shut down")

    def _next(self, targets: list[Target]) -> Target:
        self._index += 1
        return targets[self._index % len(targets)]

    async def _check_failed(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            failed = [target for target in self._targets if target.failure is not None]
            await asyncio.gather(*(self._check(target) for target in failed))

    async def _check(self, target: Target) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                is_well = await self._health_checker(
                    host=target.host, port=target.port, timeout=self._timeout
                )
        except Exception as error:
            logger.debug("check of %s failed: %r", target.key, error)
            return
        if is_well:
            target.failure = None
            target.latency = 0.0
            logger.info("%s is well again", target.key)


def _weighted(targets: list[Target]) -> Target:
    weights = [target.weight for target in targets]
    return random.choices(targets, weights=weights if any(weights) else None)[0]


def _fastest(targets: list[Target]) -> Target:
    return min(targets, key=lambda target: target.latency)


def _is_connected(target: Target) -> bool:
    return target.connection is not None and target.connection.is_connected
