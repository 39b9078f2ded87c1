"""One contender: times every workload with the `pywebtransport` of this interpreter, prints JSON.

Started by run.py, once per round and contender. It uses only what both contenders have; for that
reason there is no `from __future__ import annotations`: 0.8.1 does not resolve string annotations.
Protocol Buffers are left out: 0.8.1 cannot read them with the C implementation of protobuf.
"""

import json
import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pywebtransport.serializer import JSONSerializer, MsgPackSerializer


@dataclass
class Point:
    x: int
    y: float
    name: str


@dataclass
class Shape:
    title: str
    points: list[Point]
    tags: dict[str, int]
    corners: tuple[int, ...]
    closed: bool


POINT = Point(3, 0.5, "corner")
SHAPE = Shape(
    "a polygon",
    [Point(number, number / 7, f"point {number}") for number in range(50)],
    {f"tag {number}": number for number in range(20)},
    tuple(range(20)),
    True,
)
PLAIN = {
    "id": 12345,
    "user": "someone",
    "roles": ["reader", "writer"],
    "scores": [number / 3 for number in range(30)],
    "nested": {"a": {"b": {"c": [1, 2, 3]}}},
}


def workloads() -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    plain: list[tuple[str, Any]] = [("JSON", JSONSerializer()), ("MsgPack", MsgPackSerializer())]
    for label, serializer in plain:
        for name, obj, obj_type in (
            ("plain dict", PLAIN, None),
            ("dataclass", POINT, Point),
            ("nested dataclasses", SHAPE, Shape),
        ):
            data = serializer.serialize(obj=obj)
            assert serializer.deserialize(data=data, obj_type=obj_type) == obj
            found[f"{label}, {name}, serialize"] = lambda s=serializer, o=obj: s.serialize(obj=o)
            found[f"{label}, {name}, deserialize"] = lambda s=serializer, d=data, t=obj_type: (
                s.deserialize(data=d, obj_type=t)
            )
    return found


def microseconds(call: Callable[[], Any], budget: float) -> float:
    timer = timeit.Timer(call)
    number, taken = timer.autorange(lambda number, taken: None)
    number = max(1, int(number * budget / 5 / taken))
    return min(timer.repeat(5, number)) / number * 1e6


if __name__ == "__main__":
    budget = float(sys.argv[1])
    json.dump({name: microseconds(call, budget) for name, call in workloads().items()}, sys.stdout)
