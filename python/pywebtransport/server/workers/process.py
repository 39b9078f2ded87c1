"""A worker's process, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from typing import Any, Self

from pywebtransport.exceptions import ServerError
from pywebtransport.server.workers.channel import ENVIRONMENT_VARIABLE, Assignment, Channel

__all__ = ["WorkerProcess", "command_line"]

logger = logging.getLogger("pywebtransport.server")

KILL_MARGIN = 5.0
"""Seconds beyond its own patience after which a worker that was to end is killed."""


def command_line() -> list[str]:
    """The command that started this program, which each worker runs again.

    Raises:
        ServerError: There is none that could be run again.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        what = "a process of multiprocessing"
    elif len(command) == 1 or sys.flags.interactive or "-" in command[1:2] or not sys.executable:
        what = "a program that is typed in or read from standard input"
    else:
        return command
    raise ServerError(
        f"workers start by this program's command line, and {what} has none: put it into a file"
        " and run that, or use `pywebtransport serve module:app --workers N`"
    )


class WorkerProcess:
    """Start it with :meth:`start`."""

    def __init__(
        self,
        place: int,
        process: Process,
        channel: Channel,
        on_asking: Callable[[], None],
        on_leaving: Callable[[WorkerProcess], None],
    ) -> None:
        self.place = place
        self._on_asking = on_asking
        self._on_leaving = on_leaving
        self.is_ready = False
        self.said = ""
        """Why it could not start."""
        self._process = process
        self._channel = channel
        self._patience = 0.0
        self._is_known = asyncio.Event()
        """Set when it serves, or has ended."""
        self._watching = [
            asyncio.ensure_future(self._listen()),
            asyncio.ensure_future(self._watch()),
        ]

    @classmethod
    async def start(
        cls,
        command: list[str],
        assignment: Assignment,
        on_asking: Callable[[], None],
        on_leaving: Callable[[WorkerProcess], None],
    ) -> Self:
        """Run the command as a worker.

        ``on_asking`` is called when it is about to listen, ``on_leaving`` when it was asked to end
        by somebody else and waits for :meth:`let_end`.

        Raises:
            OSError: It cannot be run.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            channel = Channel(ours)
            channel.assign(assignment)
            environment = {ENVIRONMENT_VARIABLE: f"{theirs.fileno()}:{os.getpid()}"}
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                env=os.environ | environment,
                pass_fds=[theirs.fileno()],
                # Ctrl-C is for the supervisor, which tells the workers.
                process_group=0,
            )
        return cls(assignment.place, process, channel, on_asking, on_leaving)

    def __str__(self) -> str:
        return f"worker {self.place + 1} (pid {self._process.pid})"

    @property
    def fate(self) -> str:
        """How it ended, in words."""
        status = self._process.returncode
        if status is None:
            return "runs"
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-status).name}"
            return f"was killed by signal {-status}"
        return f"ended with status {status}"

    async def wait_ready(self) -> bool:
        """Until it serves; False: it has ended instead."""
        await self._is_known.wait()
        return self.is_ready and self._process.returncode is None

    async def wait_ended(self) -> None:
        """Until the process is gone."""
        await asyncio.shield(self._watching[1])

    async def end(self) -> None:
        """Let it end in good order; kill it when that takes too long."""
        self.let_end()
        patience = self._patience + KILL_MARGIN
        try:
            async with asyncio.timeout(patience):
                await self.wait_ended()
        except TimeoutError:
            logger.error("%s has not ended within %g s and is killed", self, patience)
            self.kill()
            await self.wait_ended()

    def let_end(self) -> None:
        """Let it end in good order, however long that takes."""
        self._channel.send(end=True)

    def hurry(self) -> None:
        """Let it wait for nobody."""
        self._channel.send(hurry=True)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self) -> None:
        with contextlib.suppress(EOFError):
            while words := await self._channel.next():
                self._hear(words)

    def _hear(self, words: dict[str, Any]) -> None:
        if "asks" in words:
            self._on_asking()
            self._channel.send(go=True)
        if "ready" in words:
            self.is_ready = True
            self._patience = words["patience"]
            self._is_known.set()
        if "leaving" in words:
            self.is_ready = False
            self._on_leaving(self)
        self.said = words.get("failed", "")

    async def _watch(self) -> None:
        await self._process.wait()
        # What it said last is there to be read.
        await self._watching[0]
        self._channel.close()
        self._is_known.set()
