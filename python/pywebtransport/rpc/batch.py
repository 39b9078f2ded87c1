"""Several calls in one JSON-RPC 2.0 message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pywebtransport.rpc.manager import RpcManager

__all__ = ["RpcBatch"]


class RpcBatch:
    """Calls that are collected first and sent together; :meth:`RpcManager.batch` makes one.

    A batch is sent once.
    """

    __slots__ = ("_manager", "_requests")

    def __init__(self, *, manager: RpcManager) -> None:
        self._manager = manager
        self._requests: list[tuple[str, bool, list[Any] | dict[str, Any]]] = []

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
        return await self._manager._send_batch(requests, timeout)

    def _add(
        self,
        method: str,
        params: tuple[Any, ...],
        named: Mapping[str, Any] | None,
        *,
        wants_answer: bool,
    ) -> None:
        arguments = self._manager._arguments(method, params, named)
        self._requests.append((method, wants_answer, arguments))
