"""How many functions of the library run for one connect and close, client and server together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pywebtransport
from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient
from pywebtransport._link.sides import Connection
from pywebtransport.session import WebTransportSession

LIBRARY = str(Path(pywebtransport.__file__).parent)
ROUNDS = 20
MOST_CALLS = {"native": 210, "aioquic": 1_100}
"""A little above what there is: a coroutine that goes on counts again, and so does a timer."""


async def test_connect_and_close_stay_short(
    engine_name: str,
    server_config: Callable[..., ServerConfig],
    client_config: Callable[..., ClientConfig],
) -> None:
    calls = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(LIBRARY)

    app = ServerApp(config=server_config(engine=engine_name))
    served: asyncio.Queue[Connection] = asyncio.Queue()

    @app.route("/")
    async def handler(session: WebTransportSession) -> None:
        served.put_nowait(session.connection)
        await session.wait_closed()

    figures = []
    async with app, WebTransportClient(config=client_config(engine=engine_name)) as client:
        await app.server.listen(host="127.0.0.1", port=0)
        assert app.server.local_address is not None
        url = f"https://127.0.0.1:{app.server.local_address[1]}/"
        for _ in range(ROUNDS):
            calls = 0
            sys.setprofile(count)
            try:
                session = await client.connect(url)
                await session.close()
                await session.connection.wait_closed()
                await served.get_nowait().wait_closed()
            finally:
                sys.setprofile(None)
            figures.append(calls)
    print(f"{engine_name}: {sorted(figures)} calls")
    assert min(figures) <= MOST_CALLS[engine_name]
