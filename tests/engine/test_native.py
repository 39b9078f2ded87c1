"""What only the native engine has: shared client sockets, its place in the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pywebtransport._engine.base import EngineConnection
from pywebtransport._engine.native import NativeEngine
from pywebtransport._engine.native_reactor import IDLE_SOCKET_TIMEOUT
from pywebtransport._loop import run as run_in_loop
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.exceptions import ConnectionError
from pywebtransport.server.running import run_until_signalled
from tests.support.certificate import Certificate

from .observer import Observer

Make = Callable[..., Any]
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def sockets() -> int:
    """UDP sockets of this process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            # A duplicate of anything else would have no owner to close it.
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                count += sock.type == socket.SOCK_DGRAM
        except OSError:
            continue
    return count


async def echo_once(client: EngineConnection, server: Observer) -> None:
    near = Observer(client)
    session_id = client.open_session(authority="localhost", path="/", headers={})
    await server.next("session_requested")
    server.connection.accept_session(session_id)
    await near.next("session_established")
    stream_id = await near.open(session_id)
    await near.write(stream_id, b"ping", fin=True)
    assert await server.next("stream_opened") == (session_id, stream_id)
    await server.write(stream_id, await server.read_all(stream_id), fin=True)
    assert await near.read_all(stream_id) == b"ping"


class Lab:
    """A listener and as many clients as a test wants, all of one engine object."""

    def __init__(self, server: ServerConfig, client: ClientConfig) -> None:
        self.engine = NativeEngine()
        self._server = server
        self._client = client
        self.accepted: asyncio.Queue[Observer] = asyncio.Queue()

    async def listen(self) -> None:
        self.listener = await self.engine.listen(
            config=self._server,
            host="127.0.0.1",
            port=0,
            on_connection=lambda connection: self.accepted.put_nowait(Observer(connection)),
        )

    async def connect(self, port: int | None = None) -> EngineConnection:
        return await self.engine.connect(
            config=self._client,
            host="127.0.0.1",
            port=port or self.listener.local_address[1],
        )


@pytest.fixture
def lab(server_config: Make, client_config: Make) -> Lab:
    return Lab(server_config(), client_config())


async def test_clients_share_a_socket_and_let_go_of_it(lab: Lab) -> None:
    before = sockets()
    await lab.listen()
    clients = [await lab.connect() for _ in range(5)]
    assert sockets() == before + 2
    assert len({client.local_address for client in clients}) == 1
    for client in clients:
        client.close(code=0x100, reason="")
        await client.wait_closed()
    late = await lab.connect()
    assert late.local_address == clients[0].local_address
    late.close(code=0x100, reason="")
    await late.wait_closed()
    await asyncio.sleep(IDLE_SOCKET_TIMEOUT + 0.2)
    assert sockets() == before + 1
    again = await lab.connect()
    again.close(code=0x100, reason="")
    await again.wait_closed()
    await lab.listener.close()
    await asyncio.sleep(IDLE_SOCKET_TIMEOUT + 0.2)
    assert sockets() == before


@pytest.mark.parametrize("is_on", [True, False])
async def test_larger_packets_are_found_unless_that_is_off(
    server_config: Make, client_config: Make, is_on: bool
) -> None:
    """RFC 8899 §5.3: probes are acknowledged while there is traffic."""
    lab = Lab(server_config(), client_config(mtu_discovery=is_on))
    await lab.listen()
    client = await lab.connect()
    near, far = Observer(client), await lab.accepted.get()
    session_id = client.open_session(authority="localhost", path="/", headers={})
    await far.next("session_requested")
    far.connection.accept_session(session_id)
    await near.next("session_established")
    for _ in range(50):
        stream_id = await near.open(session_id)
        await near.write(stream_id, b"ping", fin=True)
        await far.next("stream_opened")
        await far.write(stream_id, await far.read_all(stream_id), fin=True)
        await near.read_all(stream_id)
    assert (client.max_datagram_size(session_id) > 1200) is is_on
    client.close(code=0x100, reason="")
    await client.wait_closed()
    await lab.listener.close()


@pytest.fixture
def chain(certificate: Certificate, paths: Path) -> str:
    """So many certificates that it shows whether a handshake carries them."""
    path = paths / "chain.pem"
    path.write_text(Path(certificate.certfile).read_text() * 10)
    return str(path)


def tls_bytes(client: EngineConnection) -> int:
    """What TLS has read, each byte once, however often a machine under load repeats packets."""
    return int(client.stats().extra["tls_bytes_received"])


async def test_second_connection_resumes_the_first(
    server_config: Make, client_config: Make, certificate: Certificate, chain: str
) -> None:
    lab = Lab(server_config(certfile=chain), client_config())
    await lab.listen()
    received = []
    for _ in range(4):
        client = await lab.connect()
        await echo_once(client, await lab.accepted.get())
        received.append(tls_bytes(client))
        client.close(code=0x100, reason="")
        await client.wait_closed()
    assert received[0] > max(received[1:]) + 9 * 300, received
    # Another certificate to trust makes another client, which has to look at everything.
    stranger = Lab(server_config(), client_config(server_certificate_hashes=[certificate.sha256]))
    stranger.engine, stranger.listener = lab.engine, lab.listener
    client = await stranger.connect()
    await echo_once(client, await lab.accepted.get())
    assert tls_bytes(client) > max(received[1:]) + 9 * 300
    await lab.listener.close()


@pytest.mark.parametrize("name", LOOPS)
def test_socket_works_on_after_a_refusal(lab: Lab, name: str) -> None:
    """uvloop stops watching a socket that had an error."""

    async def scenario() -> None:
        await lab.listen()
        first = await lab.connect()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
        for _ in range(3):
            async with asyncio.timeout(2):
                with pytest.raises(ConnectionError):
                    await lab.connect(port)
        await echo_once(first, await lab.accepted.get())
        second = await lab.connect()
        await echo_once(second, await lab.accepted.get())
        await lab.listener.close()

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(scenario())


@pytest.mark.parametrize("name", LOOPS)
def test_loop_that_is_closed_under_it_frees_everything(lab: Lab, name: str) -> None:
    gc.collect()
    before = sockets()
    kept: list[Any] = []

    async def scenario() -> None:
        await lab.listen()
        client = await lab.connect()
        await echo_once(client, await lab.accepted.get())
        kept.append(client)

    with asyncio.Runner(loop_factory=LOOPS[name]) as runner:
        runner.run(scenario())
    (client,) = kept
    # Nothing answers any more, and nothing fails.
    assert client.stream_read(0, -1) == (b"", True)
    client.close(code=0x100, reason="")
    del client, lab.listener
    kept.clear()
    lab.accepted = asyncio.Queue()
    lab.engine = NativeEngine()
    gc.collect()
    assert sockets() == before


class ProactorEventLoop(asyncio.SelectorEventLoop):
    """As far as it matters, Windows' default loop."""

    add_reader = asyncio.AbstractEventLoop.add_reader


def test_programs_of_ours_take_a_loop_with_readers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ServerApp.run()` and the commands, where asyncio's default has none."""
    first = ProactorEventLoop()
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: first)

    async def scenario() -> None:
        await lab.listen()

    run_in_loop(scenario())
    assert first.is_closed()
    first = ProactorEventLoop()
    run_until_signalled(scenario, lambda: None, patience=1)
    assert first.is_closed()


def test_loop_without_readers_is_refused_by_name(lab: Lab) -> None:
    """Windows' default loop; the other engine works there."""

    async def scenario() -> None:
        for attempt in (lab.listen(), lab.connect(1)):
            with pytest.raises(NotImplementedError, match=r"ProactorEventLoop.*engine='aioquic'"):
                await attempt

    with asyncio.Runner(loop_factory=ProactorEventLoop) as runner:
        runner.run(scenario())


async def test_cancelled_connect_leaves_nothing(lab: Lab) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.setblocking(False)
        before = sockets()
        attempt = asyncio.ensure_future(lab.connect(silent.getsockname()[1]))
        async with asyncio.timeout(5):
            await asyncio.get_running_loop().sock_recv(silent, 2048)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await asyncio.sleep(IDLE_SOCKET_TIMEOUT + 0.2)
        assert sockets() == before
