"""Event loops end, with everything in them: no leak, no crash, and an exception that says so."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportError,
)

from .conftest import Lab, free_port
from .relay import Path
from .test_paths import exchange

RUNS = 5


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def clean_run(lab: Lab) -> None:
    async with lab.serve() as server, server.client(Path()) as (session, _):
        await exchange(session, b"x" * 10_000)
        await session.send_datagram(data=b"x")
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


async def failing_run(lab: Lab) -> None:
    """A client that finds nobody, and a session that the server never accepted."""
    config = ClientConfig(engine=lab.engine, verify_mode=ssl.CERT_NONE, connect_timeout=0.2)
    async with lab.serve(), WebTransportClient(config=config) as client:
        for url in (f"https://127.0.0.1:{lab.address[1]}/nowhere", "https://127.0.0.1:9/lab"):
            with pytest.raises(WebTransportError):
                await client.connect(url=url)
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


@pytest.mark.parametrize("run", [clean_run, failing_run])
def test_nothing_is_left_of_a_loop(lab: Lab, run: Callable[[Lab], Awaitable[None]]) -> None:
    counts: list[tuple[int, int]] = []
    for _ in range(RUNS):
        asyncio.run(run(lab))  # type: ignore[arg-type]
        gc.collect()
        counts.append((open_files(), threading.active_count()))
    print(f"{lab.engine}: files and threads after each loop: {counts}")
    assert counts[-1] == counts[0]


async def open_session(lab: Lab, kept: dict[str, Any]) -> None:
    """Everything that an application can hold, running."""
    port = free_port()
    certfile, keyfile = lab.certificate
    app = ServerApp(config=ServerConfig(engine=lab.engine, certfile=certfile, keyfile=keyfile))
    app.route(path="/lab")(lambda session: session.wait_closed())
    await app.__aenter__()
    await app.server.listen(host="127.0.0.1", port=port)
    config = ClientConfig(engine=lab.engine, verify_mode=ssl.CERT_NONE)
    client = await WebTransportClient(config=config).__aenter__()
    session = await client.connect(url=f"https://127.0.0.1:{port}/lab")
    stream = await session.create_bidirectional_stream()
    await stream.write(data=b"x")
    transport = await session.create_datagram_transport()
    kept.update(app=app, client=client, session=session, stream=stream, transport=transport)


OPERATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "read": lambda kept: kept["stream"].read(),
    "read_all": lambda kept: kept["stream"].read_all(),
    "write": lambda kept: kept["stream"].write(data=bytes(50 << 20)),
    "accept": lambda kept: kept["session"].accept_bidirectional_stream(),
    "receive": lambda kept: kept["transport"].receive(),
    "wait_closed": lambda kept: kept["session"].wait_closed(),
    "create": lambda kept: kept["session"].create_bidirectional_stream(),
    "send": lambda kept: kept["transport"].send(data=b"x"),
}
MAY_PASS = {"create", "send"}
"""What asks nothing of the peer may find room in a buffer."""


def test_objects_of_a_closed_loop_say_so(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever keeps a session beyond its loop gets an exception; nothing hangs or crashes."""
    kept: dict[str, Any] = {}
    with warnings.catch_warnings():
        # A loop closed over open transports warns of each: that is the point here.
        warnings.simplefilter("ignore")
        loop = asyncio.new_event_loop()
        loop.run_until_complete(open_session(lab, kept))
        loop.close()

        async def use(operation: Callable[[dict[str, Any]], Any]) -> None:
            async with asyncio.timeout(3):
                await operation(kept)

        for name, operation in OPERATIONS.items():
            try:
                asyncio.run(use(operation))
            except (RuntimeError, WebTransportError) as error:
                print(f"{lab.engine}: {name}: {error!r}")
            else:
                assert name in MAY_PASS, f"{name} says nothing"
        # Again, and not only because somebody seems to be at it.
        for _ in range(2):
            with pytest.raises(
                (RuntimeError, WebTransportError), match=r"loop is closed|different loop"
            ):
                asyncio.run(use(OPERATIONS["read"]))
        kept.clear()
        gc.collect()
    caplog.clear()
    asyncio.run(clean_run(lab))
