"""The wire format: a 4-byte length, then that many bytes of JSON. No I/O here.

A message with ``method`` is a request (a notification when it has no id), one with ``result`` or
``error`` a response. The format of PyWebTransport 0.8 has these members only; JSON-RPC 2.0 adds
``jsonrpc``, batches in an array, and parameters by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pywebtransport.rpc.exceptions import RpcError, RpcErrorCode

__all__ = [
    "FrameDecoder",
    "RpcErrorResponse",
    "RpcRequest",
    "RpcSuccessResponse",
    "decode_message",
    "encode_frame",
    "is_request",
    "is_response",
]

LENGTH_SIZE = 4
MAX_LENGTH = (1 << 32) - 1


@dataclass(kw_only=True)
class RpcRequest:
    """A call."""

    id: str | int
    method: str
    params: list[Any] | dict[str, Any]


@dataclass(kw_only=True)
class RpcSuccessResponse:
    """What a call returned."""

    id: str | int
    result: Any


@dataclass(kw_only=True)
class RpcErrorResponse:
    """Why a call failed; without an id when the request could not be read."""

    id: str | int | None
    error: dict[str, Any]


def encode_frame(message: Any, *, max_size: int = MAX_LENGTH) -> bytes:
    """The frame of a message. TypeError or ValueError when it has no JSON form or is too large."""
    payload = json.dumps(message).encode()
    if len(payload) > max_size:
        raise ValueError(f"a message of {len(payload)} bytes is larger than {max_size}")
    return len(payload).to_bytes(LENGTH_SIZE) + payload


def decode_message(payload: bytes) -> Any:
    """The JSON of a frame. RpcError (PARSE_ERROR) when it is not JSON."""
    try:
        return json.loads(str(payload, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise RpcError(
            f"the frame is not JSON: {error}", error_code=RpcErrorCode.PARSE_ERROR
        ) from error


def is_request(message: Any) -> bool:
    """Whether it asks for a call."""
    return isinstance(message, dict) and "method" in message


def is_response(message: Any) -> bool:
    """Whether it answers one."""
    return (
        isinstance(message, dict)
        and "method" not in message
        and ("result" in message or "error" in message)
    )


class FrameDecoder:
    """Cuts a byte stream into frames, whatever the pieces it arrives in."""

    __slots__ = ("_buffer", "_max_size")

    def __init__(self, *, max_size: int) -> None:
        self._buffer = bytearray()
        self._max_size = max_size

    @property
    def size(self) -> int:
        """How many bytes of a frame wait for the rest."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that are complete with these bytes.

        RpcError (INVALID_REQUEST) when a frame says that it is larger than the limit. Nothing is
        set aside for a frame before its bytes come.
        """
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= LENGTH_SIZE:
                payload = start + LENGTH_SIZE
                size = int.from_bytes(self._buffer[start:payload])
                if size > self._max_size:
                    raise RpcError(
                        f"a frame of {size} bytes is larger than {self._max_size}",
                        error_code=RpcErrorCode.INVALID_REQUEST,
                    )
                if len(self._buffer) - payload < size:
                    return
                start = payload + size
                yield bytes(self._buffer[payload:start])
        finally:
            del self._buffer[:start]
