"""``connect``: what goes in and what comes out, byte for byte, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pty
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate, make_certificate

PATIENCE = 30.0
BYTES = bytes(range(256)) * 8192
"""2 MiB with every byte."""


class Server:
    """What clients of the command meet, and what it saw of them."""

    def __init__(self, certificate: Certificate) -> None:
        self.certificate = certificate
        self.url = ""
        self.headers: dict[str, str] = {}
        self.ends: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()
        self.seen: asyncio.Queue[bytes] = asyncio.Queue()
        self.app = ServerApp(
            config=ServerConfig(
                certfile=certificate.certfile,
                keyfile=certificate.keyfile,
                bind_host="127.0.0.1",
                bind_port=0,
                graceful_timeout=0,
                wt_available_protocols=["chat.v1"],
            )
        )
        for name in ("echo", "upload", "download", "uni", "datagrams", "push", "reset", "bye"):
            self.app.route(f"/{name}")(getattr(self, name))

    @property
    def trust(self) -> list[str]:
        return ["--hash", self.certificate.sha256]

    async def echo(self, session: WebTransportSession) -> None:
        self.headers = session.headers
        async for stream in session.incoming_bidirectional_streams():
            async for data in stream:
                self.seen.put_nowait(data)
                await stream.write(data)
            await stream.close()
        self.ends.put_nowait((session.close_code, session.closed_by))

    async def upload(self, session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        digest = hashlib.sha256(await stream.read_all()).hexdigest()
        await stream.write_all(digest.encode())
        await session.wait_closed()

    async def download(self, session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        await stream.write_all(BYTES)
        await session.wait_closed()

    async def uni(self, session: WebTransportSession) -> None:
        incoming = await session.accept_unidirectional_stream()
        data = await incoming.read_all()
        for part in (data.upper(), b"!"):
            outgoing = await session.create_unidirectional_stream()
            await outgoing.write_all(part)
        await session.wait_closed()

    async def datagrams(self, session: WebTransportSession) -> None:
        async for datagram in await session.create_datagram_transport():
            await session.send_datagram(datagram[::-1])

    async def push(self, session: WebTransportSession) -> None:
        for text in (b"one\n", b"two\n"):
            stream = await session.create_unidirectional_stream()
            await stream.write_all(text)
        await session.send_datagram(b"beside\x1b[31m")
        await asyncio.sleep(0.3)  # datagrams and streams do not wait for each other
        await session.close(reason="all told")

    async def reset(self, session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        await stream.write(b"half")
        assert await stream.read() == b"x"
        await stream.abort(code=5)
        await session.wait_closed()

    async def bye(self, session: WebTransportSession) -> None:
        stream = await session.accept_bidirectional_stream()
        await stream.write(b"last words")
        await session.close(code=7, reason="we close\nnow")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    server = Server(make_certificate(tmp_path_factory.mktemp("certificate")))
    async with server.app:
        await server.app.server.listen()
        address = server.app.server.local_address
        assert address is not None
        server.url = f"https://127.0.0.1:{address[1]}"
        yield server


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def start(
    *arguments: str, stdin: int = asyncio.subprocess.PIPE
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pywebtransport", "connect", *arguments),
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(*arguments: str, data: bytes = b"") -> tuple[int | None, bytes, str]:
    process = await start(*arguments)
    async with asyncio.timeout(PATIENCE):
        output, errors = await process.communicate(data)
    return process.returncode, output, errors.decode()


async def test_a_pipe_is_byte_for_byte(server: Server, engine: str) -> None:
    arguments = (f"{server.url}/echo", *server.trust, "--engine", engine)
    assert await run(*arguments, data=BYTES) == (0, BYTES, "")


async def test_every_kind_of_trust_and_what_is_sent_along(server: Server) -> None:
    import base64

    digest = base64.b64encode(bytes.fromhex(server.certificate.sha256)).decode()
    extra = ["-H", "Authorization: Bearer a:b", "--origin", server.url, "--protocol", "chat.v1"]
    for trust in (["--hash", digest], ["--ca", server.certificate.certfile], ["--insecure"]):
        assert await run(f"{server.url}/echo", *trust, *extra, data=b"x") == (0, b"x", "")
        assert server.headers["authorization"] == "Bearer a:b"
        assert server.headers["origin"] == server.url
        assert "chat.v1" in server.headers["wt-available-protocols"]


async def test_the_certificate_of_serve_dev(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    code, _, errors = await run(f"{server.url}/echo", "--dev")
    assert code == 1
    assert "`pywebtransport serve --dev` makes it" in errors
    (tmp_path / "pywebtransport").mkdir()
    shutil.copy(server.certificate.certfile, tmp_path / "pywebtransport/localhost.crt")
    assert await run(f"{server.url}/echo", "--dev", data=b"x") == (0, b"x", "")


async def test_files_up_and_down(server: Server, tmp_path: Path) -> None:
    up, down = tmp_path / "up.bin", tmp_path / "down.bin"
    up.write_bytes(BYTES)
    code, output, errors = await run(f"{server.url}/upload", *server.trust, "--send", str(up))
    assert (code, errors) == (0, "")
    assert output.decode() == hashlib.sha256(BYTES).hexdigest()
    result = await run(f"{server.url}/download", *server.trust, "--receive", str(down))
    assert result == (0, b"", "")
    assert down.read_bytes() == BYTES
    assert sorted(os.listdir(tmp_path)) == ["down.bin", "up.bin"]


async def test_what_is_not_whole_does_not_have_the_name_of_the_whole(
    server: Server, tmp_path: Path
) -> None:
    down = tmp_path / "down.bin"
    process = await start(f"{server.url}/reset", *server.trust, "--receive", str(down))
    async with asyncio.timeout(PATIENCE):
        _, errors = await process.communicate(b"x")
    assert process.returncode == 1
    assert not down.exists()
    assert f"what came is in {down}.part" in errors.decode()


async def test_a_stream_without_a_way_back(server: Server) -> None:
    code, output, errors = await run(
        f"{server.url}/uni", *server.trust, "--uni", "--wait", "0.5", data=b"hello"
    )
    assert (code, output, errors) == (0, b"HELLO!", "")


async def test_datagrams(server: Server, engine: str) -> None:
    code, output, errors = await run(
        *(f"{server.url}/datagrams", *server.trust, "--datagram", "--wait", "0.5"),
        *("--engine", engine),
        data=b"abc\r\n\xff\x00\nxyz",
    )
    assert (code, errors) == (0, "")
    assert sorted(output.splitlines()) == sorted([b"cba", b"\x00\xff", b"zyx"])


async def test_a_datagram_that_is_too_large_is_told(server: Server) -> None:
    code, _, errors = await run(
        f"{server.url}/datagrams", *server.trust, "--datagram", "--wait", "0", data=bytes(3000)
    )
    assert code == 1
    assert "Datagram size 3000 exceeds maximum" in errors


async def test_listening(server: Server) -> None:
    code, output, errors = await run(f"{server.url}/push", *server.trust, "--listen")
    assert (code, output) == (0, b"one\ntwo\n")
    # What could steer a terminal is spelled out.
    assert '< datagram: "beside\\x1b[31m"' in errors
    assert 'the server closed the session: code 0, "all told"' in errors


async def test_what_comes_beside_the_stream_is_shown_on_stderr(server: Server) -> None:
    code, output, errors = await run(f"{server.url}/push", *server.trust, data=b"x")
    assert (code, output) == (0, b"")
    assert '"one\\n"' in errors and '"two\\n"' in errors and "ended" in errors


async def test_the_server_s_end_its_code_and_reason(server: Server) -> None:
    code, output, errors = await run(f"{server.url}/bye", *server.trust, data=b"x")
    assert (code, output) == (1, b"last words")
    assert errors == 'the server closed the session: code 7, "we close\\nnow"\n'


async def test_a_reset_stream(server: Server) -> None:
    code, _, errors = await run(f"{server.url}/reset", *server.trust, data=b"x")
    assert code == 1
    assert "reset" in errors and "5" in errors


async def test_no_connection(server: Server) -> None:
    code, output, errors = await run(f"{server.url}/nothing", *server.trust)
    assert (code, output) == (1, b"")
    assert "HTTP status 404" in errors
    assert f"`pywebtransport doctor {server.url}/nothing`" in errors
    code, _, errors = await run(f"{server.url}/echo")
    assert code == 1
    assert "self-signed" in errors and "--insecure" in errors


async def test_a_reader_that_goes_away(server: Server) -> None:
    process = await start(f"{server.url}/download", *server.trust)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    await process.stdout.readexactly(5)
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    async with asyncio.timeout(PATIENCE):
        assert await process.wait() == 1


@pytest.mark.parametrize(
    ("kind", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
async def test_a_signal_closes_the_session(
    server: Server, kind: signal.Signals, expected: int
) -> None:
    while not server.ends.empty():
        server.ends.get_nowait()
    process = await start(f"{server.url}/echo", *server.trust)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"here")
    async with asyncio.timeout(PATIENCE):
        assert await process.stdout.readexactly(4) == b"here"
        process.send_signal(kind)
        assert await process.wait() == expected
        assert await server.ends.get() == (0, "remote")
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


async def test_a_terminal_line_by_line_and_control_d(server: Server) -> None:
    ours, theirs = pty.openpty()
    try:
        process = await start(f"{server.url}/echo", *server.trust, stdin=theirs)
        assert process.stdout is not None and process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            assert b"Ctrl-D ends the stream" in await process.stderr.readline()
            for line in (b"one\n", b"two\n"):
                os.write(ours, line)
                assert await process.stdout.readline() == line
            os.write(ours, b"\x04")
            assert await process.wait() == 0
    finally:
        os.close(ours)
        os.close(theirs)


async def test_progress_is_for_terminals(server: Server, tmp_path: Path) -> None:
    """On a pseudo-terminal there is a bar; in the tests above, in pipes, nothing."""
    up = tmp_path / "up.bin"
    up.write_bytes(BYTES)
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pywebtransport", "connect", f"{server.url}/upload"),
            *(*server.trust, "--send", str(up)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=theirs,
        )
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
        assert len(output) == 64
        shown = os.read(ours, 1 << 16).decode()
        assert "up.bin  [" in shown and "of 2.1 MB" in shown
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "Missing argument"),
        (["https://x/", "--uni", "--datagram"], "exclude each other"),
        (["https://x/", "--send", __file__, "--listen"], "--send needs a stream"),
    ],
)
async def test_asked_wrongly(wrong: list[str], words: str) -> None:
    code, _, errors = await run(*wrong)
    assert code == 2
    assert words in errors
