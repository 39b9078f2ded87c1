"""What is closed is freed at once: the collector has nothing to do with it."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    Event,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.asgi import AsgiServer
from pywebtransport.asgi._types import Receive, Scope, Send
from pywebtransport.client import ReconnectingClient
from pywebtransport.connection import WebTransportConnection
from pywebtransport.exceptions import MiddlewareRejected
from pywebtransport.pubsub import PubSubBroker, PubSubManager
from pywebtransport.rpc import RpcManager
from pywebtransport.types import EventType
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import Pair, Site, within
from tests.support.certificate import Certificate

from .place import until

CONNECTIONS = 1000
NOISE = 200
"""Objects of one kind that may come and go with the loop itself: its cancelled timers."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def use(site: Site) -> None:
    """One connection with a stream each way, datagrams and an event; closed by the client."""
    pair = await site.pair()
    near, far = await pair.stream()
    await near.write_all(data=b"request")
    assert await within(far.read_all()) == b"request"
    await far.write_all(data=b"answer")
    assert await within(near.read_all()) == b"answer"
    arrivals = await pair.server.create_datagram_transport()
    await pair.client.send_datagram(data=b"x")
    await within(arrivals.receive())
    for end in (pair.client, pair.server):
        end.on_any(handler=lambda event: None)
    await pair.client.close()
    for end in (pair.client, pair.server):
        await within(end.connection.wait_closed())
        await within(end.wait_closed())


def census() -> Counter[str]:
    return Counter(
        f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
    )


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("no_collector")
async def test_closed_connections_leave_nothing(site: MakeSite) -> None:
    here = await site()
    for _ in range(5):
        await use(here)
    await asyncio.sleep(0.1)
    before = census()
    for _ in range(CONNECTIONS):
        await use(here)
    assert await growth(before, at_least=5) == {}
    grown = {kind: count - before[kind] for kind, count in census().items()}
    assert {kind: more for kind, more in grown.items() if more > NOISE} == {}


async def growth(before: Counter[str], *, at_least: int) -> dict[str, int]:
    """What of ours is left once the last connections have drained (RFC 9000 §10.2)."""
    for _ in range(50):
        await asyncio.sleep(0.1)
        grown = {kind: count - before[kind] for kind, count in census().items()}
        if not (left := ours(grown, at_least=at_least)):
            break
    return left


def ours(grown: dict[str, int], *, at_least: int) -> dict[str, int]:
    names = ("pywebtransport.", "builtins.Native", "builtins.Endpoint", "builtins.Core", "aioquic.")
    return {k: more for k, more in grown.items() if k.startswith(names) and more >= at_least}


WAYS = ["streams open", "unread", "server closes", "connection closes", "second session", "manager"]


async def misuse(site: Site, way: str) -> None:
    pair = await site.pair()
    near, _ = await pair.stream()
    connection = pair.client.connection
    if way == "unread":
        await near.write(data=bytes(1000))
        await pair.client.send_datagram(data=b"x")
        await pair.client.create_unidirectional_stream()
    elif way == "server closes":
        reading = asyncio.ensure_future(near.read())
        await pair.server.close(code=7, reason="go")
        await asyncio.wait([reading])
        assert reading.exception() is not None
    elif way == "connection closes":
        await connection.close(reason="now")
    elif way == "second session":
        other = connection.create_session_optimistic(authority="127.0.0.1", path="/")
        await (await other).close()
    elif way == "manager":
        manager = pair.client.stream_manager
        assert manager is not None
        assert await manager.get_all_resources()
    await pair.client.close()
    await connection.close()
    for end in (pair.client, pair.server):
        await within(end.connection.wait_closed())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("way", WAYS)
async def test_ends_of_every_kind_leave_nothing(site: MakeSite, way: str) -> None:
    here = await site(
        initial_max_data=1 << 20, initial_max_streams_bidi=9, initial_max_streams_uni=9
    )
    count = 10
    for _ in range(2):
        await misuse(here, way)
    await asyncio.sleep(0.1)
    before = census()
    for _ in range(count):
        await misuse(here, way)
    assert await growth(before, at_least=count // 2) == {}


@pytest.mark.usefixtures("no_collector")
async def test_refused_connects_leave_nothing(site: MakeSite) -> None:
    here = await site()
    count = 10

    @here.app.middleware
    async def closed(*, session: WebTransportSession) -> bool:
        raise MiddlewareRejected(status_code=410)

    async def refused() -> None:
        try:
            await here.client.connect(url=here.url)
        except ClientError as error:
            assert error.status_code == 410

    for _ in range(2):
        await refused()
    await asyncio.sleep(0.1)
    before = census()
    for _ in range(count):
        await refused()
    assert await growth(before, at_least=count // 2) == {}


@pytest.mark.usefixtures("no_collector")
async def test_a_connect_cancelled_when_its_answer_came_leaves_nothing(
    site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is ready, and whoever waited for it is cancelled before being told."""
    here = await site()
    connects: list[asyncio.Task[WebTransportSession]] = []
    ready = WebTransportConnection._session_ready

    def cancel(self: WebTransportConnection, session: WebTransportSession) -> None:
        ready(self, session)
        if self.is_client:
            connects.pop().cancel()

    monkeypatch.setattr(WebTransportConnection, "_session_ready", cancel)
    count = 10

    async def cancelled() -> None:
        connects.append(asyncio.create_task(here.client.connect(url=here.url)))
        await asyncio.wait(connects[:])

    for _ in range(2):
        await cancelled()
    await asyncio.sleep(0.1)
    before = census()
    for _ in range(count):
        await cancelled()
    while not here.sessions.empty():
        here.sessions.get_nowait()
    assert await growth(before, at_least=count // 2) == {}


def ignore(event: Event) -> None: ...


async def with_rpc(pair: Pair) -> None:
    near, far = await pair.stream()
    async with (
        RpcManager(stream=near, session_id="near") as calling,
        RpcManager(stream=far, session_id="far") as serving,
    ):
        serving.register(func=len, name="length")
        assert await calling.call("length", "four") == 4


async def with_pubsub(pair: Pair) -> None:
    async with PubSubBroker() as broker:
        serving = asyncio.create_task(broker.handle_session(pair.server))
        async with PubSubManager(stream=await pair.client.create_bidirectional_stream()) as pubsub:
            subscription = await pubsub.subscribe(topic="news")
            async with subscription:
                await pubsub.publish(topic="news", data=b"x")
                async for data in subscription:
                    assert data == b"x"
                    break
            await pubsub.subscribe(topic="never-left")
        await pair.client.close()
        await serving


async def with_a_listener_to_datagrams(pair: Pair) -> None:
    for end in (pair.client, pair.server):
        end.on(event_type=EventType.DATAGRAM_RECEIVED, handler=ignore)
    await pair.client.send_datagram(b"x")


async def with_streams_that_nobody_takes(pair: Pair) -> None:
    link = pair.client._link
    assert link is not None
    for create in (
        pair.server.create_unidirectional_stream,
        pair.server.create_bidirectional_stream,
    ):
        await (await create()).write_all(b"for nobody")
    await until(lambda: len(link.streams) == 2)
    await pair.server.close()
    await within(pair.client.wait_closed())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "use",
    [with_rpc, with_pubsub, with_a_listener_to_datagrams, with_streams_that_nobody_takes],
)
async def test_what_is_built_on_a_session_leaves_nothing(
    site: MakeSite, use: Callable[[Pair], Awaitable[None]]
) -> None:
    here = await site()

    async def life() -> None:
        pair = await here.pair()
        await use(pair)
        await pair.client.close()
        for end in (pair.client, pair.server):
            await within(end.connection.wait_closed())

    count = 10
    for _ in range(2):
        await life()
    await asyncio.sleep(0.1)
    before = census()
    for _ in range(count):
        await life()
    assert await growth(before, at_least=count // 2) == {}


@pytest.mark.usefixtures("no_collector")
async def test_reconnecting_clients_leave_nothing(site: MakeSite) -> None:
    here = await site()

    async def life() -> None:
        async with ReconnectingClient(url=here.url, client=here.client) as reconnecting:
            session = await reconnecting.get_session()
            assert session is not None
            await within(here.sessions.get())
        await within(session.connection.wait_closed())

    count = 10
    for _ in range(2):
        await life()
    await asyncio.sleep(0.1)
    before = census()
    for _ in range(count):
        await life()
    assert await growth(before, at_least=count // 2) == {}


@pytest.mark.usefixtures("no_collector")
async def test_sessions_of_an_asgi_application_leave_nothing(
    engine: str, certificate: Certificate
) -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            match message["type"]:
                case "webtransport.connect":
                    await send({"type": "webtransport.accept"})
                case "webtransport.stream.receive":
                    fields = {name: message[name] for name in ("stream", "data", "more_data")}
                    await send({"type": "webtransport.stream.send", **fields})
                case "lifespan.startup" | "lifespan.shutdown":
                    await send({"type": f"{message['type']}.complete"})
            if message["type"] in ("webtransport.disconnect", "lifespan.shutdown"):
                return

    config = ServerConfig(
        engine=engine,
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        bind_host="127.0.0.1",
        bind_port=0,
    )
    trusting = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with (
        AsgiServer(echo, config=config) as app,
        WebTransportClient(config=trusting) as client,
    ):
        await app.server.listen()
        assert app.server.local_address is not None
        url = f"https://127.0.0.1:{app.server.local_address[1]}/"

        async def life() -> None:
            session = await client.connect(url)
            stream = await session.create_bidirectional_stream()
            await stream.write_all(b"x")
            assert await stream.read_all() == b"x"
            await session.close()
            await within(session.connection.wait_closed())

        count = 10
        for _ in range(2):
            await life()
        await asyncio.sleep(0.1)
        before = census()
        for _ in range(count):
            await life()
        assert await growth(before, at_least=count // 2) == {}
