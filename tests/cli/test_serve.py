"""``serve``: what it serves, how it ends, how its certificate is renewed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import pty
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.cli.reloading import interrupts_held
from pywebtransport.exceptions import ConnectionError
from pywebtransport.server.running import ONE_WISH
from pywebtransport.session import WebTransportSession
from tests.support.certificate import make_certificate

from .program import PATIENCE, Program, port_in

SERVER = """
import asyncio
from pywebtransport import ServerApp

app = ServerApp()

@app.route("/echo")
async def echo(session):
    async for stream in session.incoming_bidirectional_streams():
        await stream.write_all(b"one: " + await stream.read_all())

@app.route("/stubborn")
async def stubborn(session):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("refused", flush=True)

async def asgi(scope, receive, send):
    if scope["type"] != "webtransport":
        raise ValueError(scope["type"])
    await receive()
    await send({"type": "webtransport.accept"})
    while (message := await receive())["type"] != "webtransport.disconnect":
        if message["type"] == "webtransport.datagram.receive":
            await send({"type": "webtransport.datagram.send", "data": b"asgi: " + message["data"]})

def make():
    return app
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server.py").write_text(SERVER)
    return tmp_path


@contextlib.asynccontextmanager
async def session_to(
    port: int, sha256: str, path: str = "/echo", engine: str = "native"
) -> AsyncIterator[WebTransportSession]:
    config = ClientConfig(engine=engine, server_certificate_hashes=[sha256])
    async with (
        asyncio.timeout(PATIENCE),
        WebTransportClient(config=config) as client,
        await client.connect(f"https://127.0.0.1:{port}{path}") as session,
    ):
        yield session


async def echo(session: WebTransportSession) -> bytes:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"hello")
    return await stream.read_all()


async def hash_in(program: Program) -> str:
    """Of what `--dev` prints: the same in both forms."""
    first = (await program.line_with("SHA-256")).split()[1]
    second = (await program.line_with(" (hex)")).split()[0]
    assert base64.b64decode(first).hex() == second
    return second


async def test_development(engine: str, folder: Path) -> None:
    arguments = ("serve", "server:app", "--dev", "--port", "0", "--engine", engine)
    async with Program(*arguments, folder=folder) as program:
        port = port_in(await program.line_with("listening on"))
        sha256 = await hash_in(program)
        line = await program.line_with("pywebtransport connect")
        assert line == f"pywebtransport connect https://localhost:{port}/echo --hash {sha256}"
        line = await program.line_with("new WebTransport(")
        assert f'"https://localhost:{port}/echo"' in line
        assert base64.b64encode(bytes.fromhex(sha256)).decode() in line
        async with session_to(port, sha256) as session:
            assert await echo(session) == b"one: hello"
        program.tell(signal.SIGTERM)
        assert await program.ended() == 0
        assert "Traceback" not in program.output

    kept = folder / "state/pywebtransport"
    assert stat.S_IMODE((kept / "localhost.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    async with Program(*arguments, folder=folder) as program:
        assert await hash_in(program) == sha256


def dev_certificate(folder: Path, valid_for: timedelta) -> str:
    """In the place where `--dev` keeps its own; the hash."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = make_certificate(folder)
    key = serialization.load_pem_private_key(Path(certificate.keyfile).read_bytes(), None)
    old = x509.load_pem_x509_certificate(Path(certificate.certfile).read_bytes())
    end = datetime.now(UTC) + valid_for
    new = (
        x509.CertificateBuilder(old.issuer, old.subject, key.public_key(), old.serial_number)
        .not_valid_before(end - timedelta(days=10))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
    )
    Path(certificate.certfile).write_bytes(new.public_bytes(serialization.Encoding.PEM))
    return new.fingerprint(hashes.SHA256()).hex()


async def test_a_development_certificate_is_renewed_while_it_serves(folder: Path) -> None:
    # It is replaced two days before its end.
    old = dev_certificate(folder / "state/pywebtransport", timedelta(days=2, seconds=8))
    arguments = ("serve", "server:app", "--dev", "--port", "0")
    async with Program(*arguments, folder=folder) as program:
        port = port_in(await program.line_with("listening on"))
        assert await hash_in(program) == old
        async with session_to(port, old) as session:
            await program.line_with("A new certificate takes the place")
            new = await hash_in(program)
            await program.line_with("new connections see the certificate")
            assert new != old
            async with session_to(port, new) as other:
                assert await echo(other) == b"one: hello"
            with pytest.raises(ConnectionError):
                async with session_to(port, old):
                    pass
            assert await echo(session) == b"one: hello"


@pytest.mark.parametrize("kept", ["expires", "damaged", "mismatched"])
async def test_a_development_certificate_that_is_no_good_is_replaced(
    folder: Path, kept: str
) -> None:
    place = folder / "state/pywebtransport"
    old = dev_certificate(place, timedelta(days=1 if kept == "expires" else 9))
    if kept == "damaged":
        (place / "localhost.crt").write_text("nothing")
    elif kept == "mismatched":
        write(place / "localhost.key", read(make_certificate(folder / "other").keyfile))
    async with Program("serve", "server:app", "--dev", "--port", "0", folder=folder) as program:
        port = port_in(await program.line_with("listening on"))
        new = await hash_in(program)
        assert new != old
        async with session_to(port, new) as session:
            assert await echo(session) == b"one: hello"


async def test_certificate_files_and_hang_up(folder: Path, engine: str) -> None:
    first = make_certificate(folder)
    environment = {
        "PYWEBTRANSPORT_CERTFILE": first.certfile,
        "PYWEBTRANSPORT_KEYFILE": first.keyfile,
        "PYWEBTRANSPORT_PORT": "0",
        "PYWEBTRANSPORT_HOST": "127.0.0.1",
        "PYWEBTRANSPORT_ENGINE": engine,
    }
    async with Program("serve", "server:app", folder=folder, **environment) as program:
        line = await program.line_with("listening on")
        assert "::1" not in line
        port = port_in(line)
        async with session_to(port, first.sha256) as session:
            program.tell(signal.SIGHUP)
            await program.line_with("new connections see the certificate")
            whole = read(first.certfile)
            write(first.certfile, "nothing")
            program.tell(signal.SIGHUP)
            line = await program.line_with("the certificate in use stays")
            assert line.endswith("it has no -----BEGIN CERTIFICATE-----, as PEM files have")
            write(first.certfile, whole)
            second = make_certificate(folder)
            await program.line_with("new connections see the certificate")
            async with session_to(port, second.sha256) as other:
                assert await echo(other) == b"one: hello"
            assert await echo(session) == b"one: hello"
        program.tell(signal.SIGINT)
        assert await program.ended() == 130
        assert "Traceback" not in program.output


async def test_an_asgi_application(folder: Path) -> None:
    arguments = ("serve", "server:asgi", "--dev", "--port", "0")
    async with Program(*arguments, folder=folder) as program:
        port = port_in(await program.line_with("listening on"))
        async with session_to(port, await hash_in(program), "/any") as session:
            datagrams = await session.create_datagram_transport()
            await datagrams.send(b"x")
            assert await datagrams.receive() == b"asgi: x"
        program.tell(signal.SIGTERM)
        assert await program.ended() == 0


async def test_a_second_signal_hurries(folder: Path) -> None:
    arguments = ("serve", "server:make", "--factory", "--dev", "--port", "0")
    patience = ("--graceful-timeout", "3600")
    async with Program(*arguments, *patience, folder=folder) as program:
        port = port_in(await program.line_with("listening on"))
        async with session_to(port, await hash_in(program), "/stubborn"):
            program.tell(signal.SIGTERM)
            await program.line_with("3600 s")
            await asyncio.sleep(2 * ONE_WISH)
            program.tell(signal.SIGTERM)
            await program.line_with("hurrying")
            began = time.monotonic()
            assert await program.ended() == 0
            assert time.monotonic() - began < 5


async def test_workers(folder: Path) -> None:
    arguments = ("serve", "server:app", "--dev", "--host", "127.0.0.1", "--port", "0")
    async with Program(*arguments, "--workers", "2", folder=folder) as program:
        sha256 = await hash_in(program)
        line = await program.line_with("new WebTransport(")
        port = int(re.findall(r"127.0.0.1:(\d+)", line)[0])
        async with session_to(port, sha256) as session:
            assert await echo(session) == b"one: hello"
        assert re.search(r"worker [12] \(pid \d+\) pywebtransport.server: session", program.output)
        assert program.output.count("new WebTransport(") == 1
        program.tell(signal.SIGINT)
        assert await program.ended() == 130
        assert "Traceback" not in program.output


async def test_a_program_that_runs_its_application(folder: Path) -> None:
    """As the README's does: the command serves it, not the program."""
    (folder / "server.py").write_text(SERVER + "\napp.run(host='127.0.0.1', port=4433)\n")
    async with Program("serve", "server", "--dev", "--port", "0", folder=folder) as program:
        port = port_in(await program.line_with("listening on"))
        async with session_to(port, await hash_in(program)) as session:
            assert await echo(session) == b"one: hello"
        program.tell(signal.SIGTERM)
        assert await program.ended() == 0
        assert program.output.count("listening on") == 1


async def test_an_application_that_configures_logging(folder: Path) -> None:
    configured = "import logging\nlogging.basicConfig(format='ours: %(message)s', level='INFO')\n"
    (folder / "server.py").write_text(configured + SERVER)
    arguments = ("serve", "server:app", "--dev", "--port", "0")
    async with Program(*arguments, folder=folder) as program:
        assert (await program.line_with("listening on")).startswith("ours: ")
        program.tell(signal.SIGTERM)
        assert await program.ended() == 0
        assert program.output.count("listening on") == 1
    async with Program(*arguments, "--log-level", "error", folder=folder) as program:
        await hash_in(program)
        program.tell(signal.SIGTERM)
        assert await program.ended() == 0
        assert "ours: " not in program.output


def start_in_terminal(folder: Path, *more: str) -> tuple[int, int]:
    """A server that a terminal of its own controls: its process, and the terminal's other end."""
    pid, terminal = pty.fork()
    if pid:
        return pid, terminal
    try:
        os.chdir(folder)
        os.environ |= {"XDG_STATE_HOME": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = ["-m", "pywebtransport", "serve", "server:app", "--dev", "--port", "0"]
        output = os.open("output", os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv(sys.executable, [sys.executable, *command, *more])
    finally:
        os._exit(99)


@pytest.mark.parametrize("more", [(), ("--reload",), ("--workers", "2")], ids="".join)
async def test_it_ends_with_its_terminal(folder: Path, more: tuple[str, ...]) -> None:
    pid, terminal = start_in_terminal(folder, *more)
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(wait_for_text, folder / "output", "SIGTERM ends")
            os.close(terminal)
            _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert os.waitstatus_to_exitcode(status) == 0
    assert "SIGHUP: shutting down" in read(folder / "output")


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while text not in read(path) and time.monotonic() < deadline:
        time.sleep(0.05)


def read(path: Path | str) -> str:
    return Path(path).read_text() if os.path.exists(path) else ""


def write(path: Path | str, text: str) -> None:
    Path(path).write_text(text)


def change(path: Path, text: str) -> None:
    """At once: half a file would be a change of its own."""
    (whole := path.with_suffix(".new")).write_text(text)
    whole.replace(path)


async def test_reload(folder: Path) -> None:
    arguments = ("serve", "server:app", "--dev", "--reload", "--port", "0")
    async with Program(*arguments, folder=folder) as program:
        line = await program.line_with("Watching")
        assert str(folder) in line
        port = port_in(await program.line_with("listening on"))
        sha256 = await hash_in(program)
        async with session_to(port, sha256) as session:
            assert await echo(session) == b"one: hello"
            change(folder / "server.py", SERVER.replace("one:", "two:"))
            assert await program.line_with("Reloading") == "Reloading: server.py changed"
            await asyncio.wait_for(session.wait_closed(), PATIENCE)
        port = port_in(await program.line_with("listening on"))
        async with session_to(port, sha256) as session:
            assert await echo(session) == b"two: hello"

        change(folder / "server.py", "import nothing_like_this\n")
        await program.line_with("Reloading")
        assert "nothing_like_this" in await program.line_with("Error:")
        await program.line_with("exit code 1; waiting for a change")

        for name, text in (("server.py", SERVER), ("helper.py", "")):
            change(folder / name, text)
            await program.line_with("Reloading")
            await program.line_with("listening on")
        program.tell(signal.SIGINT)
        assert await program.ended() == 130
        assert re.findall("new WebTransport", program.output) == ["new WebTransport"]


def test_an_interrupt_while_a_server_starts_is_not_lost() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        with interrupts_held():
            # To this thread: one that another test left would take what is sent to the process.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            assert seen == []
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


async def test_an_interrupt_during_a_reload_ends_it(folder: Path) -> None:
    arguments = ("serve", "server:app", "--dev", "--reload", "--port", "0")
    async with Program(*arguments, folder=folder) as program:
        await program.line_with("listening on")
        change(folder / "server.py", SERVER.replace("one:", "two:"))
        await program.line_with("Reloading")
        program.tell(signal.SIGINT)
        assert await program.ended() == 130
        assert "Traceback" not in program.output


async def test_figures_and_log_for_programs(folder: Path) -> None:
    port = free_tcp_port()
    arguments = ("serve", "server:app", "--dev", "--port", "0", "--log-json")
    async with Program(*arguments, folder=folder, PYWEBTRANSPORT_METRICS_PORT=str(port)) as program:
        line = json.loads(await program.line_with('"listening on'))
        sha256 = await hash_in(program)
        assert (line["level"], line["logger"]) == ("info", "pywebtransport.server")
        async with session_to(port_in(line["message"]), sha256):
            opened = json.loads(await program.line_with('"session open"'))
            assert opened["path"] == "/echo"
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            figures = (await reader.read()).decode()
            writer.close()
            assert "webtransport_sessions_open 1.0\n" in figures
        program.process.send_signal(signal.SIGTERM)
        assert await program.process.wait() == 0


def free_tcp_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
