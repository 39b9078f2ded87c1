"""States, event types, and the protocols that callers implement."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Any

import pytest

from pywebtransport import types
from pywebtransport.types import (
    AuthHandlerProtocol,
    ConnectionState,
    EventType,
    MiddlewareProtocol,
    Serializer,
    SessionState,
    StreamDirection,
    StreamState,
    WebTransportProtocol,
)


@pytest.mark.parametrize(
    "enum", [ConnectionState, EventType, SessionState, StreamDirection, StreamState]
)
def test_value_is_the_name_in_lower_case_and_equals_text(enum: type[StrEnum]) -> None:
    for member in enum:
        assert member == member.name.lower()
        assert {member.value: 1}[member] == 1


def test_protocols_are_checked_at_run_time() -> None:
    class Allow:
        async def __call__(self, **kwargs: Any) -> bool:
            return True

    class Text:
        def serialize(self, *, obj: Any) -> bytes:
            return str(obj).encode()

        def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
            return data.decode()

    assert isinstance(Allow(), AuthHandlerProtocol)
    assert isinstance(Allow(), MiddlewareProtocol)
    assert isinstance(Text(), Serializer)
    assert not isinstance(object(), Serializer)
    assert not isinstance(asyncio.Protocol(), WebTransportProtocol)


def test_everything_public_is_there() -> None:
    assert all(hasattr(types, name) for name in types.__all__)
