"""Middleware that refuses with a status of its own."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from examples.api.local import echo, free_port
from examples.certificate import make_certificate
from pywebtransport import ClientConfig, ServerConfig, WebTransportClient, WebTransportError
from pywebtransport.framework import MiddlewareRejected, ServerApp
from pywebtransport.session import WebTransportSession


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        app = ServerApp(config=ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile))
        app.route(path="/echo")(echo)

        @app.middleware
        async def needs_token(*, session: WebTransportSession) -> bool:
            if "x-token" not in session.headers:
                raise MiddlewareRejected(status_code=401)
            return True

        port = free_port()
        async with app, WebTransportClient(config=ClientConfig(ca_certs=pair.certfile)) as client:
            await app.server.listen(host="127.0.0.1", port=port)
            url = f"https://127.0.0.1:{port}/echo"
            try:
                await client.connect(url=url)
            except WebTransportError as error:
                print(error)
            session = await client.connect(url=url, headers={"x-token": "secret"})
            print("with a token:", session.state)


if __name__ == "__main__":
    asyncio.run(main())
