"""The event loops of programs that are ours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["has_readers", "new_loop", "run"]

T = TypeVar("T")


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
