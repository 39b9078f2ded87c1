"""A worker: one process of several on one port, which serves as the supervisor says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from pywebtransport._engine.base import BoundSocket
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server.running import (
    LAST_RESORT,
    LogFormatter,
    default_logging,
    run_until_signalled,
)
from pywebtransport.server.workers.channel import Assignment, Channel

__all__ = ["Servable", "Worker", "current_worker", "serve_as_worker"]

logger = logging.getLogger("pywebtransport.server")


@dataclass(frozen=True)
class Worker:
    """This process among the workers of a server."""

    number: int
    """From 1 on; no two that run at one time have the same. Each restart takes the numbers that
    the one before has left free, so that there are up to twice as many as workers."""
    count: int
    """How many workers there are."""


class Servable(Protocol):
    """What a worker serves: an application."""

    async def serve_sockets(
        self,
        sockets: list[BoundSocket],
        before_listening: Callable[[], Awaitable[object]],
        on_listening: Callable[[], None],
    ) -> None:
        """Start up, listen and serve until cancelled, then end in good order."""

    def hurry(self) -> None:
        """Do not wait for anybody any longer."""

    def renew(self) -> None:
        """Look at the certificate's files."""

    @property
    def patience(self) -> float:
        """Seconds that the end in good order takes at most."""

    @property
    def close_timeout(self) -> float: ...


LEAVING_TIME = 2.0
"""Seconds after which a worker that was told to end by a signal does so without its supervisor's
word that new connections begin elsewhere."""

_current: Worker | None = None


def current_worker() -> Worker | None:
    """Which worker this process is; None when it is none."""
    return _current


def serve_as_worker(app: Servable, channel: Channel) -> signal.Signals | None:
    """Serve until the supervisor or a signal says to end, or the supervisor is gone.

    Returns the signal.

    Raises:
        SystemExit: It cannot serve; the supervisor and the log have been told why.
    """
    global _current
    assignment = channel.assigned()
    _current = Worker(assignment.place + 1, assignment.workers)
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        channel.send(ready=True, patience=app.patience)

    LogFormatter.who = f"worker {_current.number} (pid {os.getpid()}) "
    with default_logging():
        try:
            return run_until_signalled(
                lambda: _serve(app, assignment, channel, ready),
                hurry=app.hurry,
                renew=app.renew,
                patience=app.close_timeout,
                deadline=LAST_RESORT,
            )
        except Exception as error:
            if is_ready:
                raise
            is_ours = isinstance(error, WebTransportError)
            text = error.message if isinstance(error, WebTransportError) else str(error)
            why = text or type(error).__name__
            channel.send(failed=why)
            logger.error("cannot start: %s", why, exc_info=None if is_ours else error)
            sys.exit(1)


async def _serve(
    app: Servable, assignment: Assignment, channel: Channel, ready: Callable[[], None]
) -> None:
    """Serve until told to end. Cancelled, ask for being told: others take the new clients first."""
    is_free = asyncio.Event()
    """Nobody else takes packets from the sockets."""
    is_ending = False

    async def ask() -> None:
        channel.send(asks=True)
        await is_free.wait()

    serving = _task(app.serve_sockets(assignment.bound_sockets(), ask, ready))

    def end() -> None:
        nonlocal is_ending
        if not is_ending:
            is_ending = True
            serving.cancel()

    listening = _task(_obey(channel, is_free.set, end, app.hurry))
    try:
        await asyncio.wait({serving})
    except asyncio.CancelledError:
        channel.send(leaving=True)
        await asyncio.wait({serving}, timeout=LEAVING_TIME)
        end()
        await asyncio.wait({serving})
    finally:
        listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def _obey(
    channel: Channel,
    go: Callable[[], None],
    end: Callable[[], None],
    hurry: Callable[[], None],
) -> None:
    try:
        while words := await channel.next():
            if "go" in words:
                go()
            if "end" in words:
                logger.info("shutting down")
                end()
            if "hurry" in words:
                hurry()
    except EOFError:
        logger.warning("the supervisor is gone: shutting down")
        end()


def _task(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(coroutine)
