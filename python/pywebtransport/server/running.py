"""A server as a program of its own: signals, the end of its event loop, a log by default."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from pywebtransport._loop import new_loop
from pywebtransport._waiting import where

__all__ = [
    "HURRIED",
    "LAST_RESORT",
    "Import",
    "LogFormatter",
    "default_logging",
    "refuse_unknown",
    "run_until_signalled",
]

logger = logging.getLogger("pywebtransport.server")

LOG_FORMAT = "%(asctime)s %(levelname)s %(who)s%(name)s: %(message)s"
HURRIED = 0.5
"""Seconds left for what does not want to end, when a program is asked twice."""
LAST_RESORT = 2.0
"""Seconds after the second wish in which a program ends, whatever its functions do."""
ONE_WISH = 0.1
"""Seconds within which signals to end count once: ``timeout`` and other programs that start one
send theirs to the process and to its group."""
HANG_UP = getattr(signal, "SIGHUP", None)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Import:
    """A program that a command line imports for its application, which it serves itself."""

    is_under_way = False

    @classmethod
    @contextlib.contextmanager
    def by_command(cls) -> Iterator[None]:
        """``run()`` at the end of the program does nothing meanwhile."""
        cls.is_under_way = True
        try:
            yield
        finally:
            cls.is_under_way = False


def refuse_unknown(verb: str, keywords: dict[str, Any]) -> None:
    """A mistyped keyword must not look as if it worked."""
    if keywords:
        names = ", ".join(map(repr, keywords))
        raise TypeError(
            f"{verb}() has no keyword {names}: host and port are its own, the rest are fields of"
            " ServerConfig"
        )


class LogFormatter(logging.Formatter):
    """The format of a server that is a program."""

    who = ""
    """Which of several processes this one is; stands in each line."""

    def __init__(self) -> None:
        super().__init__(LOG_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        record.who = LogFormatter.who
        return super().format(record)


@contextlib.contextmanager
def default_logging() -> Iterator[None]:
    """Log to stderr from INFO on, unless the program has configured logging."""
    library = logging.getLogger("pywebtransport")
    if library.hasHandlers() or library.level != logging.NOTSET:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(logging.NOTSET)


def run_until_signalled(
    main: Callable[[], Coroutine[Any, Any, None]],
    hurry: Callable[[], None],
    *,
    patience: float,
    renew: Callable[[], None] | None = None,
    deadline: float | None = None,
) -> signal.Signals | None:
    """Run ``main`` in a new event loop; cancel it at the first signal; ``hurry`` at the next.

    As ``asyncio.run``, but also for SIGTERM, also where the shell has let SIGINT be ignored, as
    it does in the background, and without waiting for a task that swallows its cancellation for
    more than ``patience`` seconds, nor for ``main`` for more than ``deadline`` seconds after the
    second signal. SIGHUP means ``renew``, where there is such a thing, unless it tells that the
    terminal is gone. Returns the signal that ended it.
    """
    loop = new_loop()
    ending = Ending(loop.create_task(main()), hurry, deadline)
    try:
        asyncio.set_event_loop(loop)
        with (
            signals_to(loop, ending, renew),
            contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt),
        ):
            loop.run_until_complete(ending.wait())
        return ending.signal
    finally:
        try:
            end_tasks(loop, HURRIED if ending.is_hurried else patience)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


class Ending:
    """Who asked a program to end, and how urgently."""

    def __init__(
        self, task: asyncio.Task[None], hurry: Callable[[], None], deadline: float | None
    ) -> None:
        self.signal: signal.Signals | None = None
        self.is_hurried = False
        self._task = task
        self._hurry = hurry
        self._deadline = deadline
        self._asked_at = 0.0
        self._late: asyncio.Future[None] = task.get_loop().create_future()

    async def wait(self) -> None:
        """Until the program has ended, or has had time enough to; raises what it has raised."""
        await asyncio.wait((self._task, self._late), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()

    def ask(self, number: int) -> None:
        name = signal.Signals(number).name
        if self.signal is None:
            self.signal = signal.Signals(number)
            self._asked_at = time.monotonic()
            logger.info("%s: shutting down; once more to hurry", name)
            self._task.cancel()
        elif time.monotonic() - self._asked_at >= ONE_WISH:
            logger.info("%s again: hurrying", name)
            if self._deadline is not None and not self.is_hurried:
                self._task.get_loop().call_later(self._deadline, self._late.set_result, None)
            self.is_hurried = True
            self._hurry()


@contextlib.contextmanager
def signals_to(
    loop: asyncio.AbstractEventLoop, ending: Ending, renew: Callable[[], None] | None
) -> Iterator[None]:
    """Take the signals that ask a program to end or to look again, for as long as it takes."""
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread gets signals; whoever runs this elsewhere ends it by server.close().
        yield
        return
    signals = SIGNALS if renew is None or HANG_UP is None else (*SIGNALS, HANG_UP)
    before = {number: signal.getsignal(number) for number in signals}
    # With nohup the signal is ignored, and no terminal ends the program.
    is_terminals = before.get(HANG_UP) is signal.SIG_DFL and has_terminal()

    def take(number: int) -> None:
        if number == HANG_UP and renew and (has_terminal() or not is_terminals):
            renew()
        else:
            ending.ask(number)

    for number in signals:
        try:
            loop.add_signal_handler(number, take, number)
        except NotImplementedError:  # Windows

            def tell(number: int, _frame: Any) -> None:
                loop.call_soon_threadsafe(take, number)

            signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def has_terminal() -> bool:
    """Whether the process has a terminal that controls it, and that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


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
        keep(task)


def keep(task: asyncio.Task[Any]) -> None:
    """Never free a task: one that swallows every exception would swallow its GeneratorExit as well,
    and go round for ever without its loop, at the end of the interpreter at the latest."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
