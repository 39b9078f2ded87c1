"""One QUIC connection, used without a client around it."""

from __future__ import annotations

import asyncio

from examples.api.local import echo, serving
from pywebtransport.connection import WebTransportConnection
from pywebtransport.utils import format_duration


async def main() -> None:
    async with serving(echo, path="/echo") as (url, config):
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        connection = await WebTransportConnection.create_client(
            config=config, host="127.0.0.1", port=port, path="/echo"
        )
        session_id = await connection.wait_for_ready_session()
        print(connection.state, connection.remote_address, bool(session_id))
        print("round trip:", format_duration(seconds=connection.diagnostics.rtt or 0.0))
        await connection.close(code=0, reason="done")


if __name__ == "__main__":
    asyncio.run(main())
