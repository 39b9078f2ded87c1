"""Cancelling whatever waits leaves the object usable, or closed as documented; nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pywebtransport.exceptions import SessionError, StreamError
from pywebtransport.session import WebTransportSession
from pywebtransport.types import EventType

from .conftest import MakeSite
from .site import ENDS, at_rest, blocked, cancelled, within
from .waiters import LIMITS, everything_waits, exhaust


async def test_connect(site: MakeSite) -> None:
    running = await site()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        await cancelled(await blocked(running.client.connect(url=url)))
    assert (await running.pair()).client.is_ready
    assert (await running.client.diagnostics()).stats.connections_failed == 1


async def test_connect_in_every_phase(site: MakeSite, engine: str) -> None:
    """Cancelled after one turn of the loop, two, three... until it is too late."""
    running = await site()
    for turns in range(200):
        task = asyncio.ensure_future(running.client.connect(url=running.url))
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            break
        await cancelled(task)
    print(f"{engine}: cancelled in {turns} phases of a connect")
    assert turns > 3
    assert (await task).is_ready
    assert (await running.pair()).client.is_ready
    connections = (await running.client.diagnostics()).connection_states
    assert sum(connections.values()) <= 2, connections


@pytest.mark.parametrize("direction", ["bidirectional", "unidirectional"])
@pytest.mark.parametrize("end", ENDS)
async def test_create_stream(site: MakeSite, end: str, direction: str) -> None:
    limits = {"initial_max_data": 1 << 20, "flow_control_window_auto_scale": False}
    limits |= {"initial_max_streams_bidi": 2, "initial_max_streams_uni": 2}
    pair = await (await site(**limits)).pair()
    session, other = pair.end(end), pair.other(end)
    create = getattr(session, f"create_{direction}_stream")
    accept = getattr(other, f"accept_{direction}_stream")
    opened: list[Any] = []
    session.on(
        event_type=EventType.STREAM_OPENED,
        handler=lambda event: opened.append(event.data["stream"]),
    )
    task = await exhaust(create)
    await cancelled(task)
    again = await blocked(create())
    stream = await within(accept())
    await stream.read()
    await stream.abort()
    if direction == "bidirectional":
        # The peer has another one to give when both sides are done with this.
        await opened[0].abort()
    fresh = await within(again)
    await fresh.write(data=b"fresh")
    await within(accept())
    assert await within((await within(accept())).read()) == b"fresh"


@pytest.mark.parametrize("direction", ["bidirectional", "unidirectional"])
@pytest.mark.parametrize("end", ENDS)
async def test_accept_stream(site: MakeSite, end: str, direction: str) -> None:
    pair = await (await site()).pair()
    accept = getattr(pair.end(end), f"accept_{direction}_stream")
    create = getattr(pair.other(end), f"create_{direction}_stream")
    await cancelled(await blocked(accept()))
    first, second = await blocked(accept()), await blocked(accept())
    await (await create()).write(data=b"one")
    # Cancelled when it may have been woken already: the stream is for the other.
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    stream = await within(second) if first.cancelled() else first.result()
    if not first.cancelled():
        second.cancel()
        await asyncio.wait([second])
    assert await within(stream.read()) == b"one"


READS: dict[str, dict[str, Any]] = {
    "read": {},
    "read_all": {},
    "readexactly": {"n": 6},
    "readline": {},
    "readuntil": {"separator": b"EF"},
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("end", ENDS)
async def test_read(site: MakeSite, end: str, name: str) -> None:
    """What a cancelled read has taken is there for the next one."""
    pair = await (await site()).pair()
    far, near = await pair.stream(end)
    operation = getattr(near, name)
    await cancelled(await blocked(operation(**READS[name])))
    if name != "read":
        task = await blocked(operation(**READS[name]))
        for byte in b"ABC":
            await far.write(data=bytes([byte]))
        await at_rest(lambda: near.diagnostics.stats.bytes_received, 0.05)
        await cancelled(task)
    else:
        await far.write(data=b"ABC")
    await far.write(data=b"DEF", end_stream=True)
    found = await within(operation(**READS[name]))
    rest = await within(near.read_all())
    assert found + rest == b"ABCDEF"
    assert found == b"ABCDEF" or name == "read"


@pytest.mark.parametrize("name", READS)
async def test_read_cancelled_as_data_comes(site: MakeSite, name: str) -> None:
    """Whichever of data and cancellation is first: every byte is read once."""
    pair = await (await site()).pair()
    far, near = await pair.stream()
    sent, found = b"", b""
    for number in range(100):
        part = b"%03d-EF\n" % number
        task = asyncio.ensure_future(getattr(near, name)(**READS[name]))
        await far.write(data=part)
        sent += part
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            found += task.result()
    await far.close()
    found += await within(near.read_all())
    assert found == sent


@pytest.mark.parametrize("name", ["write", "write_all"])
@pytest.mark.parametrize("end", ENDS)
async def test_write(site: MakeSite, end: str, name: str) -> None:
    """A write that has begun still goes out; one that has not, leaves no trace."""
    pair = await (await site(**LIMITS)).pair()
    near, far = await pair.stream(end)
    begun = await blocked(getattr(near, name)(data=b"a" * 300_000))
    if name == "write":
        behind = await blocked(near.write(data=b"b" * 1000))
        await cancelled(behind)
        behind = await blocked(near.write(data=b"c" * 1000))
    await at_rest(lambda: near.diagnostics.stats.bytes_sent, 0.1)
    await cancelled(begun)
    if name == "write":
        assert await within(far.readexactly(n=301_000)) == b"a" * 300_000 + b"c" * 1000
        await within(behind)
        await near.write(data=b"again", end_stream=True)
        assert await within(far.read_all()) == b"again"
    else:
        with pytest.raises(StreamError):
            await near.write(data=b"after the end")
        assert await within(far.read_all()) == b"a" * 300_000


async def test_flush(site: MakeSite) -> None:
    pair = await (await site(**LIMITS)).pair()
    near, far = await pair.stream()
    writer = await blocked(near.write(data=bytes(300_000)))
    await cancelled(await blocked(near.flush()))
    again = await blocked(near.flush())
    await within(far.readexactly(n=300_000))
    await within(again)
    await within(writer)


@pytest.mark.parametrize("name", ["receive", "receive_multiple", "receive_json"])
@pytest.mark.parametrize("end", ENDS)
async def test_receive_datagram(site: MakeSite, end: str, name: str) -> None:
    pair = await (await site()).pair()
    into = await pair.end(end).create_datagram_transport()
    out = await pair.other(end).create_datagram_transport()
    await cancelled(await blocked(getattr(into, name)()))
    first, second = await blocked(into.receive()), await blocked(into.receive())
    await out.send(data=b"1")
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    if first.cancelled():
        assert await within(second) == b"1"
    else:
        await cancelled(second)
    await out.send(data=b"2")
    assert await within(getattr(into, name)()) in (b"2", [b"2"], 2)


async def test_session_ready(site: MakeSite) -> None:
    running = await site()
    gate = asyncio.Event()

    async def hold(*, session: WebTransportSession) -> bool:
        await gate.wait()
        return True

    running.app.add_middleware(middleware=hold)
    session = await running.client.connect_optimistic(url=running.url)
    await cancelled(await blocked(session.ready()))
    await cancelled(await blocked(session.create_bidirectional_stream()))
    await cancelled(await blocked(session.create_datagram_transport()))
    again = await blocked(session.ready())
    gate.set()
    await within(again)
    assert session.is_ready
    assert await within(session.create_bidirectional_stream())


async def test_connect_that_is_not_answered(site: MakeSite) -> None:
    """The session is given up, and the server's handler of it ends."""
    running = await site()
    asked, answered = asyncio.Event(), asyncio.Event()

    async def hold(*, session: WebTransportSession) -> bool:
        asked.set()
        await session.wait_closed()
        answered.set()
        return True

    running.app.add_middleware(middleware=hold)
    task = asyncio.ensure_future(running.client.connect(url=running.url))
    await within(asked.wait())
    await cancelled(task)
    await within(answered.wait())
    assert running.sessions.empty()


async def test_session_close(site: MakeSite) -> None:
    """Cancelled while it waits for delivery, it has closed the session all the same."""
    pair = await (await site(**LIMITS)).pair()
    near, far = await pair.stream()
    writer = await blocked(near.write(data=bytes(300_000)))
    await cancelled(await blocked(pair.client.close(code=5)))
    assert pair.client.is_closed
    with pytest.raises(StreamError):
        await within(writer)
    await pair.client.close()
    await within(pair.server.wait_closed())
    with pytest.raises(SessionError):
        await pair.client.create_bidirectional_stream()
    with pytest.raises(StreamError):
        await far.read_all()


async def test_wait_closed(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, _ = await pair.stream()
    connection = pair.client.connection
    assert connection is not None
    for thing in (near, pair.client, connection):
        await cancelled(await blocked(thing.wait_closed()))
    waiters = [await blocked(thing.wait_closed()) for thing in (near, pair.client, connection)]
    await pair.client.close()
    await within(asyncio.wait(waiters, return_when=asyncio.ALL_COMPLETED))
    assert not any(waiter.exception() for waiter in waiters)


async def test_connection_close(site: MakeSite) -> None:
    pair = await (await site()).pair()
    connection = pair.client.connection
    assert connection is not None
    task = asyncio.ensure_future(connection.close())
    await asyncio.sleep(0)
    task.cancel()
    await within(asyncio.wait([task]))
    await within(connection.close())
    assert connection.is_closed and pair.client.is_closed
    await within(pair.server.wait_closed())


@pytest.mark.parametrize("turns", [1, 2, 5, 20])
async def test_server_close(site: MakeSite, turns: int) -> None:
    """However far it got: afterwards the server is closed and its port is free."""
    running = await site()
    pair = await running.pair()
    forever = await blocked(running.app.server.serve_forever())
    address = running.app.server.local_address
    assert address is not None
    task = asyncio.ensure_future(running.app.server.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await within(asyncio.wait([task]))
    await within(running.app.server.close())
    assert not running.app.server.is_serving
    await within(asyncio.wait([forever]))
    assert forever.done() and pair.server.is_closed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(address)


async def test_server_close_that_waits_for_its_socket(
    site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever serves for ever is told even then."""
    server = (await site()).app.server
    forever = await blocked(server.serve_forever())
    listener: Any = server._listener
    closing = asyncio.Event()

    async def wait() -> None:
        closing.set()
        await asyncio.get_running_loop().create_future()

    with monkeypatch.context() as patch:
        patch.setattr(listener, "close", wait)
        task = asyncio.ensure_future(server.close())
        await within(closing.wait())
        await cancelled(task)
    await within(forever)
    await within(listener.close())


async def test_everything_cancelled_at_once(site: MakeSite) -> None:
    pair = await (await site(**LIMITS, close_timeout=0.5)).pair()
    tasks = await everything_waits(pair, "client")
    for task in tasks.values():
        task.cancel()
    await within(asyncio.wait(tasks.values()))
    assert all(task.cancelled() for task in tasks.values())
    transport = await pair.client.create_datagram_transport()
    peer = await pair.server.create_datagram_transport()
    await peer.send(data=b"alive")
    assert await within(transport.receive()) == b"alive"
