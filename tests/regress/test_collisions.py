"""A peer cannot make a set or a dict compare every element with every other."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer
from pywebtransport.serializer._convert import MAX_EQUAL_HASHES

MODULUS = (1 << 61) - 1
"""What Python reduces the hashes of numbers by."""


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def colliding(kind: Any, count: int) -> tuple[Any, Any]:
    """A type and as many plain values whose elements have one hash, which differ."""
    numbers = [MODULUS * n for n in range(1, count + 1)]
    if kind == "set":
        return set[int], numbers
    if kind == "frozenset":
        return frozenset[int], numbers
    if kind == "uuid":
        return set[uuid.UUID], [str(uuid.UUID(int=number)) for number in numbers]
    if kind == "dataclass":
        return set[Point], [{"x": number, "y": 0} for number in numbers]
    if kind == "tuple":
        return set[tuple[int, ...]], [[number] for number in numbers]
    return dict[int, str], {str(number): "" for number in numbers}


KINDS = ["set", "frozenset", "uuid", "dataclass", "tuple", "dict"]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_hashes_are_refused_at_once(kind: str) -> None:
    hint, plain = colliding(kind, 20_000)
    data = json.dumps(plain).encode()
    started = time.process_time()
    with pytest.raises(SerializationError, match="the same hash"):
        JSONSerializer().deserialize(data=data, obj_type=hint)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_so_many_and_one_more(kind: str) -> None:
    hint, plain = colliding(kind, MAX_EQUAL_HASHES)
    made = JSONSerializer().deserialize(data=json.dumps(plain).encode(), obj_type=hint)
    assert len(made) == MAX_EQUAL_HASHES
    hint, plain = colliding(kind, MAX_EQUAL_HASHES + 1)
    with pytest.raises(SerializationError):
        JSONSerializer().deserialize(data=json.dumps(plain).encode(), obj_type=hint)


def test_many_elements_and_repeated_ones_are_fine() -> None:
    plain = [*range(50_000), *[7] * 1000, *[True] * 1000, *[-1, -2] * 100]
    for serializer, data in (
        (JSONSerializer(), json.dumps(plain).encode()),
        (MsgPackSerializer(), MsgPackSerializer().serialize(obj=plain)),
    ):
        assert len(serializer.deserialize(data=data, obj_type=set[int])) == 50_002
