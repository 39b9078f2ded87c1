"""``python -m benches.workers.server PORT CERT KEY WORKERS``: what run.py loads."""

from __future__ import annotations

import hashlib
import sys

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.stream import WebTransportStream

ROUNDS = 500
"""Of a key derivation: half a millisecond or so of work that only this process can do."""


async def echo(stream: WebTransportStream) -> None:
    await stream.write_all(data=await stream.read_all())


async def work(stream: WebTransportStream) -> None:
    data = await stream.read_all()
    await stream.write_all(data=hashlib.pbkdf2_hmac("sha256", data, b"salt", ROUNDS))


async def count(stream: WebTransportStream) -> None:
    while await stream.read(size=65536):
        pass
    await stream.write_all(data=b"done")


if __name__ == "__main__":
    port, certfile, keyfile, workers = sys.argv[1:]
    app = ServerApp(
        config=ServerConfig(
            bind_host="127.0.0.1",
            bind_port=int(port),
            certfile=certfile,
            keyfile=keyfile,
            access_log=False,
        )
    )
    for handler in (echo, work, count):
        app.stream_route(path=f"/{handler.__name__}")(handler)
    app.run(workers=int(workers))
