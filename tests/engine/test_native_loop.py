"""The native engine inside its event loop: who may call, what a sink may raise, how it all ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from pywebtransport._engine.base import CloseInfo, EngineClosed, EngineConnection
from pywebtransport._engine.native import NativeEngine
from pywebtransport._engine.native_reactor import NativeConnection
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.exceptions import InvalidStateError

from .observer import PATIENCE, Observer

Make = Callable[..., Any]
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


class Lab:
    """A listener and as many clients as a test wants, all of one engine object."""

    def __init__(self, server: ServerConfig, client: ClientConfig) -> None:
        self.engine = NativeEngine()
        self._server = server
        self._client = client
        self.make_sink: Callable[[EngineConnection], Any] = Observer
        self.accepted: asyncio.Queue[Any] = asyncio.Queue()

    async def listen(self) -> None:
        self.listener = await self.engine.listen(
            config=self._server,
            host="127.0.0.1",
            port=0,
            on_connection=lambda connection: self.accepted.put_nowait(self.make_sink(connection)),
        )

    async def connect(self) -> NativeConnection:
        connection = await self.engine.connect(
            config=self._client, host="127.0.0.1", port=self.listener.local_address[1]
        )
        assert isinstance(connection, NativeConnection)
        return connection

    async def session(self) -> tuple[Observer, Observer, int]:
        near, far = Observer(await self.connect()), await self.accepted.get()
        return near, far, await establish(near, far)


async def establish(near: Observer, far: Observer) -> int:
    session_id = near.connection.open_session(authority="localhost", path="/", headers={})
    await far.next("session_requested")
    far.connection.accept_session(session_id)
    await near.next("session_established", session_id)
    return session_id


@pytest.fixture
async def lab(server_config: Make, client_config: Make) -> AsyncIterator[Lab]:
    lab = Lab(server_config(), client_config())
    await lab.listen()
    yield lab
    await lab.listener.close()


async def in_thread(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, or the exception it raises, in another thread."""

    def run() -> Any:
        try:
            return call()
        except Exception as error:
            return error

    async with asyncio.timeout(PATIENCE):
        return await asyncio.to_thread(run)


# threads


async def test_calls_from_another_thread_are_refused_and_change_nothing(lab: Lab) -> None:
    near, far, session_id = await lab.session()
    stream_id = await near.open(session_id)
    engine: Any = near.connection
    for call in (
        lambda: engine.stream_write(stream_id, b"stray", False),
        lambda: engine.stream_read(stream_id, -1),
        lambda: engine.stream_reset(stream_id, 1),
        lambda: engine.open_stream(session_id, False),
        lambda: engine.send_datagram(session_id, b"stray"),
        lambda: engine.receive_datagrams(session_id, 1),
        lambda: engine.close_session(session_id, code=1, reason=""),
        lambda: engine.close(code=1, reason=""),
    ):
        error = await in_thread(call)
        assert isinstance(error, InvalidStateError), call
        assert isinstance(error, RuntimeError)
        assert repr(threading.current_thread().name) in str(error)
        assert "called from thread 'asyncio_" in str(error)
    await near.write(stream_id, b"the only bytes", fin=True)
    await far.next("stream_opened")
    assert await far.read_all(stream_id) == b"the only bytes"
    assert far.of("session_closed") == far.of("datagrams_readable") == []


async def test_another_thread_may_look_while_a_sink_is_told(lab: Lab) -> None:
    """It once blocked with the GIL in its hand, and with it the whole process."""
    seen: list[Any] = []

    class Watched(Observer):
        def session_established(self, *details: Any) -> None:
            thread = threading.Thread(
                target=lambda: seen.extend(
                    (
                        client.is_closed,
                        client.is_client,
                        client.stats().packets_sent,
                        client.remote_address,
                    )
                )
            )
            thread.start()
            thread.join(PATIENCE)
            super().session_established(*details)

    client = await lab.connect()
    near, far = Watched(client), await lab.accepted.get()
    await establish(near, far)
    assert seen[:2] == [False, True]
    assert seen[2] > 0
    assert seen[3] == lab.listener.local_address


def test_endpoint_goes_with_its_event_loop_to_another_thread(
    server_config: Make, client_config: Make
) -> None:
    lab = Lab(server_config(), client_config())
    loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(lab.listen())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:

        async def visit() -> int:
            *_, session_id = await lab.session()
            return session_id

        assert asyncio.run_coroutine_threadsafe(visit(), loop).result(PATIENCE) == 0
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
    loop.run_until_complete(lab.listener.close())
    loop.close()


def test_what_a_closed_loop_of_another_thread_left_is_tidied_up(
    server_config: Make, client_config: Make
) -> None:
    lab = Lab(server_config(), client_config())

    async def leave_open() -> NativeConnection:
        await lab.listen()
        return await lab.connect()

    left: list[NativeConnection] = []
    thread = threading.Thread(target=lambda: left.append(asyncio.run(leave_open())))
    thread.start()
    thread.join(PATIENCE)
    assert len(left) == 1 and not left[0].is_closed

    async def go_on() -> None:
        await lab.listen()
        other = await lab.connect()
        other.close(code=0x100, reason="")
        await other.wait_closed()
        await lab.listener.close()

    asyncio.run(go_on())


# what a sink raises


async def test_defect_of_a_sink_is_logged_and_ends_its_connection_only(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Observer):
        def session_established(self, *details: Any) -> None:
            raise RuntimeError("a defect of the facade")

    healthy, other, session_id = await lab.session()
    broken, far = Broken(await lab.connect()), await lab.accepted.get()
    broken.connection.open_session(authority="localhost", path="/", headers={})
    await far.next("session_requested")
    far.connection.accept_session(0)
    assert (await broken.closed_with()).by == "local"
    assert (await far.closed_with()).code == 0x102
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.name.startswith("pywebtransport.")
    assert record.exc_info is not None and "a defect of the facade" in str(record.exc_info[1])
    stream_id = await healthy.open(session_id)
    await healthy.write(stream_id, b"still here", fin=True)
    await other.next("stream_opened")
    assert await other.read_all(stream_id) == b"still here"


@pytest.mark.parametrize("loop_name", LOOPS)
@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_comes_through_and_the_rest_is_told_if_it_goes_on(
    server_config: Make, client_config: Make, loop_name: str, exit_type: type[BaseException]
) -> None:
    loop = LOOPS[loop_name]()
    asyncio.set_event_loop(loop)
    lab = Lab(server_config(), client_config())

    class Leaving(Observer):
        def stream_opened(self, session_id: int, stream_id: int) -> None:
            super().stream_opened(session_id, stream_id)
            raise exit_type

    lab.make_sink = Leaving
    loop.run_until_complete(lab.listen())

    async def ask() -> tuple[Observer, Observer]:
        near, far, session_id = await lab.session()
        for _ in range(5):
            await near.open(session_id)
        await far.until(lambda: len(far.of("stream_opened")) == 5)
        return near, far

    asking = loop.create_task(ask())
    exits = 0
    while not asking.done():
        try:
            loop.run_until_complete(asyncio.wait([asking], timeout=PATIENCE))
        except exit_type:
            exits += 1
    near, far = asking.result()
    # uvloop keeps one of those that one of its turns brings.
    assert exits == 5 if loop_name == "asyncio" else exits >= 1

    async def leave() -> None:
        near.connection.close(code=0x100, reason="")
        await near.connection.wait_closed()
        await far.closed_with()
        await lab.listener.close()

    loop.run_until_complete(leave())
    asyncio.set_event_loop(None)
    loop.close()


# ends


async def test_connection_that_ends_before_anyone_listens_is_lost_once(lab: Lab) -> None:
    """Its socket, which others share, once lost two users for it and was closed under them."""
    healthy, far, session_id = await lab.session()
    for _ in range(3):
        early = await lab.connect()
        other = await lab.accepted.get()
        other.connection.close(code=7, reason="early")
        await early.wait_closed()
        told = Observer(early)
        assert await told.closed_with() == CloseInfo(code=7, reason="early", by="remote")
        assert told.told == [("closed", CloseInfo(code=7, reason="early", by="remote"))]
    await asyncio.sleep(1.2)  # an unused socket is closed after a second
    stream_id = await healthy.open(session_id)
    await healthy.write(stream_id, b"ping", fin=True)
    await far.next("stream_opened", session_id, stream_id)
    assert await far.read_all(stream_id) == b"ping"


async def test_cancelled_close_of_a_listener_tells_everybody(lab: Lab) -> None:
    near, far, session_id = await lab.session()
    stream_id = await far.open(session_id)
    assert far.connection.stream_write(stream_id, bytes(64 << 20), False) < 64 << 20
    assert far.connection.stream_read(stream_id, -1) == (b"", False)
    waiting = asyncio.ensure_future(far.connection.wait_closed())
    closing = asyncio.ensure_future(lab.listener.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(PATIENCE):
        await waiting
        await far.connection.wait_closed()
    assert (await far.closed_with()).by == "local"
    assert [each[0] for each in far.of("session_closed")] == [session_id]
    assert far.connection.stream_read(stream_id, -1) == (b"", True)
    with pytest.raises(EngineClosed):
        far.connection.stream_write(stream_id, b"x", False)
    assert (await near.closed_with()).by == "remote"
    await near.connection.wait_closed()
    assert far.connection.stats().packets_sent > 0


class Keeping(Observer):
    """Takes what a session has left when it ends, as the facade does."""

    def __init__(self, connection: EngineConnection) -> None:
        self.left: dict[int, bytes] = {}
        self.datagrams: list[bytes] = []
        super().__init__(connection)

    def session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None:
        for _, stream_id in self.of("stream_opened"):
            self.left[stream_id] = b""
            while (read := self.connection.stream_read(stream_id, 1000))[0]:
                self.left[stream_id] += read[0]
        self.datagrams = self.connection.receive_datagrams(session_id, 1000)
        super().session_closed(session_id, code, reason, by, error)


@pytest.mark.parametrize("is_late", [False, True])
async def test_what_came_before_the_end_can_be_read_in_it_also_by_who_listens_late(
    lab: Lab, is_late: bool
) -> None:
    client = await lab.connect()
    near = None if is_late else Keeping(client)
    far = await lab.accepted.get()
    session_id = client.open_session(authority="localhost", path="/", headers={})
    await far.next("session_requested")
    far.connection.accept_session(session_id)
    streams = [await far.open(session_id, True) for _ in range(2)]
    for stream_id in streams:
        await far.write(stream_id, bytes([stream_id]) * 5000, fin=True)
    far.connection.send_datagram(session_id, b"datagram")
    far.connection.close_session(session_id, code=3, reason="")
    await far.next("session_closed")
    far.connection.close(code=0x100, reason="")
    await far.closed_with()
    near = near or Keeping(client)
    assert await near.next("session_closed") == (session_id, 3, "", "remote")
    assert near.left == {each: bytes([each]) * 5000 for each in streams}
    assert near.datagrams == [b"datagram"]
    assert not near.of("stream_reset")
    # Nothing is kept for who does not come for it then.
    assert client.receive_datagrams(session_id, 10) == []
    assert client.stream_read(streams[0], -1) == (b"", True)


async def test_closed_connections_leave_nothing_without_the_collector(lab: Lab) -> None:
    await lab.session()
    left: weakref.WeakSet[Any] = weakref.WeakSet()
    gc.collect()
    gc.disable()
    try:
        for index in range(1_000):
            near, far = Observer(await lab.connect()), await lab.accepted.get()
            left.update((near, far, near.connection, far.connection))
            if index % 10 == 0:
                await establish(near, far)
            near.connection.close(code=0x100, reason="")
            await near.connection.wait_closed()
            await far.connection.wait_closed()
            del near, far
        await asyncio.sleep(0)
        assert len(left) == 0
    finally:
        gc.enable()


async def test_failed_connect_leaves_nothing_without_the_collector(
    lab: Lab, client_config: Make
) -> None:
    made: weakref.WeakSet[Any] = weakref.WeakSet()

    class Noted(NativeConnection):
        __slots__ = ()

        def __init__(self) -> None:
            super().__init__()
            made.add(self)

    lab._client = client_config(ca_certs=None)
    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pywebtransport._engine.native_reactor.NativeConnection", Noted)
            for _ in range(5):
                with suppress(Exception):
                    await lab.engine.connect(
                        config=lab._client,
                        host="localhost",
                        port=lab.listener.local_address[1],
                    )
        await asyncio.sleep(0)
        assert len(made) == 0
    finally:
        gc.enable()
