"""What the container file starts and how it is asked for its health, run without a container."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

from pywebtransport.utils import generate_self_signed_cert
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Containerfile").read_text()
APPLICATION = """
from pywebtransport import ServerApp

app = ServerApp()


@app.route("/health")
async def health(session):
    await session.wait_closed()
"""


def instructions() -> dict[str, list[str]]:
    """Of the last stage, by name."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE))
    found: dict[str, list[str]] = {}
    for line in joined.rpartition("\nFROM ")[2].splitlines()[1:]:
        if line:
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest)
    return found


def environment() -> dict[str, str]:
    (pairs,) = instructions()["ENV"]
    return dict(each.split("=", 1) for each in shlex.split(pairs))


def test_it_is_nobodys_root_and_its_port_is_for_udp() -> None:
    assert instructions()["USER"] == ["1000"]
    assert instructions()["EXPOSE"] == [f"{environment()['PYWEBTRANSPORT_PORT']}/udp"]
    assert instructions()["STOPSIGNAL"] == ["SIGTERM"]
    # A list: the server itself gets the signals.
    assert all(
        each.startswith("[") for name in ("ENTRYPOINT", "CMD") for each in instructions()[name]
    )


def test_it_serves_and_is_healthy_where_the_application_answers(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(APPLICATION)
    # For a name that the container itself does not have.
    certfile, keyfile = generate_self_signed_cert(hostname="example.org", output_dir=str(tmp_path))
    command = tmp_path / "bin/pywebtransport"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pywebtransport "$@"\n')
    command.chmod(0o755)
    ours = environment()
    ours |= {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYWEBTRANSPORT_HOST": "127.0.0.1",
        "PYWEBTRANSPORT_PORT": str(free_port()),
        "PYWEBTRANSPORT_CERTFILE": certfile,
        "PYWEBTRANSPORT_KEYFILE": keyfile,
        "PYWEBTRANSPORT_GRACEFUL_TIMEOUT": "0",
    }
    (check,) = instructions()["HEALTHCHECK"]
    check = check.partition(" CMD ")[2]

    def is_healthy(path: str) -> bool:
        asked = ours | {"HEALTH_PATH": path}
        done = subprocess.run(["sh", "-c", check], env=asked, capture_output=True, timeout=30)
        print(done.stdout.decode(), done.stderr.decode())
        return done.returncode == 0

    (entry,), (arguments,) = instructions()["ENTRYPOINT"], instructions()["CMD"]
    started = shlex.split(re.sub(r"[\[\],]", " ", f"{entry} {arguments}"))
    server = subprocess.Popen(
        started, cwd=tmp_path, env=os.environ | ours, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    guard = threading.Timer(50, server.kill)
    guard.start()
    try:
        while " serving " not in (line := server.stderr.readline()):
            assert line, "the server ended"
        assert is_healthy("/health")
        assert not is_healthy("/nowhere")
    finally:
        guard.cancel()
        server.terminate()
        server.communicate(timeout=30)
    assert not is_healthy("/health")
