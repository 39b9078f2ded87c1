"""Typed messages: a dataclass out, the same dataclass in."""

from __future__ import annotations

from dataclasses import dataclass

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer import JSONSerializer


@dataclass
class Point:
    x: int
    y: int


def main() -> None:
    serializer = JSONSerializer()
    data = serializer.serialize(obj=Point(x=1, y=2))
    print(data, serializer.deserialize(data=data, obj_type=Point))
    try:
        serializer.deserialize(data=b'{"x": 1}', obj_type=Point)
    except SerializationError as error:
        print(error)


if __name__ == "__main__":
    main()
