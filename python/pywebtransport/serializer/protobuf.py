"""Protocol Buffers, by the ``protobuf`` package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.types import Buffer, Serializer

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["ProtobufSerializer"]

MessageType = TypeVar("MessageType", bound="Message")


class ProtobufSerializer(Serializer, Generic[MessageType]):
    """Messages of one generated class. Needs the extra ``protobuf``.

    Without the package: ConfigurationError. A ``message_class`` that is not a message class is a
    TypeError.
    """

    __slots__ = ("_errors", "_message_class")

    def __init__(self, *, message_class: type[MessageType]) -> None:
        try:
            from google.protobuf.message import DecodeError, EncodeError, Message
        except ImportError as error:
            raise ConfigurationError(
                "Protocol Buffers need the package protobuf: "
                "pip install 'pywebtransport-native[protobuf]'",
                config_key="dependency.protobuf",
                details={"required_package": "protobuf"},
            ) from error
        if not isinstance(message_class, type) or not issubclass(message_class, Message):
            raise TypeError(f"{message_class!r} is not a class of Protocol Buffers messages")
        self._message_class = message_class
        self._errors = (DecodeError, EncodeError, ValueError, TypeError, RecursionError)

    def serialize(self, *, obj: Any) -> bytes:
        """The message's bytes. SerializationError for an object of another class."""
        if not isinstance(obj, self._message_class):
            raise SerializationError(
                f"{self._message_class.__name__} is needed, not {type(obj).__name__}"
            )
        try:
            return obj.SerializeToString()
        except self._errors as error:
            raise SerializationError(
                f"{self._message_class.__name__} cannot be written: {error}",
                original_exception=error,
            ) from error

    def deserialize(self, *, data: Buffer, obj_type: Any = None) -> MessageType:
        """The message that the bytes hold; ``obj_type`` may only name the serializer's class."""
        if obj_type is not None and obj_type is not self._message_class:
            raise SerializationError(
                f"this serializer reads {self._message_class.__name__}, "
                f"not {getattr(obj_type, '__name__', obj_type)}"
            )
        message = self._message_class()
        try:
            message.ParseFromString(bytes(data))
        except self._errors as error:
            raise SerializationError(
                f"the data is not a {self._message_class.__name__}: {error}",
                original_exception=error,
            ) from error
        return message
