"""What the serializers of plain values share: the conversion to a requested type, the errors."""

from __future__ import annotations

from typing import Any

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer._convert import converter

__all__ = ["PlainSerializer"]


class PlainSerializer:
    """A format that holds dictionaries, arrays and scalars."""

    __slots__ = ("_strict",)

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict

    def _typed(self, value: Any, obj_type: Any) -> Any:
        try:
            convert = converter(obj_type, strict=self._strict)
            return value if convert is None else convert(value)
        except RecursionError as error:
            raise SerializationError(
                "the data is nested too deep to be converted", original_exception=error
            ) from error
