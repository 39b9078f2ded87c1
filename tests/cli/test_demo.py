"""`pywebtransport demo` as a process, and its page server request by request."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from pywebtransport import ClientConfig, WebTransportClient, _development, exceptions
from pywebtransport._development import RENEW_BEFORE, DevelopmentCertificate
from pywebtransport.cli import main
from pywebtransport.demo import Demo
from pywebtransport.demo.pages import MAX_HEAD_SIZE, MAX_REQUESTS
from pywebtransport.demo.server import MAX_VISITORS
from tests.regress.place import until
from tests.support.laboratory import free_port


async def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Status and everything that came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.transport.abort()
    return int(answer.split(b" ", 2)[1]), answer


def get(path: str, port: int, *, method: str = "GET", host: str = "localhost") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


async def test_the_command_announces_serves_and_ends() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pywebtransport", "demo", "--port", str(port)),
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line == f"Open http://localhost:{port}/ in Chrome, Edge or Firefox.\n"
        status, page = await ask(port, get("/", port))
        assert status == 200
        assert b"<title>pywebtransport" in page
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0


def test_a_taken_port_is_one_line() -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as taken:
            taken.bind(("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                taken.listen()
            port = str(taken.getsockname()[1])
            result = CliRunner().invoke(main, ["demo", "--host", "127.0.0.1", "--port", port])
        assert result.exit_code == 1
        assert f"127.0.0.1:{port}" in result.output
        assert "in use" in result.output
        assert len(result.output.splitlines()) == 1


async def test_what_the_page_server_refuses() -> None:
    async with Demo(host="127.0.0.1", port=free_port()) as demo:
        port = demo.port
        assert (await ask(port, get("/style.css?v=1", port)))[0] == 200
        status, answer = await ask(port, get("/", port, method="HEAD"))
        assert status == 200
        assert answer.endswith(b"\r\n\r\n")
        assert b"Content-Security-Policy: default-src 'none'" in answer
        for host in ("127.0.0.1", "[::1]"):
            assert (await ask(port, get("/", port, host=host)))[0] == 200
        assert (await ask(port, get("/", port, host="rebound.example")))[0] == 421
        assert (await ask(port, b"GET / HTTP/1.1\r\n\r\n"))[0] == 421
        assert (await ask(port, get("/../server.py", port)))[0] == 404
        assert (await ask(port, get("/", port, method="POST")))[0] == 405
        assert (await ask(port, b"hello\r\n\r\n"))[0] == 400
        head = get("/", port)[:-2] + b"X: "
        fits = head + b"x" * (MAX_HEAD_SIZE - len(head) - 4) + b"\r\n\r\n"
        assert (await ask(port, fits))[0] == 200
        assert (await ask(port, head + b"x" * MAX_HEAD_SIZE + b"\r\n\r\n"))[0] == 431


async def test_connections_at_once_have_a_limit() -> None:
    async with Demo(host="127.0.0.1", port=free_port()) as demo:
        waiting = [
            await asyncio.open_connection("127.0.0.1", demo.port) for _ in range(MAX_REQUESTS)
        ]
        with pytest.raises((ConnectionError, IndexError)):  # no answer
            await ask(demo.port, get("/", demo.port))
        for reader, writer in waiting:
            writer.write(get("/", demo.port))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            writer.close()
            await writer.wait_closed()
        assert (await ask(demo.port, get("/", demo.port)))[0] == 200


async def test_visitors_at_once_have_a_limit(engine: str) -> None:
    async with Demo(host="127.0.0.1", port=free_port(), engine=engine) as demo:
        config = ClientConfig(ca_certs=demo.app.server.config.certfile, engine=engine)
        url = f"https://127.0.0.1:{demo.port}/demo"
        async with WebTransportClient(config=config) as client:
            visitors = [await client.connect(url) for _ in range(MAX_VISITORS)]
            with pytest.raises(exceptions.ClientError, match="HTTP status 429"):
                await client.connect(url)
            await visitors[0].close()
            await until(lambda: len(demo.app.server.session_manager) < MAX_VISITORS)
            assert (await client.connect(url)).is_ready


async def test_who_does_not_finish_a_request_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pywebtransport.demo.pages.REQUEST_TIMEOUT", 0.2)
    async with Demo(host="127.0.0.1", port=free_port()) as demo:
        reader, writer = await asyncio.open_connection("127.0.0.1", demo.port)
        try:
            writer.write(get("/", demo.port)[:-2])
            async with asyncio.timeout(5):
                with suppress(ConnectionError):
                    assert await reader.read() == b""
        finally:
            writer.transport.abort()
        assert (await ask(demo.port, get("/", demo.port)))[0] == 200


async def test_the_certificate_is_renewed_and_visitors_stay(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is at its end when it is made; the page asks for the hash of the next."""
    days = iter([RENEW_BEFORE.days])
    made = _development.generate_self_signed_cert
    monkeypatch.setattr(
        _development,
        "generate_self_signed_cert",
        lambda **options: made(days_valid=next(days, 14), **options),
    )
    visited = asyncio.Event()
    renewals = DevelopmentCertificate.renewals

    async def after_a_visit(
        certificate: DevelopmentCertificate,
    ) -> AsyncIterator[DevelopmentCertificate]:
        await visited.wait()
        async for renewed in renewals(certificate):
            yield renewed

    monkeypatch.setattr(DevelopmentCertificate, "renewals", after_a_visit)
    async with Demo(host="127.0.0.1", port=free_port(), engine=engine) as demo:
        url = f"https://127.0.0.1:{demo.port}/demo"

        async def shown() -> str:
            _, answer = await ask(demo.port, get("/settings.json", demo.port))
            return str(json.loads(answer.partition(b"\r\n\r\n")[2])["certificateHash"])

        def client(digest: str) -> WebTransportClient:
            config = ClientConfig(server_certificate_hashes=[digest], engine=engine)
            return WebTransportClient(config=config)

        old = await shown()
        async with client(old) as first:
            session = await first.connect(url)
            visited.set()
            async with asyncio.timeout(10):
                while (new := await shown()) == old:
                    pass
            async with client(new) as second:
                assert (await second.connect(url)).is_ready
            with pytest.raises(exceptions.ConnectionError):
                await first.connect(url)
            up = await session.create_bidirectional_stream()
            await up.write(b"up\n!")
            assert await up.readline() == b"1\n"


async def test_streams_do_what_their_first_line_says(engine: str) -> None:
    async with Demo(host="127.0.0.1", port=free_port(), engine=engine) as demo:
        config = ClientConfig(ca_certs=demo.app.server.config.certfile, engine=engine)
        async with WebTransportClient(config=config) as client:
            session = await client.connect(f"https://127.0.0.1:{demo.port}/demo")
            up = await session.create_bidirectional_stream()
            await up.write(b"up\n" + bytes(1000))
            assert await up.readline() == b"1000\n"

            down = await session.create_bidirectional_stream()
            await down.write(b"down 0\n")
            assert len(await down.readexactly(1 << 20)) == 1 << 20
            await down.abort()

            slow = await session.create_bidirectional_stream()
            await slow.write(b"down 100000\n")
            began = asyncio.get_running_loop().time()
            await slow.readexactly(50_000)
            assert asyncio.get_running_loop().time() - began > 0.3
            await slow.abort()

            wrong = await session.create_bidirectional_stream()
            await wrong.write(b"what?\n")
            with pytest.raises(Exception, match="reset"):
                await wrong.read_all()

            datagrams = await session.create_datagram_transport()
            await datagrams.send(b"\x64dropped for sure")
            await datagrams.send(b"\x00back")
            assert await datagrams.receive(timeout=10) == b"\x00back"


def test_no_file_of_the_page_names_another_place() -> None:
    static = Path(sys.modules[Demo.__module__].__file__ or "").parent / "static"
    for file in static.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text.replace("http://localhost", ""), file
        assert "https://" not in text.replace("https://${location.host}", ""), file
