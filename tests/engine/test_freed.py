"""What a closed connection leaves: nothing, and nothing for the collector to find."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pywebtransport._engine.base import Engine
from pywebtransport.config import ClientConfig

from .conftest import Listen
from .observer import PATIENCE, Observer, Pair


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("engine_name", ["aioquic"], indirect=True)
async def test_closed_connections_are_freed_without_the_collector(
    engine: Engine, listen: Listen, client_config: Callable[..., ClientConfig], no_collector: None
) -> None:
    server = await listen()
    loop = asyncio.get_running_loop()
    parts: list[weakref.ref[Any]] = []
    freed: list[asyncio.Future[None]] = []

    async def live_and_end() -> None:
        connection = await engine.connect(
            config=client_config(),
            host="localhost",
            port=server.port,
            remote=("127.0.0.1", server.port),
        )
        pair = Pair(Observer(connection), await server.accepted.get(), server.listener)
        session_id = await pair.session()
        stream_id = await pair.client.open(session_id)
        await pair.client.write(stream_id, b"unread")
        await pair.server.next("stream_opened")
        connection.close(code=0x100, reason="")
        for end in (pair.client, pair.server):
            await end.closed_with()
            ended: Any = end.connection
            assert ended.stats().packets_sent > 0
            assert ended.remote_address is not None
            parts.extend(
                weakref.ref(part) for part in (ended._quic, ended._quic.tls, ended._inbound)
            )
            freed.append(loop.create_future())
            weakref.finalize(ended, freed[-1].set_result, None)

    for _ in range(3):
        await live_and_end()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(freed)
    assert [part() for part in parts] == [None] * len(parts)
