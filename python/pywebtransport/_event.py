"""One event: what happened, when, to whom."""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass, field
from typing import Any, Self

from pywebtransport._identifiers import random_uuid
from pywebtransport.types import EventData, EventType

__all__ = ["Event"]

logger = logging.getLogger("pywebtransport.events")


@functools.lru_cache(maxsize=256)
def _warn_once(kind: str) -> None:
    logger.warning("event type %r is not one of the library's", kind)


@dataclass(kw_only=True, repr=False)
class Event:
    """Something that happened: what, when, to whom, and what there is to know about it."""

    type: EventType | str
    timestamp: float = field(default_factory=time.time)
    data: EventData | None = None
    source: Any | None = None
    event_id: str = field(default_factory=random_uuid)

    def __post_init__(self) -> None:
        if not isinstance(self.type, EventType):
            try:
                self.type = EventType(self.type)
            except ValueError:
                _warn_once(self.type)

    @classmethod
    def for_connection(cls, *, event_type: EventType, connection_info: dict[str, Any]) -> Self:
        """An event of a connection."""
        return cls(type=event_type, data=connection_info)

    @classmethod
    def for_datagram(cls, *, event_type: EventType, datagram_info: dict[str, Any]) -> Self:
        """An event of a datagram."""
        return cls(type=event_type, data=datagram_info)

    @classmethod
    def for_error(cls, *, error: Exception, source: Any = None) -> Self:
        """A PROTOCOL_ERROR that describes ``error``."""
        to_dict = getattr(error, "to_dict", dict)
        data: dict[str, Any] = {
            "error_type": type(error).__name__,
            "error_message": str(error),
            "error_details": to_dict(),
        }
        return cls(type=EventType.PROTOCOL_ERROR, data=data, source=source)

    @classmethod
    def for_session(cls, *, event_type: EventType, session_info: dict[str, Any]) -> Self:
        """An event of a session."""
        return cls(type=event_type, data=session_info)

    @classmethod
    def for_stream(cls, *, event_type: EventType, stream_info: dict[str, Any]) -> Self:
        """An event of a stream."""
        return cls(type=event_type, data=stream_info)

    @property
    def is_connection_event(self) -> bool:
        """Whether it is about a connection."""
        return self.type.startswith("connection_")

    @property
    def is_datagram_event(self) -> bool:
        """Whether it is about a datagram."""
        return self.type.startswith("datagram_")

    @property
    def is_error_event(self) -> bool:
        """Whether it reports an error."""
        return "error" in self.type

    @property
    def is_session_event(self) -> bool:
        """Whether it is about a session."""
        return self.type.startswith("session_")

    @property
    def is_stream_event(self) -> bool:
        """Whether it is about a stream."""
        return self.type.startswith("stream_")

    def to_dict(self) -> dict[str, Any]:
        """Id, type, time, data, and the source's text."""
        return {
            "id": self.event_id,
            "type": str(self.type),
            "timestamp": self.timestamp,
            "data": self.data,
            "source": None if self.source is None else str(self.source),
        }

    def __repr__(self) -> str:
        return f"Event(type={self.type}, id={self.event_id}, timestamp={self.timestamp})"
