"""The managers of a running server and session, and what they count."""

from __future__ import annotations

import asyncio

from examples.api.local import echo, serving
from pywebtransport import WebTransportClient
from pywebtransport.manager import SessionManager


async def main() -> None:
    async with (
        serving(echo) as (url, config),
        WebTransportClient(config=config) as client,
        SessionManager(max_sessions=10) as sessions,
    ):
        for _ in range(3):
            await sessions.add_session(session=await client.connect(url=url))
        stats = await sessions.get_stats()
        print(f"{stats['current_count']} of at most {stats['max_sessions']}")
        for session in await sessions.get_all_resources():
            await session.close()
        print(len(sessions), "after closing them")


if __name__ == "__main__":
    asyncio.run(main())
