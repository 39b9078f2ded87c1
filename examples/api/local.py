"""What the examples share: a server on loopback, and a client configuration that trusts it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerApp, ServerConfig
from pywebtransport.session import WebTransportSession

Handler = Callable[[WebTransportSession], Awaitable[None]]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def serving(handler: Handler, *, path: str = "/") -> AsyncIterator[tuple[str, ClientConfig]]:
    """A server with ``handler`` at ``path``: its URL, and a client's configuration."""
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        app = ServerApp(config=ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile))
        app.route(path=path)(handler)
        port = free_port()
        async with app:
            await app.server.listen(host="127.0.0.1", port=port)
            yield f"https://127.0.0.1:{port}{path}", ClientConfig(ca_certs=pair.certfile)


async def echo(session: WebTransportSession) -> None:
    """Answer every bidirectional stream with its own bytes."""
    async for stream in session.incoming_bidirectional_streams():
        await stream.write(data=await stream.read_all(), end_stream=True)
