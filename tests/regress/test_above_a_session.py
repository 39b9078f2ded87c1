"""What is built on a session hears of its end, has bounds of its own, and waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport.client import ReconnectingClient
from pywebtransport.datagram import DatagramReliabilityLayer
from pywebtransport.exceptions import DatagramSessionClosedError
from pywebtransport.pubsub import PubSubBroker, PubSubError, PubSubManager
from pywebtransport.rpc import RpcManager, manager
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import StreamBroadcaster
from pywebtransport.types import EventType
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within
from tests.support.certificate import Certificate

from .place import Place, until

SHORT = 0.2


class Stubborn:
    """Swallows its cancellation until the test lets it go."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()
        self.may_end = asyncio.Event()
        self.has_ended = asyncio.Event()

    async def __call__(self, *_: Any) -> None:
        self.runs.set()
        while not self.may_end.is_set():
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                continue
        self.has_ended.set()

    async def release(self) -> None:
        self.may_end.set()
        await within(self.has_ended.wait())


async def test_rpc_closes_beside_a_function_that_swallows_its_cancellation(
    site: MakeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager, "CLOSE_TIMEOUT", SHORT)
    near, far = await (await (await site()).pair()).stream()
    stubborn = Stubborn()
    calling = RpcManager(stream=near, session_id="near")
    serving = RpcManager(stream=far, session_id="far")

    async def endless() -> None:
        await stubborn()

    serving.register(func=endless)
    async with calling, serving:
        await calling.notify("endless")
        await within(stubborn.runs.wait())
        await within(serving.close())
    assert "a function of RPC still runs" in caplog.text
    await stubborn.release()


async def test_a_reconnecting_client_closes_beside_such_a_handler(
    engine: str, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = Stubborn()
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def stay(session: WebTransportSession) -> None:
            await session.wait_closed()

        async with place.client(close_timeout=SHORT) as client:
            reconnecting = ReconnectingClient(url=place.url(), client=client)
            reconnecting.on(event_type=EventType.CONNECTION_ESTABLISHED, handler=stubborn)
            async with reconnecting:
                await within(stubborn.runs.wait())
                await within(reconnecting.close())
            assert "still runs" in caplog.text
            await stubborn.release()


@pytest.mark.parametrize("code", [0, 4])
async def test_who_waits_in_a_reliability_layer_hears_of_the_end(site: MakeSite, code: int) -> None:
    pair = await (await site()).pair()
    transport = await pair.client.create_datagram_transport()
    async with DatagramReliabilityLayer(transport, ack_timeout=60) as layer:

        async def send_for_ever() -> None:
            # Nobody acknowledges.
            while True:
                await layer.send(data=b"x")

        receiving = asyncio.create_task(layer.receive())
        sending = asyncio.create_task(send_for_ever())
        await until(lambda: len(layer._room) > 0)
        await pair.server.close(code)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: receiving,
            lambda: sending,
            layer.receive,
        ]
        for call in calls:
            with pytest.raises(DatagramSessionClosedError) as caught:
                await within(call())
            assert caught.value.close_code == code


@pytest.mark.parametrize("end", ["clean", "code", "reset", "lost"])
async def test_a_subscription_ends_quietly_only_where_all_is_well(
    engine: str, certificate: Certificate, end: str
) -> None:
    broker = PubSubBroker()
    sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
    async with Place(engine, certificate) as place, broker:

        @place.app.route("/")
        async def serve(session: WebTransportSession) -> None:
            serving = asyncio.create_task(broker.handle_session(session))
            sessions.put_nowait(session)
            await session.wait_closed()
            await serving

        session = await place.connect()
        stream = await session.create_bidirectional_stream()
        async with PubSubManager(stream=stream) as pubsub:
            subscription = await within(pubsub.subscribe(topic="news"))
            await pubsub.publish(topic="news", data=b"last")
            received: list[bytes] = []

            async def listen() -> None:
                async with subscription:
                    async for data in subscription:
                        received.append(data)

            listening = asyncio.create_task(listen())
            await until(lambda: received == [b"last"])
            far = await sessions.get()
            match end:
                case "clean":
                    await far.close()
                case "code":
                    await far.close(4)
                case "lost":
                    await far.connection.close(code=0x102)
                case "reset":
                    link = far._link
                    assert link is not None
                    for each in list(link.streams.values()):
                        await each.abort(9)  # type: ignore[attr-defined]
            if end == "clean":
                await within(listening)
            else:
                with pytest.raises(PubSubError, match="stream failed"):
                    await within(listening)


async def test_a_broadcast_waits_for_nobody_whatever_may_be_kept(site: MakeSite) -> None:
    most = 4 << 20
    place = await site(write_timeout=None)
    room = StreamBroadcaster(max_backlog=most)
    ends = []
    for _ in range(2):
        near, far = await (await place.pair()).stream("server")
        room.add(near)
        ends.append(far)
    _, quick = ends
    received = 0

    async def read() -> None:
        nonlocal received
        async for data in quick:
            received += len(data)

    reading = asyncio.create_task(read())
    sent = 0
    payload = bytes(600_000)

    def is_read() -> bool:
        return received == sent

    while len(room) == 2:
        async with asyncio.timeout(1):
            assert await room.broadcast(payload) >= 1
        sent += len(payload)
        await until(is_read)
    assert most < sent
    reading.cancel()
