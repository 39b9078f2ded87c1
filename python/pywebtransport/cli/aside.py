"""Calls that block, beside the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Aside"]

T = TypeVar("T")


class Aside:
    """A thread of its own, which nobody waits for at the end.

    asyncio's own threads have to end before the program can: one that reads from a terminal, or
    asks a name server, may never.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns, or raises; one call after the other."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((lambda: function(*arguments), future))
        return await future

    def _work(self) -> None:
        while True:
            call, future = self._calls.get()
            result, failure = None, None
            try:
                result = call()
            except Exception as error:
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop may be closed by now
                future.get_loop().call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)
