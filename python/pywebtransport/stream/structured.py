"""Typed objects on a stream, one message each.

A message is a 16-bit type id from the registry, a 32-bit length, and that many bytes of the
serializer's output; integers are big-endian.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

from pywebtransport.constants import DEFAULT_MAX_MESSAGE_SIZE
from pywebtransport.exceptions import (
    ConfigurationError,
    SerializationError,
    StreamError,
    TimeoutError,
)

if TYPE_CHECKING:
    from pywebtransport.stream.stream import WebTransportStream
    from pywebtransport.types import Serializer

__all__ = ["StructuredStream"]

HEADER = struct.Struct("!HI")
MAX_TYPE_ID = 0xFFFF


class EndOfMessages(StreamError):
    """The stream ended between two messages."""


class StructuredStream:
    """Sends and receives objects of registered classes; iterating receives until the end.

    Iteration ends quietly where the data ends after a whole message; everything else raises.

    Args:
        stream: The bidirectional stream below.
        serializer: Turns objects into bytes and back.
        registry: Classes by type id, 0..65535; the same on both sides.
        max_message_size: The longest payload that is received, in bytes (1 MiB).

    Raises:
        ConfigurationError: A class is registered twice, or an id is out of range.
    """

    def __init__(
        self,
        *,
        stream: WebTransportStream,
        serializer: Serializer,
        registry: dict[int, type[Any]],
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
    ) -> None:
        self._stream = stream
        self._serializer = serializer
        self._max_message_size = max_message_size
        self._class_of = dict(registry)
        self._id_of = type_ids(registry)
        self._header: tuple[int, int] | None = None
        """Type id and size of the message whose payload comes next."""

    @property
    def is_closed(self) -> bool:
        """Whether the stream below is closed."""
        return self._stream.is_closed

    @property
    def stream_id(self) -> int:
        """Of the stream below."""
        return self._stream.stream_id

    def __aiter__(self) -> StructuredStream:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                return await self.receive_obj()
            except EndOfMessages:
                raise StopAsyncIteration from None
            except TimeoutError:
                if self._is_within_message():
                    raise

    async def send_obj(self, *, obj: Any) -> None:
        """Send one object.

        Raises:
            SerializationError: Its class is not registered, or the serializer fails.
            StreamError, TimeoutError: As ``stream.write``.
        """
        type_id = self._id_of.get(type(obj))
        if type_id is None:
            raise SerializationError(f"class {type(obj).__name__} is not in the registry")
        payload = self._serializer.serialize(obj=obj)
        await self._stream.write(data=HEADER.pack(type_id, len(payload)) + payload)

    async def receive_obj(self) -> Any:
        """Return the next object. Cancelled or timed out, it has lost nothing.

        Raises:
            StreamError: The stream ended; ``__cause__`` tells an end within a message.
            SerializationError: The type id is not registered (the payload is left unread), the
                message is longer than ``max_message_size`` (the stream is aborted), or the
                serializer fails.
        """
        stream = self._stream
        try:
            if self._header is None:
                self._header = HEADER.unpack(await stream.readexactly(n=HEADER.size))
            type_id, size = self._header
            if size > self._max_message_size:
                self._header = None
                await stream.abort(code=1)
                raise SerializationError(
                    f"a message of {size} bytes is longer than"
                    f" max_message_size={self._max_message_size}"
                )
            cls = self._class_of.get(type_id)
            if cls is None:
                self._header = None
                raise SerializationError(f"type id {type_id} is not in the registry")
            payload = await stream._read_message(size)
            self._header = None
        except asyncio.IncompleteReadError as error:
            is_whole = not error.partial and self._header is None
            kind: type[StreamError] = EndOfMessages
            text = "the stream ended"
            if not is_whole:
                kind = StreamError
                text += f" within a message, {len(error.partial)} of {error.expected} bytes"
            raise kind(text, stream_id=stream.stream_id, stream_state=stream.state) from error
        return self._serializer.deserialize(data=payload, obj_type=cls)

    def _is_within_message(self) -> bool:
        return self._header is not None or self._stream.diagnostics.read_buffer_size > 0

    async def close(self) -> None:
        """Send the end of the stream below."""
        await self._stream.close()


def type_ids(registry: dict[int, type[Any]]) -> dict[type[Any], int]:
    """Type ids by class; the registry must be one to one."""
    for type_id in registry:
        if not 0 <= type_id <= MAX_TYPE_ID:
            raise ConfigurationError(
                f"type id {type_id} is not in 0..{MAX_TYPE_ID}",
                config_key="registry",
                config_value=type_id,
            )
    ids = {cls: type_id for type_id, cls in registry.items()}
    if len(ids) != len(registry):
        raise ConfigurationError(
            "a class is in the registry twice", config_key="registry", config_value=registry
        )
    return ids
