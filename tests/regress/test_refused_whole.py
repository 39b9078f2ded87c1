"""A call that is refused has changed nothing: the object goes on as before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import (
    ConfigurationError,
    InvalidStateError,
    SessionError,
    StreamResetError,
)
from pywebtransport.session import WebTransportSession
from tests.behaviour.conftest import MakeSite
from tests.behaviour.site import within
from tests.support.certificate import Certificate

from .place import Place

MAX_REASON = 1024


async def elsewhere(call: Callable[[], Awaitable[Any]]) -> None:
    """It is refused in the loop of another thread."""

    async def refused() -> None:
        with pytest.raises(InvalidStateError, match="run_coroutine_threadsafe"):
            await call()

    await within(asyncio.to_thread(asyncio.run, refused()))


@pytest.mark.parametrize("reason", [5, b"bye", ["x"]])
async def test_a_reason_that_is_no_text(site: MakeSite, reason: Any) -> None:
    pair = await (await site()).pair()
    with pytest.raises(TypeError, match="reason must be a str"):
        await pair.client.close(7, reason=reason)
    assert not pair.client.is_closed
    with pytest.raises(TypeError, match="reason must be a str"):
        await pair.client.connection.close(reason=reason)
    await within(pair.client.close(8, reason="at last"))
    await within(pair.server.wait_closed())
    assert (pair.server.close_code, pair.server.close_reason) == (8, "at last")


async def test_a_reason_that_has_no_bytes_or_too_many(site: MakeSite) -> None:
    place = await site()
    for given, heard in (
        ("a file \udcff", "a file ?"),
        ("é" * 1500, "é" * (MAX_REASON // 2)),
    ):
        pair = await place.pair()
        await within(pair.client.close(1, reason=given))
        await within(pair.server.wait_closed())
        assert pair.server.close_reason == heard


@pytest.mark.parametrize("size", [1_000, 1_024, 1_025, 1_300, 5_000])
async def test_a_connection_closes_however_long_its_reason(site: MakeSite, size: int) -> None:
    pair = await (await site()).pair()
    connection = pair.server.connection
    await within(pair.client.connection.close(code=0x10C, reason="x" * size))
    await within(connection.wait_closed())
    assert pair.client.connection.is_closed
    assert connection._close_info is not None
    assert connection._close_info.reason == "x" * min(size, MAX_REASON)


@pytest.mark.parametrize("code", [-1, 1 << 62, "1", 1.5, None])
async def test_a_connection_s_code_that_is_none(site: MakeSite, code: Any) -> None:
    pair = await (await site()).pair()
    connection = pair.client.connection
    with pytest.raises(ValueError, match="code must be an integer in"):
        await connection.close(code=code)
    assert connection.is_connected
    await within(connection.close(code=(1 << 62) - 1))
    assert connection.is_closed


async def test_ends_from_another_thread(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    await elsewhere(lambda: near.reset(1))
    await elsewhere(lambda: near.abort(1))
    await elsewhere(lambda: near.stop_receiving(1))
    assert near.is_readable and near.is_writable
    await near.reset(5)
    with pytest.raises(StreamResetError) as caught:
        await within(far.read())
    assert caught.value.error_code == 5

    async def in_a_block() -> None:
        async with pair.client:
            pass

    connection = pair.client.connection
    for call in (
        lambda: pair.client.close(3),
        in_a_block,
        pair.client.wait_closed,
        connection.close,
        connection.wait_closed,
    ):
        await elsewhere(call)
    assert not pair.client.is_closed and connection.is_connected
    await within(pair.client.close(4))
    await within(pair.server.wait_closed())
    assert pair.server.close_code == 4


async def test_servers_and_clients_from_another_thread(
    engine: str, certificate: Certificate
) -> None:
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def stay(session: WebTransportSession) -> None:
            await session.wait_closed()

        client: WebTransportClient
        async with place.client() as client:
            await elsewhere(place.app.server.close)
            await elsewhere(place.app.shutdown)
            session = await client.connect(place.url())
            await elsewhere(client.close)
            assert not session.is_closed
            await within(client.close())
            assert session.is_closed
        await within(place.app.server.close())
        assert not place.app.server.is_serving


async def test_sizes_that_are_none(site: MakeSite) -> None:
    pair = await (await site()).pair()
    near, far = await pair.stream()
    await far.write(b"0123456789")
    assert await within(near.readexactly(1)) == b"0"
    with pytest.raises(ValueError, match="max_size"):
        await within(near.read_all(-1))
    for size in (2.5, "2"):
        calls: list[Callable[[Any], Awaitable[Any]]] = [
            near.read,
            near.readexactly,
            near.read_all,
        ]
        for call in calls:
            with pytest.raises(TypeError):
                await within(call(size))
    with pytest.raises(ValueError, match="chunk_size"):
        async for _ in near.read_iter(chunk_size=0):
            pass
    assert await within(near.readexactly(3)) == b"123"
    assert await within(near.read()) == b"456789"


@pytest.mark.parametrize("order", [1.5, "1", 1 << 21])
async def test_an_order_that_is_none_opens_nothing(site: MakeSite, order: Any) -> None:
    pair = await (await site(client={"max_streams": 1})).pair()
    for create in (
        pair.client.create_bidirectional_stream,
        pair.client.create_unidirectional_stream,
    ):
        with pytest.raises(ValueError, match="send_order must be an integer"):
            await create(send_order=order)
    await pair.client.create_bidirectional_stream(send_order=3)


async def test_protocols_that_are_one_text(site: MakeSite) -> None:
    place = await site()
    with pytest.raises(ConfigurationError, match="wt_available_protocols"):
        await (await place.pair()).client.connection.create_session(
            authority="localhost",
            path="/",
            wt_available_protocols="ab",  # type: ignore[arg-type]
        )


async def test_answers_of_a_client(engine: str, certificate: Certificate) -> None:
    async with Place(engine, certificate) as place:

        @place.app.route("/")
        async def stay(session: WebTransportSession) -> None:
            await session.wait_closed()

        async with place.client() as client:
            session = await client.connect_optimistic(place.url())
            for answer in (session.accept, session.reject):
                with pytest.raises(SessionError, match="only a server"):
                    await answer()
            await within(session.ready())
            await within(session.create_bidirectional_stream())
