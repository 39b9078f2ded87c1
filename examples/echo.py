"""Echo: whatever comes on a stream or in a datagram goes back."""

from __future__ import annotations

import asyncio

from examples.local import configuration, run
from pywebtransport import ServerApp, WebTransportSession, WebTransportStream

app = ServerApp(config=configuration())


async def echo_stream(stream: WebTransportStream) -> None:
    async for data in stream:
        await stream.write(data)
    await stream.close()


async def echo_datagrams(session: WebTransportSession) -> None:
    datagrams = await session.create_datagram_transport()
    async for data in datagrams:
        await datagrams.send(data)


@app.route("/echo")
async def echo(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(echo_datagrams(session))
        async for stream in session.incoming_bidirectional_streams():
            tasks.create_task(echo_stream(stream))


if __name__ == "__main__":
    run(app, "echo.html")
