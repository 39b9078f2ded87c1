"""interop/endpoint.py does quic-interop-runner's WebTransport cases, with webtransport-go 0.13."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.certificate import make_certificate
from tests.interop.registry import BUILT, ROOT
from tests.support.laboratory import free_port

OURS = [sys.executable, str(ROOT / "interop/endpoint.py")]
GO = [str(BUILT / "webtransport-go-runner")]
PATH = "quiet-otter"
# As the runner makes them, smaller: five files for streams, and some for datagrams.
STREAM_SIZES = (100 << 10, 500 << 10, 250 << 10, 1 << 20, 2 << 20)
DATAGRAM_SIZES = tuple(600 + 2 * i for i in range(0, 200, 10))


@dataclass
class Side:
    """A directory for each thing that the runner mounts, and the program's environment."""

    role: str
    command: list[str]
    directory: Path
    engine: str

    @property
    def downloads(self) -> Path:
        return self.directory / "downloads"

    def prepare(self, files: dict[str, bytes]) -> None:
        www = self.directory / "www" / PATH
        www.mkdir(parents=True)
        for name, data in files.items():
            (www / name).write_bytes(data)
        certificate = make_certificate(self.directory)
        certs = self.directory / "certs"
        certs.mkdir()
        shutil.copy(certificate.certfile, certs / "cert.pem")
        shutil.copy(certificate.keyfile, certs / "priv.key")

    async def start(self, case: str, port: int, requests: list[str], protocols: str) -> Process:
        return await asyncio.create_subprocess_exec(
            *self.command,
            stdout=PIPE,
            env=os.environ
            | {
                "ROLE": self.role,
                "TESTCASE": case,
                "REQUESTS": " ".join(requests),
                "PROTOCOLS": protocols,
                "WWW": str(self.directory / "www"),
                "DOWNLOADS": str(self.downloads),
                "CERTS": str(self.directory / "certs"),
                "PORT": str(port),
                "PYWEBTRANSPORT_ENGINE": self.engine,
            },
        )


@asynccontextmanager
async def running(process: Process) -> AsyncIterator[Process]:
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run(
    client: Side,
    server: Side,
    cases: tuple[str, str],
    requests: tuple[list[str], list[str]],
    protocols: tuple[str, str],
) -> None:
    port = free_port()
    urls = [f"https://127.0.0.1:{port}/{path}" for path in requests[0]]
    async with running(await server.start(cases[1], port, requests[1], protocols[1])) as serving:
        assert serving.stdout is not None
        assert (await serving.stdout.readline()).startswith(b"listening"), "the server has ended"
        asking = await client.start(cases[0], port, urls, protocols[0])
        async with running(asking):
            assert await asking.wait() == 0
            assert await serving.wait() == 0


@pytest.fixture(params=["client", "server"])
def sides(request: pytest.FixtureRequest, tmp_path: Path, engine: str) -> tuple[Side, Side]:
    """Client and server, of which ours is the one that the parameter names."""
    commands = (OURS, GO) if request.param == "client" else (GO, OURS)
    client, server = (
        Side(role, command, tmp_path / role, engine)
        for role, command in zip(("client", "server"), commands, strict=True)
    )
    for side in (client, server):
        side.directory.mkdir()
    return client, server


async def test_handshake(sides: tuple[Side, Side]) -> None:
    client, server = sides
    client.prepare({})
    server.prepare({})
    protocols = ("a-1 shared-1 b-2 shared-2", "c-3 shared-2 d-4 shared-1")
    await run(client, server, ("handshake", "handshake"), ([PATH], []), protocols)
    for side in sides:
        # The client's first one that the server has.
        assert (side.downloads / "negotiated_protocol.txt").read_text().strip() == "shared-1"


@pytest.mark.parametrize("direction", ["receive", "send"])
@pytest.mark.parametrize("kind", ["unidirectional", "bidirectional", "datagram"])
async def test_transfer(sides: tuple[Side, Side], kind: str, direction: str) -> None:
    client, server = sides
    sizes = DATAGRAM_SIZES if kind == "datagram" else STREAM_SIZES
    files = {f"file-{size}": os.urandom(size) for size in sizes}
    wanted = [f"{PATH}/{name}" for name in files]
    case = f"transfer-{kind}-{direction}"
    if direction == "receive":
        client.prepare({})
        server.prepare(files)
        receiver, cases, requests = client, (case, "transfer"), (wanted, list[str]())
    else:
        client.prepare(files)
        server.prepare({})
        receiver, cases, requests = server, ("transfer", case), ([PATH], wanted)
    await run(client, server, cases, requests, ("one", "one"))
    received = {each.name: each.read_bytes() for each in (receiver.downloads / PATH).iterdir()}
    assert received == files


@pytest.mark.parametrize("role", ["client", "server"])
async def test_a_case_that_is_not_supported(tmp_path: Path, role: str) -> None:
    side = Side(role, OURS, tmp_path, "native")
    process = await side.start("transfer-by-pigeon", 1, [], "")
    async with running(process):
        assert await process.wait() == 127
