"""A client whose sessions end at once does not come back at once."""

from __future__ import annotations

import asyncio

from pywebtransport import ServerApp, ServerConfig, WebTransportClient
from pywebtransport.client import ReconnectingClient
from pywebtransport.config import ClientConfig
from pywebtransport.events import Event
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType
from tests.behaviour.site import within
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port


async def test_a_server_that_closes_at_once_is_left_in_peace(
    engine: str, certificate: Certificate
) -> None:
    port = free_port()
    app = ServerApp(
        config=ServerConfig(
            engine=engine,
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            bind_host="127.0.0.1",
            bind_port=port,
            access_log=False,
        )
    )
    requests = 0

    @app.route(path="/")
    async def shed(session: WebTransportSession) -> None:
        nonlocal requests
        requests += 1

    config = ClientConfig(
        engine=engine, ca_certs=certificate.certfile, retry_delay=0.2, retry_backoff=2.0
    )
    losses: asyncio.Queue[Event] = asyncio.Queue()
    async with app:
        await app.server.listen()
        async with WebTransportClient(config=config) as client:
            made = ReconnectingClient(url=f"https://127.0.0.1:{port}/", client=client)
            made.on(event_type=EventType.CONNECTION_LOST, handler=losses.put_nowait)
            loop = asyncio.get_running_loop()
            async with made:
                started = loop.time()
                for _ in range(3):
                    await within(losses.get())
                # Pauses of 0.1 to 0.2 and of 0.2 to 0.4 seconds lie between three sessions.
                assert loop.time() - started >= 0.3
                assert requests == 3
