"""The event loops of programs that are ours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pywebtransport.exceptions import wrong_loop

__all__ = ["check_loop", "has_readers", "new_loop", "run"]

T = TypeVar("T")


def check_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Before anything changes. What is left of a closed loop may be tidied up from another.

    Raises:
        InvalidStateError: What belongs to ``loop`` was called from elsewhere.
    """
    if loop is not None and not loop.is_closed() and asyncio.get_running_loop() is not loop:
        raise wrong_loop(is_closed=False)


def has_readers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``add_reader`` is there: Windows' default loop, ProactorEventLoop, lacks it."""
    return type(loop).add_reader is not asyncio.AbstractEventLoop.add_reader


def new_loop() -> asyncio.AbstractEventLoop:
    """As ``asyncio.new_event_loop()``, but one that the native engine can use, too."""
    loop = asyncio.new_event_loop()
    if has_readers(loop):
        return loop
    loop.close()
    return asyncio.SelectorEventLoop()


def run(main: Coroutine[Any, Any, T]) -> T:
    """As ``asyncio.run()``, in such a loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)
