"""How a server ends: by a signal, by close(), with handlers that do not want to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportServer
from pywebtransport.exceptions import ServerError
from pywebtransport.server.running import ONE_WISH
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

from .place import Place

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from pywebtransport import ServerApp, ServerConfig

engine, certfile, keyfile = sys.argv[1:4]
options = eval(sys.argv[4])
app = ServerApp(config=ServerConfig(engine=engine, certfile=certfile, keyfile=keyfile,
                                    bind_host="127.0.0.1", bind_port=0, **options))

@app.on_startup
def started():
    asyncio.get_running_loop().call_later(0, wait_for_port)

def wait_for_port():
    if app.server.local_address is None:
        asyncio.get_running_loop().call_later(0.01, wait_for_port)
    else:
        print("port", app.server.local_address[1], flush=True)

@app.on_shutdown
async def going():
    print("sessions at shutdown", len(app.server.session_manager), flush=True)

@app.route(path="/forever")
async def forever(session):
    await session.wait_closed()

@app.route(path="/stubborn")
async def stubborn(session):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("refused", flush=True)

@app.route(path="/work")
async def work(session):
    stream = await session.accept_bidirectional_stream()
    text = await stream.read_all()
    print("working", flush=True)
    await asyncio.sleep(0.5)
    await stream.write_all(data=b"done: " + text)

app.run()
print("returned", flush=True)
"""


class Program:
    """A server process that `app.run()` serves in."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            return (await self.process.stdout.readline()).decode().strip()

    async def rest(self) -> tuple[int, str, str]:
        """How it ended: exit status, what it printed, what it logged."""
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def program(
    engine: str, certificate: Certificate, *, background: bool = False, **options: Any
) -> AsyncIterator[Program]:
    command = [sys.executable, "-c", PROGRAM, engine, certificate.certfile, certificate.keyfile]
    process = await asyncio.create_subprocess_exec(
        *command,
        repr(options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # What a shell without job control does for `python server.py &`.
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if background else None,
    )
    running = Program(process)
    try:
        word, port = (await running.line()).split()
        assert word == "port"
        running.port = int(port)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def client_of(engine: str, certificate: Certificate) -> AsyncIterator[WebTransportClient]:
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with WebTransportClient(config=config) as client:
        yield client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("background", [False, True])
async def test_signal_ends_in_good_order(
    engine: str, certificate: Certificate, number: signal.Signals, background: bool
) -> None:
    async with (
        program(engine, certificate, background=background) as server,
        client_of(engine, certificate) as client,
    ):
        url = f"https://127.0.0.1:{server.port}/forever"
        sessions = [await client.connect(url=url) for _ in range(5)]
        drained = asyncio.Event()
        sessions[0].on(event_type=EventType.SESSION_DRAINING, handler=lambda _: drained.set())
        sent = time.monotonic()
        server.process.send_signal(number)
        async with asyncio.timeout(10):
            await drained.wait()
            await asyncio.gather(*(session.wait_closed() for session in sessions))
        assert time.monotonic() - sent < 5
        code, out, log = await server.rest()
    assert code == 0
    assert out.splitlines() == ["sessions at shutdown 5", "returned"]
    ends = {(each.close_code, each.close_reason, each.closed_by) for each in sessions}
    assert ends == {(0, "server shutdown", "remote")}
    for step in (number.name, "shutdown handlers", "told 5 connections", "cancelling 5", "closed"):
        assert step in log, log
    assert "Traceback" not in log


async def test_handler_in_the_middle_of_its_work_may_finish(
    engine: str, certificate: Certificate
) -> None:
    async with (
        program(engine, certificate, graceful_timeout=10) as server,
        client_of(engine, certificate) as client,
    ):
        session = await client.connect(url=f"https://127.0.0.1:{server.port}/work")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"x" * 10)
        assert await server.line() == "working"
        server.process.send_signal(signal.SIGTERM)
        assert await stream.read_all() == b"done: " + b"x" * 10
        code, _, _ = await server.rest()
    assert code == 0


async def test_second_signal_ends_the_grace(engine: str, certificate: Certificate) -> None:
    async with (
        program(engine, certificate, graceful_timeout=60) as server,
        client_of(engine, certificate) as client,
    ):
        session = await client.connect(url=f"https://127.0.0.1:{server.port}/forever")
        drained = asyncio.Event()
        session.on(event_type=EventType.SESSION_DRAINING, handler=lambda _: drained.set())
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            await drained.wait()
        await asyncio.sleep(2 * ONE_WISH)
        server.process.send_signal(signal.SIGTERM)
        code, _, log = await server.rest()
    assert code == 0
    assert "hurrying" in log


async def test_a_signal_that_comes_twice_at_once_counts_once(
    engine: str, certificate: Certificate
) -> None:
    """``timeout`` and others that pass signals on send it to the process and to its group."""
    async with (
        program(engine, certificate, graceful_timeout=10) as server,
        client_of(engine, certificate) as client,
    ):
        session = await client.connect(url=f"https://127.0.0.1:{server.port}/work")
        stream = await session.create_bidirectional_stream()
        await stream.write_all(data=b"x" * 10)
        assert await server.line() == "working"
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        assert await stream.read_all() == b"done: " + b"x" * 10
        code, _, log = await server.rest()
    assert code == 0
    assert "hurrying" not in log


async def test_handler_that_swallows_cancellation_is_named_and_left(
    engine: str, certificate: Certificate
) -> None:
    async with (
        program(engine, certificate, close_timeout=0.5, graceful_timeout=0) as server,
        client_of(engine, certificate) as client,
    ):
        await client.connect(url=f"https://127.0.0.1:{server.port}/stubborn")
        server.process.send_signal(signal.SIGTERM)
        code, out, log = await server.rest()
    assert code == 0
    assert "refused" in out
    assert "returned" in out
    assert "in stubborn" in log


STUBBORN_START = """
import asyncio, sys
from pywebtransport import ServerApp, ServerConfig

app = ServerApp(config=ServerConfig(engine=sys.argv[1], certfile=sys.argv[2], keyfile=sys.argv[3],
                                    bind_host="127.0.0.1", bind_port=0))

@app.on_startup
async def connect():
    print("connecting", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except:
            if sys.argv[4] == "once":
                break

@app.on_startup
def connected():
    print("connected", flush=True)

app.run()
print("returned", flush=True)
"""


@pytest.mark.parametrize("how_often", ["once", "always"])
async def test_start_that_swallows_cancellation_ends_all_the_same(
    engine: str, certificate: Certificate, how_often: str
) -> None:
    server = Program(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", STUBBORN_START, engine),
            *(certificate.certfile, certificate.keyfile, how_often),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    assert await server.line() == "connecting"
    server.process.send_signal(signal.SIGTERM)
    if how_often == "once":
        assert await server.line() == "connected"
    await asyncio.sleep(2 * ONE_WISH)
    server.process.send_signal(signal.SIGTERM)
    code, out, log = await server.rest()
    assert code == 0
    assert out.splitlines() == ["returned"]
    assert ("is dropped" in log and " in connect" in log) == (how_often == "always")


async def test_shutdown_handlers_that_fail_keep_nothing_from_ending(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    drained = asyncio.Event()
    with pytest.raises(OSError, match="the first"):
        async with Place(engine, certificate, graceful_timeout=10) as place:
            app = place.app

            @app.route("/")
            async def work(session: WebTransportSession) -> None:
                await drained.wait()
                await session.close(7)

            @app.on_shutdown
            def fail() -> None:
                raise OSError("the first")

            @app.on_shutdown
            async def fail_later() -> None:
                raise ValueError("the second")

            @app.on_shutdown
            async def wait_for_what_somebody_cancelled() -> None:
                task = asyncio.create_task(asyncio.Event().wait())
                task.cancel()
                await task

            @app.on_shutdown
            async def end() -> None:
                called.append("end")

            session = await place.connect()
            session.on(event_type=EventType.SESSION_DRAINING, handler=lambda _: drained.set())
            shutting_down = asyncio.ensure_future(app.shutdown())
            async with asyncio.timeout(10):
                await session.wait_closed()
            assert session.close_code == 7
            await shutting_down
    assert called == ["end"]
    assert is_free(place.port)
    failed = [line for line in caplog.messages if line.startswith("shutdown <function ")]
    assert len(failed) == 3


async def until_closed(session: WebTransportSession) -> None:
    await session.wait_closed()


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def test_close_frees_the_port_whatever_handlers_do(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = asyncio.Event()
    async with Place(engine, certificate, close_timeout=0.5) as place:

        @place.app.route(path="/")
        async def stubborn(session: WebTransportSession) -> None:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue

        await place.connect()
        started = time.monotonic()
        with caplog.at_level(logging.ERROR, "pywebtransport.server"):
            await place.app.server.close()
        took = time.monotonic() - started
        let_go.set()
        assert took < 2
        assert is_free(place.port)
        assert "test_shutdown.py" in caplog.text


async def test_stubborn_handler_is_waited_for_once(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = asyncio.Event()
    place = Place(engine, certificate, close_timeout=0.5, graceful_timeout=0)

    @place.app.route(path="/")
    async def stubborn(session: WebTransportSession) -> None:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()

    with caplog.at_level(logging.ERROR, "pywebtransport.server"):
        async with place:
            await place.connect()
    let_go.set()
    assert caplog.text.count("is left running") == 1


async def test_handler_of_the_end_that_waits_does_not_block_close(
    engine: str, certificate: Certificate
) -> None:
    async with Place(engine, certificate, close_timeout=0.3) as place:
        ended = asyncio.get_running_loop().create_future()

        @place.app.route(path="/")
        async def close(session: WebTransportSession) -> None:
            async def wait_for_ever(_event: Any) -> None:
                await asyncio.Event().wait()

            session.on(event_type=EventType.SESSION_CLOSED, handler=wait_for_ever)
            await session.close()
            ended.set_result(None)

        await place.connect()
        async with asyncio.timeout(5):
            await ended


async def test_listen_after_close(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place:
        place.app.route(path="/")(until_closed)
        session = await place.connect()
        await place.app.server.close()
        assert session.is_closed or await session.wait_closed() is None
        await place.app.server.listen()
        assert (await place.connect()).is_ready


async def test_two_listens_at_once(engine: str, certificate: Certificate) -> None:
    place = Place(engine, certificate)
    async with WebTransportServer(config=place.server_config()) as server:
        # No port, so that both could succeed.
        both = await asyncio.gather(
            server.listen(port=place.port), server.listen(), return_exceptions=True
        )
        assert sorted(map(type, both), key=str) == [type(None), ServerError]
    assert is_free(place.port)


async def test_close_while_listen_is_under_way(engine: str, certificate: Certificate) -> None:
    place = Place(engine, certificate)
    async with WebTransportServer(config=place.server_config(bind_host="localhost")) as server:
        listening = asyncio.ensure_future(server.listen())
        await asyncio.sleep(0)
        if not listening.done():
            await server.close()
            with pytest.raises(ServerError, match="closed while"):
                await listening
            assert not server.is_serving
    assert is_free(place.port)


async def test_serve_forever_raises_its_cancellation(engine: str, certificate: Certificate) -> None:
    place = Place(engine, certificate)
    async with WebTransportServer(config=place.server_config()) as server:
        await server.listen()
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving


async def test_close_timeout_is_waited_for_once(engine: str, certificate: Certificate) -> None:
    """Clients that are gone without a word: what was sent to them is never acknowledged."""
    async with Place(engine, certificate, close_timeout=1.5, graceful_timeout=0) as place:
        code = """
import asyncio, os, sys
from pywebtransport import ClientConfig, WebTransportClient
async def main():
    async with WebTransportClient(config=ClientConfig(ca_certs=sys.argv[1])) as client:
        session = await client.connect(url=sys.argv[2])
        print("there", flush=True)
        sys.stdin.read()
        os._exit(1)
asyncio.run(main())
"""
        ready = asyncio.Event()

        @place.app.route(path="/")
        async def speak(session: WebTransportSession) -> None:
            await ready.wait()
            stream = await session.create_unidirectional_stream()
            await stream.write(data=bytes(10_000))
            await session.wait_closed()

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, certificate.certfile, place.url()),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"there\n"
        process.kill()
        await process.communicate()
        ready.set()
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await place.app.shutdown()
        assert time.monotonic() - started < 2.6


async def test_codes_are_the_applications(engine: str, certificate: Certificate) -> None:
    ends: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()
    async with Place(engine, certificate) as place:

        @place.app.route(path="/")
        async def observe(session: WebTransportSession) -> None:
            await session.wait_closed()
            ends.put_nowait((session.close_code, session.closed_by))

        async with place.client() as client:
            await client.connect(url=place.url())
        assert await ends.get() == (0, "remote"), "end of `async with client`"
        session = await place.connect()
        await session.connection.close()
        assert await ends.get() == (0, "remote"), "connection.close()"
        with pytest.raises(RuntimeError):
            async with await place.connect():
                raise RuntimeError("on purpose")
        assert await ends.get() == (1, "remote"), "an exception in `async with session`"
        async with await place.connect():
            pass
        assert await ends.get() == (0, "remote"), "`async with session`"
