"""Several calls in one JSON-RPC 2.0 message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["RpcBatch"]

Arguments: TypeAlias = list[Any] | dict[str, Any]
Request: TypeAlias = tuple[str, bool, Arguments]
"""A method, whether it wants an answer, and its parameters."""


class RpcBatch:
    """Calls that are collected first and sent together; :meth:`RpcManager.batch` makes one.

    A batch is sent once.
    """

    __slots__ = ("_arguments", "_requests", "_send")

    def __init__(
        self,
        *,
        arguments: Callable[[str, tuple[Any, ...], Mapping[str, Any] | None], Arguments],
        send: Callable[[list[Request], float], Awaitable[list[Any]]],
    ) -> None:
        self._arguments = arguments
        self._send = send
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def call(self, method: str, *params: Any, named: Mapping[str, Any] | None = None) -> None:
        """Add a call; its result takes the next place in what :meth:`send` returns."""
        self._add(method, params, named, wants_answer=True)

    def notify(self, method: str, *params: Any, named: Mapping[str, Any] | None = None) -> None:
        """Add a notification, which has no result."""
        self._add(method, params, named, wants_answer=False)

    async def send(self, *, timeout: float = 30.0) -> list[Any]:
        """Send the batch and wait for the results of its calls, in the order of the calls.

        A call that failed has its RpcError in place of a result. What concerns the batch as a
        whole is raised, as by :meth:`RpcManager.call`.
        """
        requests, self._requests = self._requests, []
        return await self._send(requests, timeout)

    def _add(
        self,
        method: str,
        params: tuple[Any, ...],
        named: Mapping[str, Any] | None,
        *,
        wants_answer: bool,
    ) -> None:
        arguments = self._arguments(method, params, named)
        self._requests.append((method, wants_answer, arguments))
