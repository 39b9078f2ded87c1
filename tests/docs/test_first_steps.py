"""The programs of the README, of the tutorial and of the guides run as they stand there."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.support.certificate import make_certificate
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]
LISTENING = "listening on"


def programs(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_first_program_of_the_readme_is_short() -> None:
    assert len(programs("README.md")[0].splitlines()) <= 12


@pytest.mark.parametrize(
    ("page", "shown"),
    [
        ("README.md", "b'hello'\n"),
        ("docs/tutorial/echo.md", "b'hello'\n"),
        ("docs/howto/rpc.md", "2.0\n-32602\n3.0\n0.5 -32601\n"),
        ("docs/howto/pubsub.md", "weather.berlin b'rain'\n"),
    ],
)
async def test_server_and_client_of_the_page_talk(
    page: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_certificate(tmp_path)
    # The pages name the default port; a test may not count on it being free.
    port = str(free_port())
    *before, server, client = [
        code.replace("4433", port) for code in programs(page) if "import" in code
    ]
    for code in before:
        exec(compile(code, page, "exec"), {"__name__": "__main__"})
    (tmp_path / "server.py").write_text(f"import logging\nlogging.basicConfig(level=20)\n{server}")
    (tmp_path / "client.py").write_text(client)
    serving = await asyncio.create_subprocess_exec(sys.executable, "server.py", stderr=PIPE)
    try:
        assert serving.stderr is not None
        while LISTENING not in (line := (await serving.stderr.readline()).decode()):
            assert line, "the server ended before it listened"
        asking = await asyncio.create_subprocess_exec(sys.executable, "client.py", stdout=PIPE)
        output, _ = await asking.communicate()
        assert (asking.returncode, output.decode()) == (0, shown)
    finally:
        serving.terminate()
        await serving.communicate()
