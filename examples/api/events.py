"""An emitter of your own: listen, wait, emit."""

from __future__ import annotations

import asyncio

from pywebtransport.events import Event, EventEmitter
from pywebtransport.types import EventType


async def main() -> None:
    emitter = EventEmitter()

    async def on_ready(event: Event) -> None:
        print("ready:", event.data)

    emitter.on(event_type=EventType.SESSION_READY, handler=on_ready)
    waiting = asyncio.create_task(
        emitter.wait_for(event_type=EventType.SESSION_CLOSED, timeout=5.0)
    )
    await asyncio.sleep(0)
    await emitter.emit(event_type=EventType.SESSION_READY, data={"session": "a"})
    await emitter.emit(event_type=EventType.SESSION_CLOSED, data={"code": 0})
    print("closed:", (await waiting).data)
    await emitter.close()


if __name__ == "__main__":
    asyncio.run(main())
