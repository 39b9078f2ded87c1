"""Sessions on a socket that ``aioquic.asyncio`` serves."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration

from examples.api.local import echo, free_port
from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerApp, WebTransportClient
from pywebtransport.server.protocol import WebTransportServerProtocol


async def main() -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        configuration.load_cert_chain(Path(pair.certfile), Path(pair.keyfile))
        config = ClientConfig(ca_certs=pair.certfile)
        app = ServerApp()
        app.route(path="/")(echo)
        port = free_port()
        async with app, WebTransportClient(config=config) as client:
            server = await serve(
                "127.0.0.1",
                port,
                configuration=configuration,
                create_protocol=partial(WebTransportServerProtocol, app.server),
            )
            session = await client.connect(url=f"https://127.0.0.1:{port}/")
            stream = await session.create_bidirectional_stream()
            await stream.write(data=b"hello", end_stream=True)
            print(await stream.read_all())
            await session.close()
            server.close()


if __name__ == "__main__":
    asyncio.run(main())
