"""``bench``: its figures are those of what happened, its table, JSON and picture those figures."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.cli.measure import PROTOCOL
from pywebtransport.cli.measure.answer import answering_app
from pywebtransport.cli.measure.plot import picture
from pywebtransport.cli.measure.workloads import WORKLOADS, Bench, Figures, measure, suitable
from pywebtransport.cli.visitor import Visitor
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream
from tests.support.certificate import Certificate, make_certificate

SECONDS = 0.2
FULL = [name for name in WORKLOADS if name != "echo"]
ECHOED = [name for name in WORKLOADS if name not in ("upload", "download")]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def config(certificate: Certificate, **options: Any) -> ServerConfig:
    return ServerConfig(
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        bind_host="127.0.0.1",
        bind_port=0,
        graceful_timeout=0,
        **options,
    )


@asynccontextmanager
async def running(app: ServerApp, certificate: Certificate, **options: Any) -> AsyncIterator[Bench]:
    async with app:
        await app.server.listen()
        address = app.server.local_address
        assert address is not None
        url = f"https://127.0.0.1:{address[1]}/bench"
        visitor = Visitor(url=url, hashes=(certificate.sha256,), **options)
        yield Bench(visitor, seconds=SECONDS, at_once=4)


class Echo:
    """A server that knows nothing of the protocol, and counts."""

    def __init__(self, certificate: Certificate, *, keeps: int = 1) -> None:
        self.app = ServerApp(config=config(certificate))
        self.sessions = self.streams = self.datagrams = 0
        self.keeps = keeps
        """Of so many datagrams one is sent back."""
        self.app.route("/bench")(self.serve)

    async def serve(self, session: WebTransportSession) -> None:
        self.sessions += 1
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.datagram_echo(session))
            async for stream in session.incoming_bidirectional_streams():
                self.streams += 1
                tasks.create_task(self.echo(stream))

    async def echo(self, stream: WebTransportStream) -> None:
        async for data in stream:
            await stream.write(data)
        await stream.close()

    async def datagram_echo(self, session: WebTransportSession) -> None:
        async for datagram in await session.create_datagram_transport():
            self.datagrams += 1
            if self.datagrams % self.keeps == 0:
                await session.send_datagram(datagram)


async def figures_of(bench: Bench, *names: str) -> list[Figures]:
    return [figures async for figures in measure(bench, list(names))]


async def test_every_workload_has_its_figures(engine: str, certificate: Certificate) -> None:
    app = answering_app(config(certificate, engine=engine))
    async with running(app, certificate, engine=engine) as bench:
        names = await suitable(bench)
        assert names == FULL
        found = {each.name: each for each in await figures_of(bench, *names)}
    assert [each.fault for each in found.values()] == [""] * len(FULL)
    for name in ("upload", "download", "datagrams"):
        assert found[name].bytes > 0 and found[name].throughput > 0
    for name in ("requests", "requests-at-once", "connections", "datagram-echo", "datagrams"):
        each = found[name]
        assert each.count == len(each.times) > 0
        p50, p99 = each.percentile(0.5), each.percentile(0.99)
        assert p50 is not None and p99 is not None and 0 < p50 <= p99
        assert each.rate == pytest.approx(each.count / each.seconds)
    assert all(each.seconds >= SECONDS for each in found.values())


async def test_the_figures_are_what_the_server_saw(certificate: Certificate) -> None:
    echo = Echo(certificate)
    async with running(echo.app, certificate) as bench:
        assert await suitable(bench) == ECHOED
        before = echo.streams
        (requests,) = await figures_of(bench, "requests-at-once")
        assert requests.count == echo.streams - before
        before = echo.sessions
        (connections,) = await figures_of(bench, "connections")
        assert connections.count == echo.sessions - before - 1
        before = echo.datagrams
        (datagrams,) = await figures_of(bench, "datagrams")
        assert datagrams.lost is not None
        assert datagrams.count <= echo.datagrams - before <= datagrams.count + datagrams.lost
        (through,) = await figures_of(bench, "echo")
        assert through.bytes % (64 * 1024) == 0 and through.bytes > 0


async def test_loss_is_measured(certificate: Certificate) -> None:
    echo = Echo(certificate, keeps=2)
    async with running(echo.app, certificate) as bench:
        (found,) = await figures_of(bench, "datagrams")
    assert found.loss == pytest.approx(0.5, abs=0.1)


async def test_a_workload_that_the_server_cannot_do(certificate: Certificate) -> None:
    echo = Echo(certificate, keeps=1 << 60)
    async with running(echo.app, certificate) as bench:
        found = await figures_of(bench, "upload", "datagram-echo")
    assert "bench --serve" in found[0].fault
    assert "no datagram came back" in found[1].fault
    assert found[0].to_dict()["bytes_per_second"] is None


async def test_the_protocol_is_as_documented(certificate: Certificate) -> None:
    """By hand: eight bytes of size, anything, the end; then so many bytes, and the end."""
    from pywebtransport import ClientConfig, WebTransportClient

    app = answering_app(config(certificate))
    async with (
        running(app, certificate) as bench,
        WebTransportClient(config=ClientConfig(ca_certs=certificate.certfile)) as client,
    ):
        session = await client.connect(bench.visitor.url, wt_available_protocols=[PROTOCOL])
        assert session.wt_protocol == PROTOCOL
        for size in (0, 1, 300_000):
            stream = await session.create_bidirectional_stream()
            await stream.write_all(size.to_bytes(8, "big") + bytes(1000))
            assert len(await stream.read_all()) == size
        await session.send_datagram(b"there and back")
        transport = await session.create_datagram_transport()
        assert await transport.receive(timeout=10) == b"there and back"


def test_percentiles() -> None:
    figures = Figures("x", "", times=[n / 100 for n in range(100, 0, -1)])
    assert figures.percentile(0.5) == 0.51
    assert figures.percentile(0.99) == 1.0
    assert Figures("x", "").percentile(0.5) is None


def test_the_picture_shows_the_figures() -> None:
    found = [
        Figures("upload", "", seconds=2, bytes=3_000_000),
        Figures("requests", "", seconds=2, count=2468, times=[0.001, 0.004]),
        Figures("datagrams", "", seconds=2, count=60, bytes=100, lost=40, times=[0.002]),
        Figures("download", "", fault="none"),
    ]
    svg = picture(found, 'a <b> & "c"', "below")
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {'a <b> & "c"', "below", "upload", "1.5 MB/s", "1,234", "30, 40.0% lost"} <= set(texts)
    assert "4.00 ms, 4.00 ms" in texts
    assert "download" not in texts
    assert "prefers-color-scheme:dark" in svg


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pywebtransport", "bench", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_server_and_client_as_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server prints the command that measures it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    server = await start("--serve", "--host", "127.0.0.1", "--port", "0")
    assert server.stdout is not None
    try:
        async with asyncio.timeout(50):
            assert b"listening on UDP 127.0.0.1:" in await server.stdout.readline()
            words = (await server.stdout.readline()).decode().split()
            assert words[:2] == ["pywebtransport", "bench"]
            plot = tmp_path / "out.svg"
            short = [*words[2:], "--seconds", "0.2", "--at-once", "4"]
            client = await start(*short, "--json", "--plot", str(plot))
            output, errors = await client.communicate()
            assert (client.returncode, errors) == (0, b"")
            told = json.loads(output)
            assert [each["name"] for each in told["workloads"]] == FULL
            assert told["engine"] in ("native", "aioquic")
            assert all(each["fault"] is None for each in told["workloads"])
            ET.fromstring(plot.read_text())
            client = await start(*short, "--workload", "requests")
            output, _ = await client.communicate()
            head, titles, row = output.decode().splitlines()
            assert head.endswith("0.2 s each")
            assert titles.split() == ["workload", "in", "a", "second", "throughput", "p50", "p99"]
            assert re.match(r"requests +[\d,]+ +[\d.]+ ms +[\d.]+ ms +100 bytes", row)
    finally:
        server.send_signal(signal.SIGINT)
        await server.wait()
    assert server.returncode == 0


async def test_no_server() -> None:
    client = await start("https://127.0.0.1:9/", "--seconds", "0.2")
    _, errors = await client.communicate()
    assert client.returncode == 1
    assert b"pywebtransport doctor https://127.0.0.1:9/" in errors
    client = await start()
    _, errors = await client.communicate()
    assert client.returncode == 2
