"""Typed objects in datagrams: a 16-bit type id, then the serializer's output."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pywebtransport.exceptions import SerializationError
from pywebtransport.stream.structured import type_ids

if TYPE_CHECKING:
    from pywebtransport.datagram.transport import WebTransportDatagramTransport
    from pywebtransport.types import Serializer

__all__ = ["StructuredDatagramTransport"]

HEADER = struct.Struct("!H")


class ShortDatagramError(SerializationError, struct.error):
    """A datagram without a type id; ``struct.error`` is what 0.8 raises."""


class StructuredDatagramTransport:
    """Sends and receives objects of registered classes, one in a datagram.

    Args:
        datagram_transport: The transport below.
        serializer: Turns objects into bytes and back.
        registry: Classes by type id, 0..65535; the same on both sides.

    Raises:
        ConfigurationError: A class is registered twice, or an id is out of range.
    """

    def __init__(
        self,
        *,
        datagram_transport: WebTransportDatagramTransport,
        serializer: Serializer,
        registry: dict[int, type[Any]],
    ) -> None:
        self._transport = datagram_transport
        self._serializer = serializer
        self._class_of = dict(registry)
        self._id_of = type_ids(registry)

    @property
    def is_closed(self) -> bool:
        """Whether the transport below is closed."""
        return self._transport.is_closed

    async def send_obj(self, *, obj: Any, priority: int = 0, ttl: float | None = None) -> None:
        """Send one object.

        Raises:
            SerializationError: Its class is not registered, or the serializer fails.
            DatagramError: As ``transport.send``.
        """
        type_id = self._id_of.get(type(obj))
        if type_id is None:
            raise SerializationError(f"class {type(obj).__name__} is not in the registry")
        payload = self._serializer.serialize(obj=obj)
        await self._transport.send(data=HEADER.pack(type_id) + payload, priority=priority, ttl=ttl)

    async def receive_obj(self, *, timeout: float | None = None) -> Any:
        """Return the next object.

        Raises:
            SerializationError: The type id is not registered, or the serializer fails.
            SerializationError, which is a struct.error too: The datagram is shorter than a type id.
            TimeoutError, DatagramError: As ``transport.receive``.
        """
        data = await self._transport.receive(timeout=timeout)
        if len(data) < HEADER.size:
            raise ShortDatagramError(
                f"a datagram of {len(data)} bytes is shorter than a type id ({HEADER.size} bytes)"
            )
        (type_id,) = HEADER.unpack_from(data)
        cls = self._class_of.get(type_id)
        if cls is None:
            raise SerializationError(f"type id {type_id} is not in the registry")
        return self._serializer.deserialize(data=data[HEADER.size :], obj_type=cls)

    async def close(self) -> None:
        """Close the transport below."""
        await self._transport.close()
