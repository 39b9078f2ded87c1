"""``python -m benches.growth.server PORT CERT KEY``: echoes streams; stops when it is killed."""

from __future__ import annotations

import asyncio
import logging
import sys

from pywebtransport import ServerApp, ServerConfig, WebTransportSession

MANY = 20_000
"""More of everything than is asked for."""
HOURS = 36_000.0
"""A busy machine may take long between two packets of a connection."""


async def main(port: int, certfile: str, keyfile: str) -> None:
    config = ServerConfig(
        certfile=certfile,
        keyfile=keyfile,
        access_log=False,
        connection_idle_timeout=HOURS,
        keep_alive=False,
        max_connections=MANY,
        quic_max_concurrent_bidi_streams=MANY,
        max_sessions=MANY,
        max_sessions_per_connection=MANY,
    )
    app = ServerApp(config=config)

    @app.route("/grow")
    async def grow(session: WebTransportSession) -> None:
        async for stream in session.incoming_bidirectional_streams():
            await stream.write(await stream.read_all(), end_stream=True)

    async with app:
        await app.serve(host="127.0.0.1", port=port)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4]))
