"""Typed objects on a stream."""

from __future__ import annotations

import asyncio
import re
import struct
from typing import Any

import pytest

from pywebtransport.exceptions import ConfigurationError, SerializationError, StreamError
from pywebtransport.serializer import JSONSerializer
from pywebtransport.stream import StructuredStream
from tests.api.ends import ends, turns

REGISTRY: dict[int, type[Any]] = {258: dict, 3: list}


def wrap(stream: Any, **options: Any) -> StructuredStream:
    return StructuredStream(
        stream=stream, serializer=JSONSerializer(), registry=REGISTRY, **options
    )


async def test_objects_there_and_back() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        sender, receiver = wrap(stream), wrap(other)
        assert sender.stream_id == stream.stream_id
        for obj in ({"x": 1, "y": "a"}, [1, 2, 3]):
            await sender.send_obj(obj=obj)
        await sender.close()
        assert [obj async for obj in receiver] == [{"x": 1, "y": "a"}, [1, 2, 3]]
        assert not receiver.is_closed


async def test_bytes_of_a_message() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        await wrap(stream).send_obj(obj={"x": 1, "y": "a"})
        assert await other.read() == bytes.fromhex("010200000012") + b'{"x": 1, "y": "a"}'


async def test_unknown_class_and_unknown_id() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        with pytest.raises(SerializationError, match="set"):
            await wrap(stream).send_obj(obj=set())
        await stream.write(data=struct.pack("!HI", 9, 2) + b"{}")
        with pytest.raises(SerializationError, match="type id 9"):
            await wrap(other).receive_obj()
        assert await other.read() == b"{}"


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (b"", "the stream ended$"),
        (b"\x01", "within a message, 1 of 6 bytes"),
        (struct.pack("!HI", 3, 9), "within a message, 0 of 9 bytes"),
        (struct.pack("!HI", 3, 9) + b"[1", "within a message, 2 of 9 bytes"),
    ],
)
async def test_end_in_header_or_payload(end: bytes, text: str) -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        await stream.write_all(data=end)
        with pytest.raises(StreamError) as caught:
            await wrap(other).receive_obj()
        assert re.search(text, caught.value.message)


async def test_cancelled_receive_loses_nothing() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        receiver = wrap(other)
        message = struct.pack("!HI", 3, 5) + b"[1,2]"
        for piece in (message[:3], message[3:8], message[8:]):
            receiving = asyncio.create_task(receiver.receive_obj())
            await turns()
            receiving.cancel()
            await asyncio.wait([receiving])
            assert receiving.cancelled()
            await stream.write(data=piece)
            await turns()
        await stream.write(data=struct.pack("!HI", 258, 2) + b"{}")
        assert [await receiver.receive_obj() for _ in range(2)] == [[1, 2], {}]


async def test_message_at_the_limit_and_one_past_it() -> None:
    async with ends() as both:
        stream, other = await both.bidirectional()
        sender, receiver = wrap(stream), wrap(other, max_message_size=10)
        await sender.send_obj(obj=["123456"])
        assert await receiver.receive_obj() == ["123456"]
        await sender.send_obj(obj=["1234567"])
        with pytest.raises(SerializationError, match="max_message_size=10"):
            await receiver.receive_obj()
        assert receiver.is_closed
        with pytest.raises(StreamError):
            await receiver.receive_obj()


def test_bad_registries() -> None:
    stream: Any = None
    for registry in ({1: int, 2: int}, {65536: int}):
        with pytest.raises(ConfigurationError):
            StructuredStream(stream=stream, serializer=JSONSerializer(), registry=registry)
