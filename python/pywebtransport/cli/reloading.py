"""``serve --reload``: the server in a process of its own, started again when a source changes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeAlias

import click

from pywebtransport.cli.options import Options
from pywebtransport.cli.output import INTERRUPTED, exit_codes, note, warn

__all__ = ["serve_reloading"]

INTERVAL = 0.4
"""Seconds between two looks at the sources."""
PATIENCE = 5.0
"""Seconds for the server to end by itself; then it is hurried, and after as many more killed."""
SUFFIX = ".py"


Serve: TypeAlias = Callable[[Options], int]
"""Serves until a signal comes; the exit code."""


def serve_reloading(options: Options, serve: Serve) -> int:
    """``serve``, in a process that is replaced when a source changes."""
    return Reloader(options, serve).run()


class Reloader:
    """Watches the sources, and keeps one server process."""

    def __init__(self, options: Options, serve: Serve) -> None:
        self._options = options
        self._serve = serve
        self._root = Path(options.app_dir).resolve()
        self._signals: list[int] = []
        """Those that came, and have not been answered."""
        self._ended_by: int | None = None
        self._server: BaseProcess | None = None

    def run(self) -> int:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._take)
        note(f"Watching {self._root} for changes of *{SUFFIX}; Ctrl-C ends it.")
        sources = stamps(self._root)
        self._start()
        while self._ended_by is None:
            self._wait()
            self._answer_signals()
            if self._server is not None and not self._server.is_alive():
                if self._server.exitcode == 0:
                    return 0
                warn(
                    f"the server ended with exit code {self._server.exitcode};"
                    " waiting for a change of the sources"
                )
                self._server = None
            now = stamps(self._root)
            if changed := sorted({name for name, _ in now.items() ^ sources.items()}):
                sources = now
                self._restart(changed)
        while self._server is not None and self._server.is_alive():
            self._wait()
            self._answer_signals()
        return INTERRUPTED if self._ended_by == signal.SIGINT else 0

    def _wait(self) -> None:
        if self._server is None:
            time.sleep(INTERVAL)
        else:
            self._server.join(INTERVAL)

    def _answer_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number in (signal.SIGINT, signal.SIGTERM):
                self._ended_by = self._ended_by or number
                number = signal.SIGTERM
            self._tell(number)

    def _take(self, number: int, _frame: Any) -> None:
        self._signals.append(number)

    def _tell(self, number: int) -> None:
        if self._server is not None and self._server.pid is not None and self._server.is_alive():
            os.kill(self._server.pid, number)

    def _start(self) -> None:
        self._server = get_context("spawn").Process(
            target=serve_once, args=(self._serve, self._options)
        )
        with interrupts_held():
            self._server.start()
        self._options = replace(self._options, is_first=False)

    def _restart(self, changed: list[str]) -> None:
        names = dict.fromkeys(os.path.relpath(name, self._root) for name in changed)
        note(f"{click.style('Reloading', bold=True)}: {', '.join(names)} changed")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self._server is None or not self._server.is_alive():
                break
            self._tell(number)
            self._server.join(PATIENCE)
        self._start()


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C goes to every process of the terminal's group: what starts here is not to see it.

    This process gets it afterwards. Signals that are blocked are so in a new process, too.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It unblocks them when it starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve_once(serve: Serve, options: Options) -> None:
    """In the process of the server."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "pthread_sigmask"):
        # One that is waiting is forgotten, for the one who started this has it as well.
        mine = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, mine)
    threading.Thread(target=end_with_parent, daemon=True).start()
    with exit_codes():
        sys.exit(serve(options))


def end_with_parent() -> None:
    """A server without anybody who could end it would keep its port."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def stamps(root: Path) -> dict[str, int]:
    """When each source was last written."""
    found = {}
    for path in sources_below(root):
        try:
            found[path] = os.stat(path).st_mtime_ns
        except OSError:
            continue  # it was removed in this moment
    return found


def sources_below(root: Path) -> Iterator[str]:
    """Without what nobody edits: hidden folders, environments, caches, modules of Node."""
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__pycache__", "node_modules"))
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        yield from (os.path.join(folder, name) for name in names if name.endswith(SUFFIX))
