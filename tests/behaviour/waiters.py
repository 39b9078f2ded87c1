"""One task in each operation that can wait, and what each must end with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pywebtransport.exceptions import (
    DatagramError,
    SessionClosedError,
    SessionError,
    StreamError,
    WebTransportError,
)
from pywebtransport.session import WebTransportSession

from .site import Pair, at_rest, blocked, within

LIMITS: dict[str, Any] = {
    "quic_max_concurrent_bidi_streams": 24,
    "quic_max_concurrent_uni_streams": 4,
    "quic_stream_receive_window": 64 * 1024,
    "quic_send_window": 64 * 1024,
    "max_stream_buffer_size": 64 * 1024,
}
"""A site with these has limits that a test can reach."""

ENDINGS: dict[str, type[WebTransportError] | None] = {
    "accept_bidirectional_stream": SessionClosedError,
    "accept_unidirectional_stream": SessionClosedError,
    "create_bidirectional_stream": SessionError,
    "create_unidirectional_stream": SessionError,
    "incoming_streams": None,
    "incoming_bidirectional_streams": None,
    "incoming_unidirectional_streams": None,
    "read": StreamError,
    "read_all": StreamError,
    "readexactly": StreamError,
    "readline": StreamError,
    "readuntil": StreamError,
    "receive": DatagramError,
    "receive_multiple": DatagramError,
    "session.wait_closed": None,
    "stream.wait_closed": None,
    "write": StreamError,
    "write_all": StreamError,
    "flush": StreamError,
}
"""The exception that the documentation names for the end of the session; None: it returns."""


async def exhaust(create: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """Open streams until one has to wait."""
    for _ in range(200):
        task = asyncio.ensure_future(create())
        for _ in range(10):
            await asyncio.sleep(0)
        if not task.done():
            return task
        stream = task.result()
        # A stream exists for the peer with its first byte.
        await stream.write(data=b"-")
    raise AssertionError("no limit was reached")


async def everything_waits(pair: Pair, end: str) -> dict[str, asyncio.Task[Any]]:
    """A task for each of ENDINGS, on this end of the session."""
    session = pair.end(end)
    tasks: dict[str, asyncio.Task[Any]] = {}

    async def wait(name: str, awaitable: Any) -> None:
        tasks[name] = await blocked(awaitable)

    for name, operation in {
        "read": lambda stream: stream.read(),
        "read_all": lambda stream: stream.read_all(),
        "readexactly": lambda stream: stream.readexactly(n=10),
        "readline": lambda stream: stream.readline(),
        "readuntil": lambda stream: stream.readuntil(separator=b"--"),
        "stream.wait_closed": lambda stream: stream.wait_closed(),
        "write": lambda stream: stream.write(data=bytes(1 << 20)),
        "write_all": lambda stream: stream.write_all(data=bytes(1 << 20)),
    }.items():
        near, far = await pair.stream(end)
        await wait(name, operation(near))
        if name.startswith("read"):
            # Some data first: an operation that has taken some is the harder case.
            await far.write(data=b"" if name == "read" else b"some")
        if name.startswith("write"):
            await at_rest(lambda stream=near: stream.diagnostics.stats.bytes_sent, 0.1)
        if name == "write":
            await wait("flush", near.flush())
    transport = await session.create_datagram_transport()
    await wait("receive", transport.receive())
    await wait("receive_multiple", transport.receive_multiple())
    await wait("session.wait_closed", session.wait_closed())
    for name in ("incoming_streams", "incoming_bidirectional_streams"):
        await wait(name, exhausted(session, name))
    await wait("incoming_unidirectional_streams", exhausted(session, name))
    await wait("accept_bidirectional_stream", session.accept_bidirectional_stream())
    await wait("accept_unidirectional_stream", session.accept_unidirectional_stream())
    for name in ("create_bidirectional_stream", "create_unidirectional_stream"):
        tasks[name] = await exhaust(getattr(session, name))
    assert set(tasks) == set(ENDINGS)
    for name, task in tasks.items():
        assert not task.done(), f"{name} does not wait"
    return tasks


async def exhausted(session: WebTransportSession, name: str) -> None:
    async for stream in getattr(session, name)():
        raise AssertionError(f"nobody opened {stream}")


async def check_endings(
    tasks: dict[str, asyncio.Task[Any]], *, is_clean: bool = False
) -> list[str]:
    """Everybody wakes, with what is documented; the texts of the exceptions.

    A clean end is the end of the data for who reads some of it.
    """
    _, pending = await within(asyncio.wait(tasks.values(), timeout=8))
    asleep = [name for name, task in tasks.items() if task in pending]
    assert not asleep, f"nobody woke {asleep}"
    wrong: dict[str, Any] = {}
    texts = []
    for name, expected in ENDINGS.items():
        error = tasks[name].exception()
        if is_clean and name in ("read", "readline", "readuntil"):
            expected = None
        if is_clean and name == "readexactly":
            if not isinstance(error, asyncio.IncompleteReadError):
                wrong[name] = error
        elif expected is None:
            if error is not None:
                wrong[name] = error
        elif not isinstance(error, expected):
            wrong[name] = error or tasks[name].result()
        else:
            texts.append(f"{name}: {error}")
    assert not wrong, f"other endings than documented: {wrong}"
    return texts
