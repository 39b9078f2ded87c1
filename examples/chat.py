"""A chat room: one stream for each member; what one says, all hear. The first line is the name."""

from __future__ import annotations

from examples.local import configuration, run
from pywebtransport import ServerApp, WebTransportStream
from pywebtransport.stream import StreamBroadcaster

LONGEST_NAME, LONGEST_LINE = 100, 2000

app = ServerApp(config=configuration())
room = StreamBroadcaster()


@app.stream_route("/chat")
async def chat(stream: WebTransportStream) -> None:
    name = (await stream.readline(LONGEST_NAME)).decode(errors="replace").strip()
    room.add(stream)
    await room.broadcast(f"{name} comes in\n")
    try:
        while line := await stream.readline(LONGEST_LINE):
            await room.broadcast(f"{name}: {line.decode(errors='replace')}")
    finally:
        room.discard(stream)
        await room.broadcast(f"{name} leaves\n")


if __name__ == "__main__":
    run(app, "chat.html")
