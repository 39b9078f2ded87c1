"""An application: routes, middleware, startup; run for one request."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from examples.api.local import free_port
from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerConfig, WebTransportClient
from pywebtransport.server import ServerApp, create_rate_limit_middleware
from pywebtransport.session import WebTransportSession


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        app = ServerApp(config=ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile))
        app.add_middleware(middleware=create_rate_limit_middleware(max_requests=100))

        @app.on_startup
        async def started() -> None:
            print("started")

        @app.pattern_route(pattern=r"/rooms/([0-9]+)")
        async def room(session: WebTransportSession) -> None:
            stream = await session.create_unidirectional_stream()
            await stream.write_all(data=f"room {session.path_params[0]}".encode())
            await session.wait_closed()

        port = free_port()
        async with app, WebTransportClient(config=ClientConfig(ca_certs=pair.certfile)) as client:
            await app.server.listen(host="127.0.0.1", port=port)
            session = await client.connect(url=f"https://127.0.0.1:{port}/rooms/7")
            stream = await session.accept_unidirectional_stream()
            print(await stream.read_all())


if __name__ == "__main__":
    asyncio.run(main())
