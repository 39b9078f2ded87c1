"""A server with workers in processes of its own, and clients that stay and talk to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from examples.certificate import Certificate, make_certificate
from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.session import WebTransportSession
from tests.support.laboratory import free_port

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A supervisor and its workers."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        self.log: list[str] = []
        self._grown = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            async with self._grown:
                self.log.append(line.decode().rstrip())
                self._grown.notify_all()
        async with self._grown:
            self.log.append("THE END")
            self._grown.notify_all()

    async def says(self, text: str, *, times: int = 1, within: float = 40) -> str:
        """Wait until the log has so many lines with this text; the last of them."""

        def found() -> list[str]:
            return [line for line in self.log if text in line]

        async with self._grown, asyncio.timeout(within):
            while len(found()) < times:
                assert self.log[-1:] != ["THE END"], "\n".join(self.log)
                await self._grown.wait()
        return found()[times - 1]

    def started(self) -> list[tuple[int, int]]:
        """The number and process id of every worker so far, in the order in which they began."""
        lines = (self.folder / "started").read_text().splitlines()
        return [(int(number), int(pid)) for number, pid in map(str.split, lines)]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> int:
        """Its exit status; its workers are gone as well."""
        async with asyncio.timeout(40):
            status = await self.process.wait()
            # Workers hold the other end of its standard error.
            await self._reading
        return status

    def url(self, path: str = "/echo") -> str:
        return f"https://127.0.0.1:{self.port}{path}"


Start = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def start(certificate: Certificate, tmp_path: Path) -> Start:
    """Starts a server with two workers and these fields of ServerConfig."""

    @asynccontextmanager
    async def running(
        *, waits: bool = True, redis: str = "", workers: int = 2, **config: Any
    ) -> AsyncIterator[Server]:
        port = free_port()
        files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
        options = {
            "config": {"bind_host": "127.0.0.1", "bind_port": port} | files | config,
            "workers": workers,
            "folder": str(tmp_path),
            "redis": redis,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.workers.program", json.dumps(options, default=str)),
            cwd=ROOT,
            stderr=PIPE,
            start_new_session=True,
        )
        server = Server(process, port, tmp_path)
        try:
            if waits:
                await server.says("workers serve")
            yield server
        finally:
            if process.returncode is None:
                process.kill()
            # Without their supervisor the workers end by themselves.
            await server.end()
            print("\n".join(server.log))

    return running


class Client:
    """A session, and the process that serves it."""

    def __init__(self, session: WebTransportSession, pid: int) -> None:
        self.session = session
        self.pid = pid

    @classmethod
    async def connect(cls, client: WebTransportClient, url: str) -> Client:
        session = await client.connect(url=url)
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"who?", end_stream=True)
        return cls(session, int(await stream.read_all()))

    async def exchange(self, size: int = 20_000) -> None:
        """Send something and get it back."""
        data = os.urandom(size)
        stream = await self.session.create_bidirectional_stream()
        await stream.write(data=data, end_stream=True)
        assert await stream.read_all() == data


async def connect_to_both(
    client: WebTransportClient, url: str, least: int = 3, most: int = 60
) -> list[Client]:
    """Clients until each of two workers has some."""
    clients: list[Client] = []
    while len(clients) < most:
        clients.append(await Client.connect(client, url))
        counts = [[each.pid for each in clients].count(pid) for pid in {c.pid for c in clients}]
        if len(counts) == 2 and min(counts) >= least:
            return clients
    raise AssertionError(f"{most} connections went to {counts}")


def client_of(**options: Any) -> WebTransportClient:
    return WebTransportClient(config=ClientConfig(verify_mode=ssl.CERT_NONE, **options))


async def all_of(clients: list[Client], what: Callable[[Client], Awaitable[None]]) -> None:
    await asyncio.gather(*(what(each) for each in clients))
