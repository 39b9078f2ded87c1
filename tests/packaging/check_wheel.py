"""Install a wheel into a fresh environment of this interpreter and run the tutorial there.

    python3.12 tests/packaging/check_wheel.py dist/pywebtransport_native-*.whl

Needs nothing but the standard library and a package index; nothing of the repository is imported.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import venv
from pathlib import Path

TUTORIAL = Path(__file__).resolve().parents[2] / "docs/tutorial/echo.md"
PATIENCE = 60.0
NEVER_IMPORTED = [
    *("aioquic", "cryptography", "OpenSSL", "pylsqpack", "click", "google.protobuf", "msgpack"),
    *("nats", "redis", "prometheus_client", "opentelemetry", "fastapi", "starlette", "uvicorn"),
]
"""What a server pays for only when it is used."""
IS_WINDOWS = sys.platform == "win32"


def programs() -> dict[str, str]:
    """The files of the tutorial, by name, on a port of their own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    blocks = re.findall(
        r"^```python (\w+\.py)\n(.*?)^```$", TUTORIAL.read_text("utf-8"), re.S | re.M
    )
    return {name: code.replace("4433", port) for name, code in blocks}


def run(python: Path | str, *arguments: str, directory: Path, **environment: str) -> str:
    done = subprocess.run(
        [python, *arguments],
        cwd=directory,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def check_tutorial(
    python: Path | str,
    directory: Path,
    engine: str,
    *,
    is_windows: bool = IS_WINDOWS,
    **environment: str,
) -> None:
    """The tutorial's server and client, as files in ``directory``."""
    environment["PYWEBTRANSPORT_ENGINE"] = engine
    for name, code in programs().items():
        (directory / name).write_text(code, "utf-8")
    run(python, "certificate.py", directory=directory, **environment)
    server = subprocess.Popen(
        [python, "-u", "server.py"],
        cwd=directory,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    guard = threading.Timer(PATIENCE, server.kill)
    guard.start()
    log = ""
    try:
        while " serving " not in log:
            line = server.stderr.readline()
            assert line, f"the server ended:\n{log}"
            log += line
        if is_windows:
            # asyncio.run() takes a loop there that only this engine can use.
            environment["PYWEBTRANSPORT_ENGINE"] = "aioquic"
        answer = run(python, "client.py", directory=directory, **environment)
        assert answer == "b'hello'", answer
    finally:
        guard.cancel()
        server.terminate()
        server.communicate(timeout=PATIENCE)


def modules_of(python: Path | str, directory: Path, **environment: str) -> list[str]:
    """Which of `NEVER_IMPORTED` come with the package and its server."""
    code = (
        "import sys, pywebtransport, pywebtransport.server, pywebtransport.client\n"
        f"print(*[name for name in {NEVER_IMPORTED} if name in sys.modules])"
    )
    return run(python, "-c", code, directory=directory, **environment).split()


def check(wheel: Path) -> None:
    assert "-linux_" not in wheel.name, "it fits only machines like this one"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        directory = Path(scratch)
        venv.create(directory / "environment", with_pip=True)
        folder = directory / "environment" / ("Scripts" if IS_WINDOWS else "bin")
        python = folder / ("python.exe" if IS_WINDOWS else "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, wheel], check=True, cwd=directory)
        place = run(
            python, "-c", "import pywebtransport as p; print(p.__file__)", directory=directory
        )
        assert Path(place).resolve().is_relative_to(directory.resolve()), place
        version = run(folder / "pywebtransport", "--version", directory=directory)
        assert wheel.name.split("-")[1] in version, version
        assert not (found := modules_of(python, directory)), found
        for engine in ("native", "aioquic"):
            check_tutorial(python, directory, engine)
        print(f"{sys.version.split()[0]}: {version}; the tutorial runs on both engines")


if __name__ == "__main__":
    (name,) = sys.argv[1:]
    check(Path(name).resolve())
