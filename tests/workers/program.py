"""A program that serves with workers, as one would write it: ``python program.py OPTIONS``.

OPTIONS is JSON: ``config`` (fields of ServerConfig), ``workers``, and what else is read below.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub import PubSubBroker, RedisBackplane
from pywebtransport.server import current_worker
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportStream

options: dict[str, Any] = json.loads(sys.argv[1])
app = ServerApp(config=ServerConfig(**options["config"]))


@app.on_startup
async def started() -> None:
    worker = current_worker()
    folder = options.get("folder")
    if folder and worker:
        if (Path(folder) / "broken").exists():
            raise RuntimeError("broken on purpose")
        with (Path(folder) / "started").open("a") as log:
            log.write(f"{worker.number} {os.getpid()}\n")


@app.on_shutdown
async def ended() -> None:
    if folder := options.get("folder"):
        with (Path(folder) / "ended").open("a") as log:
            log.write(f"{os.getpid()}\n")


@app.route("/echo")
async def echo(session: WebTransportSession) -> None:
    """The first stream tells who serves; every further one is echoed."""
    with suppress(WebTransportError):
        is_first = True
        async for stream in session.incoming_bidirectional_streams():
            if is_first:
                await stream.write_all(data=str(os.getpid()))
                is_first = False
            else:
                await answer(stream)


async def answer(stream: WebTransportStream) -> None:
    while data := await stream.read(size=65536):
        await stream.write(data=data)
    await stream.close()


if url := options.get("redis"):
    PubSubBroker(backplane=RedisBackplane(url)).mount(app, path="/pubsub")

if __name__ == "__main__":
    app.run(workers=options["workers"])
