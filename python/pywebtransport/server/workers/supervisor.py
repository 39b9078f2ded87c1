"""The process that starts the workers of a server, keeps them running, and ends them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import Iterable

from pywebtransport._words import address_text
from pywebtransport.exceptions import ServerError
from pywebtransport.server.running import LogFormatter, default_logging, run_until_signalled
from pywebtransport.server.workers.caretaker import Caretaker
from pywebtransport.server.workers.channel import Assignment
from pywebtransport.server.workers.port import Port, new_secret
from pywebtransport.server.workers.process import WorkerProcess, command_line
from pywebtransport.types import Address

__all__ = ["MAX_WORKERS", "check_possible", "supervise"]

logger = logging.getLogger("pywebtransport.server")

MAX_WORKERS = 64
"""Workers of one server: an octet tells 256 places apart, and a restart needs twice as many."""


FIRST_DELAY = 0.25
"""Seconds before a worker is started again of which the last start failed, or that died early;
twice as many each further time."""
MAX_DELAY = 5.0
"""Seconds that this grows to."""
STABLE_AFTER = 1.0
"""A worker that has served for so many seconds is started again at once when it dies."""
MAX_FAILED_STARTS = 5
"""Starts in a row without coming to serve, after which a worker is given up."""
SETTLING_TIME = 1.0
"""Seconds between the last new connection of an old worker and its end: in this time clients that
are about to connect open their sessions, which then live as long as all others."""


def check_possible(workers: object, engine: str) -> None:
    """Whether a server with so many workers can be.

    Raises:
        ValueError: No number of workers.
        ServerError: Not on this system, or not with this engine.
    """
    if not isinstance(workers, int) or isinstance(workers, bool) or not 1 <= workers <= MAX_WORKERS:
        raise ValueError(f"workers has to be a number from 1 to {MAX_WORKERS}, not {workers!r}")
    if workers == 1:
        return
    if sys.platform != "linux":
        raise ServerError(
            f"workers={workers} needs Linux, whose kernel finds a connection's process by its id;"
            f" on {sys.platform} run one process for each port"
        )
    if engine != "native":
        raise ServerError(
            f"workers={workers} needs the engine 'native': {engine!r} has no say over the"
            " connection ids by which the kernel finds a connection's process"
        )


def supervise(address: Address, workers: int) -> signal.Signals | None:
    """Serve a port with so many workers until SIGINT or SIGTERM; restart them on SIGHUP.

    Returns the signal that ended it.

    Raises:
        ServerError: The port cannot be bound, a worker cannot start, or all were given up.
    """
    command = command_line()
    supervisor = Supervisor(command, workers)
    LogFormatter.who = f"supervisor (pid {os.getpid()}) "
    with default_logging():
        ended_by = run_until_signalled(
            lambda: supervisor.run(address),
            hurry=supervisor.hurry,
            renew=supervisor.restart,
            patience=MAX_DELAY,
        )
    if supervisor.failure is not None:
        raise supervisor.failure
    return ended_by


class Supervisor:
    """The workers of one server.

    There are twice as many places as workers. Those of one half serve; a restart starts the others,
    and when all of these are ready new connections begin there, while the sessions of the old
    workers go on until they end or their time is over.
    """

    def __init__(self, command: list[str], workers: int) -> None:
        self.failure: ServerError | None = None
        self._command = command
        self._halves = range(workers), range(workers, 2 * workers)
        self._port = Port(2 * workers)
        self._secret = new_secret()
        self._current = self._halves[0]
        """The places where new connections begin, if their workers are ready."""
        self._processes: dict[int, WorkerProcess] = {}
        """By place: those that run."""
        self._keepers: dict[int, asyncio.Task[None]] = {}
        self._caretakers: dict[int, Caretaker] = {}
        """At the places where a worker has been and none is."""
        self._is_asked_to_restart = asyncio.Event()
        self._all_given_up = asyncio.Event()

    async def run(self, address: Address) -> None:
        """Until cancelled, or until all workers are given up."""
        try:
            await self._port.open(*address)
        except OSError as error:
            self._port.close()
            text = f"cannot listen on {address_text(address)}: {error.strerror}"
            if error.errno in (errno.ENOPROTOOPT, errno.EPERM):
                text += "; workers need a kernel that lets SO_ATTACH_REUSEPORT_CBPF be set"
            self.failure = ServerError(text, bind_address=address)
            return
        restarting = asyncio.ensure_future(self._restart_when_asked())
        try:
            said = await self._start(self._current)
            if said is not None:
                self.failure = ServerError(f"a worker cannot start: {said}", bind_address=address)
                return
            logger.info(
                "%d workers serve %s; Ctrl-C or SIGTERM ends them, SIGHUP restarts them",
                len(self._current),
                self._port,
            )
            await self._all_given_up.wait()
            self.failure = ServerError("no worker is left: each was given up, the log says why")
        finally:
            restarting.cancel()
            await self._end(list(self._processes))
            for caretaker in self._caretakers.values():
                caretaker.leave()
            self._port.close()

    def restart(self) -> None:
        """Replace all workers by new ones."""
        self._is_asked_to_restart.set()

    def hurry(self) -> None:
        """Whoever asked for the end asks again."""
        for process in self._processes.values():
            process.hurry()

    # Beginning and end of several.

    async def _start(self, places: Iterable[int]) -> str | None:
        """Start a worker at each place and let them be kept; why one did not, if one did not."""
        starting = [await self._launch(place) for place in places]
        for process in starting:
            if not await process.wait_ready():
                said = process.said or f"{process} {process.fate} before it served"
                await asyncio.gather(*(each.end() for each in starting))
                for each in starting:
                    self._gone(each)
                return said
        for process in starting:
            self._keepers[process.place] = asyncio.ensure_future(self._keep(process))
        return None

    async def _end(self, places: Iterable[int]) -> None:
        """End what runs there, and let nobody start it again."""
        keepers = [self._keepers.pop(place) for place in places if place in self._keepers]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        ending = [self._processes[place] for place in places if place in self._processes]
        await asyncio.gather(*(process.end() for process in ending))
        for process in ending:
            self._gone(process)
            logger.info("%s %s", process, process.fate)

    async def _launch(self, place: int) -> WorkerProcess:
        sockets = tuple(tuple(group.given_to(place)) for group in self._port.groups)
        count = self._port.count
        assignment = Assignment(place, count, len(self._current), self._secret, sockets)

        def make_room() -> None:
            if place in self._caretakers:
                self._caretakers.pop(place).leave()

        process = await WorkerProcess.start(self._command, assignment, make_room, self._leaves)
        self._processes[place] = process
        return process

    def _gone(self, process: WorkerProcess) -> None:
        """Somebody has to tell the clients of a process that has ended."""
        place = process.place
        if self._processes.get(place) is process:
            del self._processes[place]
        if place not in self._caretakers:
            self._caretakers[place] = Caretaker(self._port, place, self._secret)

    def _route(self) -> None:
        """New connections begin where a worker is ready for them."""
        processes = [self._processes.get(place) for place in self._current]
        ready = [each.place for each in processes if each is not None and each.is_ready]
        # With none, they wait in the sockets of those that are about to come back.
        self._port.accept(ready or self._current)

    # One worker.

    def _leaves(self, process: WorkerProcess) -> None:
        """Somebody else has told a worker to end: it does once others take its new clients."""
        self._route()
        is_alone = not any(each.is_ready for each in self._processes.values())
        delay = 0.0 if is_alone else SETTLING_TIME
        asyncio.get_running_loop().call_later(delay, process.let_end)

    async def _keep(self, process: WorkerProcess) -> None:
        """Start a worker again whenever it has ended."""
        loop = asyncio.get_running_loop()
        place = process.place
        delay = 0.0
        while True:
            served_since = loop.time()
            self._route()
            await process.wait_ended()
            self._gone(process)
            self._route()
            is_stable = loop.time() - served_since >= STABLE_AFTER
            delay = 0.0 if is_stable else min(2 * delay or FIRST_DELAY, MAX_DELAY)
            logger.error("%s %s; it is started again", process, process.fate)
            again = await self._start_again(place, delay)
            if again is None:
                del self._keepers[place]
                if not self._keepers:
                    self._all_given_up.set()
                return
            process = again

    async def _start_again(self, place: int, delay: float) -> WorkerProcess | None:
        for _ in range(MAX_FAILED_STARTS):
            await asyncio.sleep(delay)
            process = await self._launch(place)
            if await process.wait_ready():
                logger.info("%s serves", process)
                return process
            self._gone(process)
            delay = min(2 * delay or FIRST_DELAY, MAX_DELAY)
            why = f": {process.said}" if process.said else ""
            logger.error("%s %s before it served%s", process, process.fate, why)
        logger.critical(
            "worker %d is given up after %d starts in a row that failed; the other workers go on,"
            " SIGHUP tries it again",
            place + 1,
            MAX_FAILED_STARTS,
        )
        return None

    # Everything anew.

    async def _restart_when_asked(self) -> None:
        while True:
            await self._is_asked_to_restart.wait()
            self._is_asked_to_restart.clear()
            try:
                await self._restart()
            except OSError as error:
                logger.error("SIGHUP: the workers cannot be restarted and go on: %s", error)

    async def _restart(self) -> None:
        old, new = self._current, self._halves[self._current is self._halves[0]]
        logger.info("SIGHUP: starting %d new workers", len(new))
        said = await self._start(new)
        if said is not None:
            logger.error("SIGHUP: the old workers go on, for a new one cannot start: %s", said)
            return
        self._current = new
        self._route()
        logger.info("SIGHUP: the new workers serve; the old ones end when their sessions have")
        await asyncio.sleep(SETTLING_TIME)
        await self._end(old)
        logger.info("SIGHUP: restarted")
