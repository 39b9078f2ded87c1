"""Sockets of the caller's own: `listen(sock=...)` and `listen(reuse_port=True)`."""

from __future__ import annotations

import socket
import ssl
from contextlib import AsyncExitStack

import pytest

from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport.exceptions import ServerError
from pywebtransport.session import WebTransportSession
from tests.support.laboratory import free_port


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"))
    return {"certfile": certificate.certfile, "keyfile": certificate.keyfile}


def make_app(engine: str, files: dict[str, str], answer: str) -> ServerApp:
    app = ServerApp(config=ServerConfig(engine=engine, bind_host="127.0.0.1", **files))

    @app.route("/")
    async def who(session: WebTransportSession) -> None:
        await (await session.create_unidirectional_stream()).write_all(data=answer)
        await session.wait_closed()

    return app


async def ask(engine: str, url: str) -> bytes:
    config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE)
    async with WebTransportClient(config=config) as client:
        session = await client.connect(url=url)
        return await (await session.accept_unidirectional_stream()).read_all()


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
async def test_a_server_takes_a_bound_socket_over(
    engine: str, files: dict[str, str], family: socket.AddressFamily, host: str
) -> None:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    port = sock.getsockname()[1]
    async with make_app(engine, files, "mine") as app:
        await app.server.listen(sock=sock)
        assert app.server.local_address == (host, port)
        name = f"[{host}]" if ":" in host else host
        assert await ask(engine, f"https://{name}:{port}/") == b"mine"
        # It is the server's now.
        assert sock.fileno() == -1
        await app.server.close()
        with socket.socket(family, socket.SOCK_DGRAM) as again:
            again.bind((host, port))


async def test_a_port_with_several_sockets(engine: str, files: dict[str, str]) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        for answer in ("one", "other"):
            app = await stack.enter_async_context(make_app(engine, files, answer))
            await app.server.listen(port=port, reuse_port=True)
        # The kernel spreads clients by their address; those of aioquic have one each.
        answers = {await ask("aioquic", f"https://127.0.0.1:{port}/") for _ in range(24)}
        assert answers == {b"one", b"other"}
        alone = await stack.enter_async_context(make_app(engine, files, "alone"))
        with pytest.raises(ServerError, match=rf"127.0.0.1:{port}: .*in use"):
            await alone.server.listen(port=port)


async def test_a_socket_that_cannot_be_listened_on(engine: str, files: dict[str, str]) -> None:
    async with make_app(engine, files, "") as app:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local,
        ):
            tcp.bind(("127.0.0.1", 0))
            for sock in (unbound, tcp, local):
                with pytest.raises(ServerError, match="bound UDP socket"):
                    await app.server.listen(sock=sock)
            unbound.bind(("127.0.0.1", 0))
            with pytest.raises(ServerError, match="leave out host, port and reuse_port"):
                await app.server.listen(sock=unbound, port=4433)
        with pytest.raises(ServerError, match="cannot be used"):
            await app.server.listen(sock=unbound)
        # Nothing of that keeps it from listening.
        await app.server.listen(port=free_port())
