"""An end in a process of its own, driven by JSON lines (peers/end.py says by which)."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from itertools import count
from typing import Any


class Remote:
    """`async with Remote(command)`: the program, with its operations as `run`."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Remote:
        # A peer must find its own packages, never this repository's.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, env=environment, limit=1 << 20
        )
        self._reader = asyncio.create_task(self._read(self._process))
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._process is not None and self._reader is not None
        # The end of its input is what tells a peer to stop.
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._reader
        except TimeoutError:
            self._process.kill()
        await self._process.wait()

    async def run(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            line = json.dumps({"id": number, "op": op, **arguments})
            self._process.stdin.write(line.encode() + b"\n")
            await self._process.stdin.drain()
            return await answer
        except (BrokenPipeError, ConnectionResetError):
            return {"error": "the program has ended"}
        finally:
            del self._answers[number]

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            answer = json.loads(line)
            if (waiting := self._answers.get(answer.pop("id"))) and not waiting.done():
                waiting.set_result(answer)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_result({"error": "the program has ended"})
