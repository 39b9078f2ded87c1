"""A server as a program of its own: signals, the end of its event loop, a log by default."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from pywebtransport._waiting import where

__all__ = ["default_logging", "refuse_unknown", "run_until_signalled"]

logger = logging.getLogger("pywebtransport.server")

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def refuse_unknown(verb: str, keywords: dict[str, Any]) -> None:
    """A mistyped keyword must not look as if it worked."""
    if keywords:
        names = ", ".join(map(repr, keywords))
        raise TypeError(
            f"{verb}() has no keyword {names}: host and port are its own, the rest are fields of"
            " ServerConfig"
        )


@contextlib.contextmanager
def default_logging() -> Iterator[None]:
    """Log to stderr from INFO on, unless the program has configured logging."""
    library = logging.getLogger("pywebtransport")
    if library.hasHandlers() or library.level != logging.NOTSET:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(logging.NOTSET)


def run_until_signalled(
    main: Callable[[], Coroutine[Any, Any, None]], hurry: Callable[[], None], patience: float
) -> None:
    """Run ``main`` in a new event loop; cancel it at the first signal; ``hurry`` at the next.

    As ``asyncio.run``, but also for SIGTERM, also where the shell has let SIGINT be ignored, as
    it does in the background, and without waiting for a task that swallows its cancellation for
    more than ``patience`` seconds.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        task = loop.create_task(main())
        with (
            signals_to(loop, task, hurry),
            contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt),
        ):
            loop.run_until_complete(task)
    finally:
        try:
            end_tasks(loop, patience)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


@contextlib.contextmanager
def signals_to(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], hurry: Callable[[], None]
) -> Iterator[None]:
    """Take the signals that ask a program to end, for as long as it takes."""
    is_first = True

    def ask(number: int) -> None:
        nonlocal is_first
        name = signal.Signals(number).name
        if is_first:
            is_first = False
            logger.info("%s: shutting down; once more to hurry", name)
            task.cancel()
        else:
            logger.info("%s again: hurrying", name)
            hurry()

    if threading.current_thread() is not threading.main_thread():
        # Only the main thread gets signals; whoever runs this elsewhere ends it by server.close().
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        try:
            loop.add_signal_handler(number, ask, number)
        except NotImplementedError:  # Windows

            def tell(number: int, _frame: Any) -> None:
                loop.call_soon_threadsafe(ask, number)

            signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def end_tasks(loop: asyncio.AbstractEventLoop, patience: float) -> None:
    """Cancel what is left in a loop that is about to be closed."""
    tasks = asyncio.all_tasks(loop)
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    _, left = loop.run_until_complete(asyncio.wait(tasks, timeout=patience))
    for task in left:
        logger.error("a task ignores its cancellation and is dropped: %s", where(task))
