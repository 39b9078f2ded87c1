"""One of several server processes of a topic space; says what happens in JSON lines.

``python -m tests.pubsub.server_process CERTFILE KEYFILE redis|nats|local URL``
It ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.events import Event
from pywebtransport.pubsub import (
    Backplane,
    LocalBackplane,
    NatsBackplane,
    PubSubBroker,
    RedisBackplane,
)
from pywebtransport.types import EventType
from tests.support.backplane_server import FAST_RETRY
from tests.support.laboratory import free_port

TOLD = (EventType.CONNECTION_ESTABLISHED, EventType.CONNECTION_LOST)


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def tell(event: Event) -> None:
    say(event=str(event.type), error=event.data["error"] if event.data else None)


def make_backplane(kind: str, url: str) -> Backplane:
    if kind == "redis":
        return RedisBackplane(url, **FAST_RETRY)
    if kind == "nats":
        return NatsBackplane(url, **FAST_RETRY)
    return LocalBackplane()


async def end_of_input() -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def main(certfile: str, keyfile: str, kind: str, url: str) -> None:
    config = ServerConfig(
        certfile=certfile, keyfile=keyfile, bind_host="127.0.0.1", bind_port=free_port()
    )
    app = ServerApp(config=config)
    broker = PubSubBroker(backplane=make_backplane(kind, url), max_queue_size=50_000)
    for event_type in TOLD:
        broker.backplane.events.on(event_type=event_type, handler=tell)
    broker.mount(app, path="/pubsub")
    async with app:
        await app.server.listen()
        assert app.server.local_address is not None
        say(event="listening", port=app.server.local_address[1])
        await end_of_input()
        stats = broker.stats
        say(event="ended", published=stats.messages_published, dropped=stats.messages_dropped)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
