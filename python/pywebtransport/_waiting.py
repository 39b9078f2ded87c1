"""Futures in a list, which somebody else wakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableSequence
from contextlib import suppress
from typing import Any

__all__ = ["ends_task", "forget_cancellation", "wait_among", "wait_within", "where"]

logger = logging.getLogger(__name__)


def ends_task(error: BaseException) -> bool:
    """Whether what a function of the application's has raised is to go on: the task is to end.

    A CancelledError is not, where it comes from something that the function waited for.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, (GeneratorExit, KeyboardInterrupt, SystemExit))


async def wait_among(
    waiters: MutableSequence[asyncio.Future[None]], future: asyncio.Future[None]
) -> None:
    """Wait as one of ``waiters``; a wait that is given up leaves nothing there."""
    waiters.append(future)
    try:
        await future
    except asyncio.CancelledError:
        with suppress(ValueError):
            waiters.remove(future)
        raise


async def wait_within(task: asyncio.Task[Any], limit: float, what: str) -> None:
    """Wait for a task of the application's, within bounds; it goes on if it takes longer."""
    if task is asyncio.current_task():
        return
    done, _ = await asyncio.wait((task,), timeout=limit)
    if done:
        forget_cancellation(task)
    else:
        logger.warning("%s still runs after %g s, not waited for: %s", what, limit, where(task))


def forget_cancellation(task: asyncio.Task[Any]) -> None:
    """For a task of one's own that has ended: how it was cancelled, which knows the frames that it
    was in, and they whose task it was. All of that would be left to the collector."""
    if task.cancelled():
        with suppress(asyncio.CancelledError):
            task.exception()


def where(task: asyncio.Task[Any]) -> str:
    """The line that a task waits in, before that goes into asyncio."""
    coroutine: Any = task.get_coro()
    place = repr(task.get_name())
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        if frame.f_globals.get("__name__", "").startswith("asyncio."):
            break
        place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        coroutine = coroutine.cr_await
    return place
