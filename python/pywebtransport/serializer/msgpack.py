"""MessagePack, by the ``msgpack`` package."""

from __future__ import annotations

from functools import partial
from typing import Any

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.serializer._base import PlainSerializer
from pywebtransport.serializer._dataclass import dataclass_to_dict
from pywebtransport.types import Buffer, Serializer

__all__ = ["MsgPackSerializer"]

MAX_KEPT_SIZE = 1 << 20
"""A packer whose message was larger, and so its buffer, is not kept for the next."""


class MsgPackSerializer(PlainSerializer, Serializer):
    """Objects as MessagePack; dataclass instances become maps. Needs the extra ``msgpack``.

    ``pack_kwargs`` and ``unpack_kwargs`` go to the ``Packer`` and to ``unpackb`` of that package.
    With ``strict`` a typed ``deserialize`` refuses a value of another type instead of keeping it.
    Without the package: ConfigurationError.
    """

    __slots__ = ("_default", "_new_packer", "_packers", "_unpack", "_unpack_errors")

    def __init__(
        self,
        *,
        pack_kwargs: dict[str, Any] | None = None,
        unpack_kwargs: dict[str, Any] | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__(strict=strict)
        try:
            import msgpack  # type: ignore[import-untyped]
        except ImportError as error:
            raise ConfigurationError(
                "MessagePack needs the package msgpack: "
                "pip install 'pywebtransport-native[msgpack]'",
                config_key="dependency.msgpack",
                details={"required_package": "msgpack"},
            ) from error
        options = dict(pack_kwargs or {})
        self._default = options.pop("default", None)
        default = dataclass_to_dict if self._default is None else self._dataclass_or_default
        self._new_packer = partial(msgpack.Packer, default=default, **options)
        # A packer keeps its buffer between calls. Each call takes one out, so that neither a
        # thread nor a `default` that serializes meets another's half-written buffer.
        self._packers = [self._new_packer()]
        self._unpack = partial(msgpack.unpackb, **{"raw": False, **(unpack_kwargs or {})})
        self._unpack_errors = (msgpack.UnpackException, ValueError, TypeError, RecursionError)

    def serialize(self, *, obj: Any) -> bytes:
        """The object as MessagePack. SerializationError when a part of it has no such form."""
        try:
            packer = self._packers.pop()
        except IndexError:
            packer = self._new_packer()
        try:
            data: bytes = packer.pack(obj)
            if not self._packers and len(data) <= MAX_KEPT_SIZE:
                self._packers.append(packer)
            return data
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SerializationError(
                f"{type(obj).__name__} cannot be written as MessagePack: {error}",
                original_exception=error,
            ) from error

    def deserialize(self, *, data: Buffer, obj_type: Any = None) -> Any:
        """What the MessagePack says, converted to ``obj_type`` when one is given.

        Data that is cut short, goes on after its end or is not MessagePack is a
        SerializationError; so is what does not fit ``obj_type``, as in
        :meth:`JSONSerializer.deserialize <pywebtransport.serializer.JSONSerializer.deserialize>`.
        """
        try:
            value = self._unpack(data)
        except self._unpack_errors as error:
            raise SerializationError(
                f"the data is not MessagePack: {error}", original_exception=error
            ) from error
        return value if obj_type is None else self._typed(value, obj_type)

    def _dataclass_or_default(self, obj: Any) -> Any:
        try:
            return dataclass_to_dict(obj)
        except TypeError:
            return self._default(obj)
