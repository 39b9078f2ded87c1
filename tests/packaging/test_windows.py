"""Windows as far as Python shows it: its loop, its signals, the modules that it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.check_wheel import check_tutorial

ROOT = Path(__file__).resolve().parents[2]
# Every interpreter that has this on its path begins with it.
DISGUISE = """
import asyncio
import asyncio.runners
import os
import signal
import socket
import sys

for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
    sys.modules[name] = None
del signal.SIGHUP, socket.SO_REUSEPORT, os.fork, os.O_NOCTTY, os.uname


class Loop(asyncio.SelectorEventLoop):
    add_signal_handler = asyncio.AbstractEventLoop.add_signal_handler
    remove_signal_handler = asyncio.AbstractEventLoop.remove_signal_handler


class ProactorEventLoop(Loop):
    add_reader = asyncio.AbstractEventLoop.add_reader
    remove_reader = asyncio.AbstractEventLoop.remove_reader


asyncio.SelectorEventLoop = Loop
asyncio.new_event_loop = asyncio.events.new_event_loop = ProactorEventLoop
"""
EVERY_MODULE = """
import importlib, pkgutil, pywebtransport
for module in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


@pytest.fixture
def disguise(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "disguise").mkdir()
    (tmp_path / "disguise/sitecustomize.py").write_text(DISGUISE)
    return {"PYTHONPATH": f"{tmp_path / 'disguise'}{os.pathsep}{ROOT / 'python'}"}


def python(disguise: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=os.environ | disguise, capture_output=True, text=True, timeout=40
    )


def test_every_module_can_be_imported(disguise: dict[str, str]) -> None:
    done = python(disguise, EVERY_MODULE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("engine", ["native", "aioquic"])
def test_tutorial_runs(disguise: dict[str, str], tmp_path: Path, engine: str) -> None:
    check_tutorial(sys.executable, tmp_path, engine, is_windows=True, **disguise)


def test_a_program_with_the_default_loop_is_told_what_to_type(disguise: dict[str, str]) -> None:
    code = """
import asyncio
from pywebtransport import ClientConfig, WebTransportClient

async def main():
    async with WebTransportClient(config=ClientConfig(engine="native")) as client:
        await client.connect("https://127.0.0.1:9/")

asyncio.run(main())
"""
    done = python(disguise, code)
    last = done.stderr.strip().splitlines()[-1]
    assert "ProactorEventLoop has none: use asyncio.run(main(), loop_factory=" in last
    assert last.endswith("or engine='aioquic'")
