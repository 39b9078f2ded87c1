"""A command in a process of its own, whose output a test waits for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 30.0


class Program:
    """``pywebtransport ...`` in a folder; killed at the end, whatever happens."""

    def __init__(self, *arguments: str, folder: Path, **environment: str) -> None:
        self._arguments = arguments
        self._folder = folder
        self._environment = environment
        self.lines: list[str] = []
        """Of stdout and stderr, as they came."""
        self._seen = 0
        self._more = asyncio.Condition()

    async def __aenter__(self) -> Self:
        environment = {
            **os.environ,
            "XDG_STATE_HOME": str(self._folder / "state"),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **self._environment,
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "pywebtransport", *self._arguments),
            cwd=self._folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await asyncio.wait_for(self._reading, PATIENCE)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            async with self._more:
                self.lines.append(line.decode().rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._more.notify_all()

    async def line_with(self, text: str) -> str:
        """The next line, after those asked for before, that has the text."""
        try:
            async with asyncio.timeout(PATIENCE), self._more:
                while True:
                    while self._seen < len(self.lines):
                        line = self.lines[self._seen]
                        self._seen += 1
                        if text in line:
                            return line
                    assert not self._reading.done(), f"ended without {text!r}: {self.output}"
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no line with {text!r}: {self.output}") from None

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """The exit code, once the output has been read."""
        await asyncio.wait_for(self._reading, PATIENCE)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


def port_in(line: str) -> int:
    """Of ``... listening on 127.0.0.1:4433, ...``."""
    return int(line.partition("listening on ")[2].partition(",")[0].rpartition(":")[2])
