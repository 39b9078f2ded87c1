"""What `serve` refuses, in one line and with an exit code."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pywebtransport.cli import main
from tests.support.certificate import make_certificate

MODULE = """
from pywebtransport import ServerApp, WebTransportServer

app = ServerApp()
bare = WebTransportServer()
number = 5
class Endpoint:
    def __init__(self, scope): pass
    async def __call__(self, receive, send): pass
def make(): return app
def takes_one(scope): pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "refused.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    library = logging.getLogger("pywebtransport")
    handlers, level = list(library.handlers), library.level
    yield tmp_path
    library.handlers[:] = handlers
    library.setLevel(level)
    sys.modules.pop("refused", None)


def serve(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


WRONG = {
    "refused:number": "refused:number is neither a ServerApp nor an ASGI application, a callable "
    "with (scope, receive, send): it is an int",
    "refused:bare": "refused:bare is a WebTransportServer, which has no handlers: "
    "make a ServerApp of it",
    "refused:make": "refused:make is a function without arguments: if it makes the application, "
    "add --factory",
    "refused:takes_one": "refused:takes_one is neither a ServerApp nor an ASGI application, "
    "a callable with (scope, receive, send): it is the function takes_one(scope)",
    "refused:Endpoint": "refused:Endpoint is neither a ServerApp nor an ASGI application, "
    "a callable with (scope, receive, send): it is the class Endpoint; name an object of it",
    "refused:appp": "module 'refused' has no attribute 'appp'; did you mean app?",
    "refusd:app": "no module 'refusd' in {}; did you mean refused?",
    "refused:app": "no certificate: name one with --certfile and --keyfile, or try --dev",
}


@pytest.mark.parametrize("target", WRONG)
def test_what_is_no_application(target: str, folder: Path) -> None:
    result = serve(target)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {WRONG[target].format(folder)}\n"


def test_a_factory_that_is_none() -> None:
    result = serve("refused:app", "--factory")
    assert result.exit_code == 1
    assert result.stderr == "Error: refused:app is no function, so not a factory: a ServerApp\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Missing argument 'APP'"),
        (("refused:app", "--certfile", "x.pem"), "--certfile and --keyfile go together"),
        (
            ("refused:app", "--dev", "--certfile", "x", "--keyfile", "y"),
            "--dev makes a certificate of its own: leave out --certfile",
        ),
        (("refused:app", "--port", "70000"), "70000 is not in the range"),
        (("refused:app", "--engine", "steam"), "'steam' is not one of"),
        (("refused:app", "--graceful-timeout", "-1"), "-1.0 is not in the range"),
        (("refused:app", "--relaod"), "--reload"),
    ],
)
def test_asked_wrongly(arguments: tuple[str, ...], text: str) -> None:
    result = serve(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.fixture
def files(folder: Path) -> Path:
    make_certificate(folder)
    make_certificate(folder / "other")
    (folder / "text").write_text("hello\n")
    return folder


@pytest.mark.parametrize(
    ("certfile", "keyfile", "text"),
    [
        ("gone.crt", "localhost.key", "Certificate file not found: gone.crt"),
        ("text", "localhost.key", "text holds no usable certificate: it has no -----BEGIN"),
        ("localhost.crt", "other/localhost.key", "other/localhost.key is not the key of localhost"),
        ("localhost.crt", "secret.key", "secret.key cannot be read: Permission denied"),
    ],
)
def test_certificates_that_cannot_be_used(
    engine: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    certfile: str,
    keyfile: str,
    text: str,
) -> None:
    (files / "secret.key").write_text("")
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:
        # The tests may run as a user who may read everything.
        if path.name == "secret.key":
            raise PermissionError(13, os.strerror(13), str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = serve("refused:app", "--certfile", certfile, "--keyfile", keyfile, "--engine", engine)
    assert result.exit_code == 1
    assert text in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_a_port_in_use(engine: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        arguments = ("--host", "127.0.0.1", "--port", str(port), "--engine", engine)
        result = serve("refused:app", "--dev", *arguments)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"Error: cannot listen on 127.0.0.1:{port}: Address already in use"
    )
    assert "Traceback" not in result.output


def test_a_place_for_the_certificate_that_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "state").write_text("a file")
    result = serve("refused:app", "--dev")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: no development certificate: {folder}/state/pywebtransport: Not a directory; "
        "XDG_STATE_HOME names another place\n"
    )
