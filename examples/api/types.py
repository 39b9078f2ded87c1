"""A serializer of your own is anything of this shape."""

from __future__ import annotations

from typing import Any

from pywebtransport.types import Serializer, SessionState


class Upper:
    """Text in upper case."""

    def serialize(self, *, obj: Any) -> bytes:
        return str(obj).upper().encode()

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
        return data.decode()


def main() -> None:
    print(isinstance(Upper(), Serializer), Upper().serialize(obj="hello"))
    print([str(state) for state in SessionState])


if __name__ == "__main__":
    main()
