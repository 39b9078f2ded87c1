"""JSON, by the standard library."""

from __future__ import annotations

import json
from typing import Any

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer._base import PlainSerializer
from pywebtransport.serializer._dataclass import dataclass_to_dict
from pywebtransport.types import Buffer, Serializer

__all__ = ["JSONSerializer"]


class JSONSerializer(PlainSerializer, Serializer):
    """Objects as JSON text in UTF-8; dataclass instances become objects.

    Keyword arguments go to the encoder as :func:`json.dumps` takes them. A ``default`` among them
    is asked about what is neither plain nor a dataclass instance. With ``strict`` a typed
    ``deserialize`` refuses a value of another type instead of keeping it.
    """

    __slots__ = ("_default", "_encode")

    def __init__(self, *, strict: bool = False, **kwargs: Any) -> None:
        super().__init__(strict=strict)
        self._default = kwargs.pop("default", None)
        encoder = kwargs.pop("cls", json.JSONEncoder)
        default = dataclass_to_dict if self._default is None else self._dataclass_or_default
        self._encode = encoder(default=default, **kwargs).encode

    def serialize(self, *, obj: Any) -> bytes:
        """The object as JSON. SerializationError when it, or a part of it, has no JSON form."""
        try:
            text: str = self._encode(obj)
            return text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                f"{type(obj).__name__} cannot be written as JSON: {error}",
                original_exception=error,
            ) from error

    def deserialize(self, *, data: Buffer | str, obj_type: Any = None) -> Any:
        """What the JSON says, converted to ``obj_type`` when one is given.

        Keys that a dataclass does not know are ignored; a missing field without a default, or a
        value of the wrong shape, is a SerializationError, and so is data that is not JSON.
        """
        try:
            value = json.loads(data if isinstance(data, str) else str(data, "utf-8"))
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                f"the data is not JSON: {error}", original_exception=error
            ) from error
        return value if obj_type is None else self._typed(value, obj_type)

    def _dataclass_or_default(self, obj: Any) -> Any:
        try:
            return dataclass_to_dict(obj)
        except TypeError:
            return self._default(obj)
