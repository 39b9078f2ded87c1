"""The PyPI release 0.8.1 in a process that speaks JSON lines, for the messaging above sessions."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.interop.registry import BUILT, PROGRAMS

RELEASE = BUILT / "pywebtransport-0.8.1/bin/python"


@dataclass(frozen=True)
class Peer:
    """A program of peers/ and the interpreter that has what it imports."""

    name: str
    program: str
    python: Path

    def command(self, *arguments: str) -> list[str]:
        if not self.python.exists():
            pytest.fail(f"{self.name} is not installed: run `make test-interop`")
        return [str(self.python), str(PROGRAMS / self.program), *arguments]

    async def start(self, *arguments: str) -> Process:
        # The release must find its own package, never this repository's.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        command = self.command(*arguments)
        return await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, cwd=PROGRAMS, env=environment
        )

    async def run_client(self, url: str, scenario: str) -> dict[str, Any]:
        """What the peer, as a client of `url`, says came of the scenario."""
        port = url.rpartition(":")[2]
        process = await self.start("connect", port, scenario)
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{self.name} ended with {process.returncode}"
        result = json.loads(output.splitlines()[-1])
        print(f"{self.name} as client, {scenario}: {result}")
        return dict(result)


class PeerServer:
    """A peer that listens; `next(event)` waits for something that it says it saw."""

    def __init__(self, peer: Peer, process: Process) -> None:
        self.peer = peer
        self._process = process
        self.url = ""

    async def next(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            print(f"{self.peer.name} as server: {said}")
            if said["event"] == event:
                return dict(said)
        raise AssertionError(f"{self.peer.name} ended before it said {event!r}")


# Session flow control must be offered to 0.8.1: a side that offers none grants nothing there.
LIMITS = {
    "initial_max_data": 1 << 24,
    "initial_max_streams_bidi": 100,
    "initial_max_streams_uni": 100,
}
