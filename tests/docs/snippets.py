"""The snippets of a page of documentation, and how they run.

A page is read from its top; what stands behind the language of a block says what the block is:

``python NAME.py``
    A file of that name. One whose name begins with ``server`` is started, and runs until the page
    ends; each other one runs to its end, with success.
``python NAME.py by PEER``
    The same with the interpreter of a peer of tests/interop: an older PyWebTransport.
``sh run``, ``sh server``
    A command of a shell: run to its end, with success; or started, as a file of that name.
``python``
    Lines of a program whose rest the page does not show: all of them run in one namespace, where
    ``await`` works, too. ``<!-- python ... -->`` are lines that no reader sees.
``text input``
    What the program before it reads from its standard input, which is empty otherwise.
``text output``
    What the program or the lines before have printed, without exception; ``…`` is any text.
``NAME.html`` and others
    A file, for what comes after it.

The ports that pages name (`PORTS`) become free ones, and ``localhost.crt`` is there already.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Self

from tests.support.certificate import make_certificate
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".cache/peers"
PORTS = ("4433", "4434", "4435", "8000", "8001")
SOCKETS = [Path("/proc/net", name) for name in ("udp", "udp6", "tcp", "tcp6")]
PATIENCE = 40.0
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]+)\n(?P<body>.*?)^ *```$|^<!-- python\n(?P<hidden>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Snippet:
    line: int
    language: str
    name: str
    peer: str
    code: str
    is_shown: bool


def snippets(text: str) -> Iterator[Snippet]:
    for found in BLOCK.finditer(text):
        language, _, rest = (found["info"] or "python").partition(" ")
        name, _, peer = rest.partition(" by ")
        is_shown = found["info"] is not None
        code = found["body"] if is_shown else found["hidden"]
        line = text.count("\n", 0, found.start()) + 1
        code = textwrap.dedent(code).strip("\n") + "\n"
        yield Snippet(line, language, name, peer, code, is_shown)


def is_listening(port: int) -> bool:
    """Whether a process has the port; asked of Linux, as a try to bind could be in the way."""
    for table in SOCKETS:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, local, remote, *_ = line.split()
            if local.endswith(f":{port:04X}") and remote.endswith(":0000"):
                return True
    return False


class Page:
    """`async with Page(path, directory) as page`: runs its snippets in `directory`."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.ports = {port: free_port() for port in PORTS}
        self._text = path.read_text()
        self._path = path
        self._directory = directory
        self._names: dict[str, Any] = {"__name__": "page"}
        self._printed = ""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        make_certificate(self._directory)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    def with_free_ports(self, text: str) -> str:
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        return text

    async def run(self) -> None:
        found = list(snippets(self._text))
        for snippet, after in zip(found, [*found[1:], None], strict=True):
            code, place = self.with_free_ports(snippet.code), f"{self._path.name}:{snippet.line}"
            if snippet.language == "text" and snippet.name == "output":
                wanted = re.escape(code.strip()).replace("…", ".*")
                assert re.fullmatch(wanted, self._printed.strip(), re.DOTALL), (
                    f"{place} shows\n{code}\nand what was printed is\n{self._printed}"
                )
            elif snippet.language == "python" and not snippet.name:
                # The page's own line numbers, for tracebacks.
                await self._run_lines("\n" * snippet.line + code)
            elif snippet.name:
                (self._directory / snippet.name).write_text(code)
                if snippet.name.startswith("server"):
                    await self._start(snippet, place)
                elif snippet.language in ("python", "sh"):
                    typed = after.code if after and after.name == "input" else ""
                    await self._run_program(snippet, place, typed)

    async def _run_lines(self, code: str) -> None:
        tree = compile(
            code, str(self._path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        compiled: CodeType = compile(
            tree, str(self._path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = eval(compiled, self._names)
            if inspect.isawaitable(result):
                await result
        self._printed = printed.getvalue()

    def _path_of_commands(self) -> str:
        """PATH with our command, which an editable installation may lack."""
        command = self._directory / ".bin/pywebtransport"
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pywebtransport "$@"\n')
        command.chmod(0o755)
        return f"{command.parent}:{os.environ['PATH']}"

    async def _process(self, snippet: Snippet) -> asyncio.subprocess.Process:
        interpreter = PEERS / snippet.peer / "bin/python" if snippet.peer else sys.executable
        arguments = ["-X", "dev", snippet.name]
        if snippet.language == "sh":
            interpreter, arguments = "sh", ["-e", snippet.name]
        elif snippet.name.startswith("test_"):
            arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", snippet.name]
        return await asyncio.create_subprocess_exec(
            interpreter,
            *arguments,
            cwd=self._directory,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PATH": self._path_of_commands()},
            start_new_session=True,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def _run_program(self, snippet: Snippet, place: str, typed: str) -> None:
        process = await self._process(snippet)
        talking = process.communicate(typed.encode())
        printed, errors = await asyncio.wait_for(talking, PATIENCE)
        assert process.returncode == 0, f"{place}:\n{printed.decode()}\n{errors.decode()}"
        self._printed = printed.decode()

    async def _start(self, snippet: Snippet, place: str) -> None:
        process = await self._process(snippet)
        talking = asyncio.create_task(process.communicate())

        async def stop() -> None:
            if process.returncode is None:
                # A shell and what it has started, alike.
                os.killpg(process.pid, signal.SIGTERM)
            await asyncio.wait_for(talking, PATIENCE)

        self._stack.push_async_callback(stop)
        port = next(self.ports[each] for each in PORTS if each in snippet.code)
        async with asyncio.timeout(PATIENCE):
            while not is_listening(port):
                if talking.done():
                    raise AssertionError(f"{place} ended: {talking.result()[1].decode()}")
                await asyncio.sleep(0.02)
