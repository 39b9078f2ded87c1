"""Plain values (what JSON and MessagePack hold) to the types that a caller asks for.

Each type is analysed once, into a plan: a function from the plain value to the typed one, or
``None`` where the value already is what is wanted. Plans are cached per type, apart for the two
modes. In the lenient mode ``None`` is accepted everywhere and a value that a scalar type refuses
is kept as it is; the strict mode raises instead. Both raise for a value of the wrong shape: a
number where an object is needed, a missing field, a tuple of the wrong length.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Union

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer._dataclass import field_hints

__all__ = ["Convert", "converter"]

Convert = Callable[[Any], Any]

SCALARS = (bool, int, float, str)
BINARY = (bytes, bytearray, memoryview)
CONTAINERS: dict[Any, type] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.Collection: list,
    abc.Iterable: list,
    abc.MutableSequence: list,
    abc.Sequence: list,
    abc.MutableSet: set,
    abc.Set: set,
}
ALIASES: Any = getattr(typing, "TypeAliasType", ())
"""Python 3.12's ``type X = ...``."""
HASHED = (set, frozenset)
SEEDED = {str, bytes, type(None), bool}
"""Types whose hashes a peer cannot foresee, or of which there are few."""
HASH_MODULUS = sys.hash_info.modulus
MAX_EQUAL_HASHES = 32
"""Different elements of a set, or keys, with one hash; by accident there are hardly two."""
MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)

_lenient: dict[Any, Convert | None] = {}
_strict: dict[Any, Convert | None] = {}


def converter(hint: Any, *, strict: bool) -> Convert | None:
    """The plan for a type; ``None`` when every value is good as it is."""
    plans = _strict if strict else _lenient
    try:
        return plans[hint]
    except KeyError:
        pass
    except TypeError:  # an annotation that cannot be hashed
        return _plan(hint, strict)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        # Cached before its fields are looked at: a class may contain itself.
        instance = _Dataclass(hint, strict)
        plans[hint] = instance
        return instance
    plan = plans[hint] = _plan(hint, strict)
    return plan


def _plan(hint: Any, strict: bool) -> Convert | None:
    hint = _unwrap(hint)
    if hint in (Any, object) or isinstance(hint, typing.TypeVar):
        return None
    if isinstance(hint, (str, typing.ForwardRef)):
        return _unresolved(hint) if strict else None
    if hint in (None, type(None)):
        return _null if strict else None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments, strict)
    if origin is typing.Literal:
        return _literal(arguments, strict)
    kind = hint if origin is None else origin
    if kind in CONTAINERS:
        return _container(CONTAINERS[kind], arguments, strict)
    if kind in MAPPINGS or typing.is_typeddict(kind):
        return _mapping(arguments, strict)
    if not isinstance(kind, type):
        raise SerializationError(f"{hint!r} is not a type that a value can be converted to")
    if dataclasses.is_dataclass(kind):
        return converter(kind, strict=strict)
    return _call(kind, strict)


def _unwrap(hint: Any) -> Any:
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, ALIASES):
            hint = hint.__value__
        else:
            return hint


class _Dataclass:
    """Builds instances of one dataclass from dictionaries; unknown keys are ignored."""

    __slots__ = ("cls", "fields", "names", "strict")

    def __init__(self, cls: type, strict: bool) -> None:
        self.cls = cls
        self.strict = strict
        self.names = frozenset(field.name for field in dataclasses.fields(cls) if field.init)
        self.fields: list[tuple[str, Any, Convert | None]] | None = None

    def _analyse(self) -> list[tuple[str, Any, Convert | None]]:
        hints = field_hints(self.cls)
        # The type beside its plan spares the call for a scalar that is right already.
        self.fields = [
            (name, hints.get(name, Any), converter(hints.get(name, Any), strict=self.strict))
            for name in (field.name for field in dataclasses.fields(self.cls))
            if name in self.names
        ]
        return self.fields

    def __call__(self, value: Any) -> Any:
        if type(value) is not dict:
            if isinstance(value, self.cls) or (value is None and not self.strict):
                return value
            raise SerializationError(
                f"{self.cls.__name__} needs an object with fields, not {_name(value)}"
            )
        fields = self.fields or self._analyse()
        values = {}
        for name, hint, convert in fields:
            if name in value:
                given = value[name]
                values[name] = given if convert is None or type(given) is hint else convert(given)
        try:
            return self.cls(**values)
        except SerializationError:
            raise
        except Exception as error:
            raise SerializationError(
                f"cannot make {self.cls.__name__} of the object: {error}",
                original_exception=error,
            ) from error


def _container(kind: type, arguments: tuple[Any, ...], strict: bool) -> Convert:
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return _fixed_tuple(arguments, strict)
    element = converter(arguments[0], strict=strict) if arguments else None

    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple, set, frozenset)):
            return _wrong_shape(value, "an array", strict)
        items: Iterable[Any] = value if element is None else map(element, value)
        try:
            return kind(_apart(items) if kind in HASHED else items)
        except TypeError as error:  # an element of a set that cannot be hashed
            raise SerializationError(
                f"cannot make a {kind.__name__}: {error}", original_exception=error
            ) from error

    return convert


def _fixed_tuple(arguments: tuple[Any, ...], strict: bool) -> Convert:
    elements = [converter(argument, strict=strict) for argument in arguments]

    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return _wrong_shape(value, "an array", strict)
        if len(value) != len(elements):
            raise SerializationError(f"{len(elements)} elements are needed, not {len(value)}")
        return tuple(
            each if element is None else element(each)
            for element, each in zip(elements, value, strict=True)
        )

    return convert


def _mapping(arguments: tuple[Any, ...], strict: bool) -> Convert:
    key_type, value_type = arguments or (Any, Any)
    key = _key(key_type, strict)
    element = converter(value_type, strict=strict)

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return _wrong_shape(value, "an object", strict)
        if key is None and element is None:
            return value
        try:
            names: Iterable[Any] = value if key is None else _apart(map(key, value))
            each = value.values() if element is None else map(element, value.values())
            return dict(zip(names, each, strict=True))
        except TypeError as error:  # a key that cannot be hashed
            raise SerializationError(
                f"cannot make a dict: {error}", original_exception=error
            ) from error

    return convert


def _key(hint: Any, strict: bool) -> Convert | None:
    plan = converter(hint, strict=strict)
    if not strict or hint not in (int, float):
        return plan

    def convert(value: Any) -> Any:
        # JSON has no other keys than strings.
        try:
            return hint(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise SerializationError(
                f"a key that is {hint.__name__} is needed, not {_quote(value)}",
                original_exception=error,
            ) from error

    return convert


def _union(arguments: tuple[Any, ...], strict: bool) -> Convert | None:
    members = [_unwrap(argument) for argument in arguments]
    if any(member in (Any, object) for member in members):
        return None
    nullable = not strict or type(None) in members
    members = [member for member in members if member is not type(None)]
    exact = frozenset(member for member in members if member in SCALARS or member in BINARY)
    # A dictionary goes to the dataclass that knows most of its keys, the first among equals.
    plans = [converter(member, strict=strict) for member in members]
    records = [plan for plan in plans if isinstance(plan, _Dataclass)]
    # A member that takes the value as it stands comes before one that would change its type.
    attempts = [converter(member, strict=True) for member in members]
    if not strict:
        attempts += [converter(member, strict=False) for member in members if member not in exact]

    structured = exact != frozenset(members)

    def convert(value: Any) -> Any:
        if (value is None and nullable) or type(value) in exact:
            return value
        tried: list[Convert | None] = []
        if records and type(value) is dict:
            known: list[_Dataclass] = sorted(
                records, key=lambda each: -len(each.names & value.keys())
            )
            tried += known
        for attempt in tried + attempts:
            if attempt is None:
                return value
            try:
                return attempt(value)
            except SerializationError as error:
                failure = error
        if strict or (structured and type(value) in (dict, list)):
            raise failure
        return value

    return convert


def _literal(values: tuple[Any, ...], strict: bool) -> Convert | None:
    if not strict:
        return None

    def convert(value: Any) -> Any:
        for each in values:
            if type(each) is type(value) and each == value:
                return value
        raise SerializationError(f"one of {values} is needed, not {_quote(value)}")

    return convert


def _call(kind: type, strict: bool) -> Convert:
    """Any other type: it is called with the value."""
    if kind in SCALARS or kind in BINARY:
        return _scalar(kind, strict)

    def convert(value: Any) -> Any:
        if value is None and not strict:
            return None
        try:
            if isinstance(value, int) and issubclass(kind, (bytes, bytearray)):
                # As of bytes itself: the number would be the size.
                raise TypeError("bytes are not made of a number")
            return value if isinstance(value, kind) else kind(value)
        except SerializationError:
            raise
        except Exception as error:
            if not strict:
                return value
            raise SerializationError(
                f"cannot make {kind.__name__} of {_quote(value)}: {error}",
                original_exception=error,
            ) from error

    return convert


def _scalar(kind: Any, strict: bool) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is kind or (value is None and not strict):
            return value
        if strict:
            if (kind is float and type(value) is int) or (
                kind in BINARY and isinstance(value, BINARY)
            ):
                return kind(value)
            raise SerializationError(f"{kind.__name__} is needed, not {_name(value)}")
        # bytes(n) would let a peer choose how much memory a number costs.
        if kind in BINARY and not isinstance(value, BINARY):
            return value
        try:
            return kind(value)
        except (ValueError, TypeError, OverflowError):
            return value

    return convert


def _apart(values: Iterable[Any]) -> Sequence[Any]:
    """Values for a set or the keys of a dict, whose hashes a peer has not chosen to be equal.

    Python's hashes of numbers, and of what is made of them, can be foreseen. With n equal ones a
    set takes n * n / 2 comparisons: seconds, for a message of half a megabyte.
    """
    found = values if isinstance(values, (list, tuple)) else list(values)
    kinds = set(map(type, found))
    if kinds <= SEEDED or len(found) <= MAX_EQUAL_HASHES:
        return found
    if kinds == {int} and min(found) > -HASH_MODULUS and max(found) < HASH_MODULUS:
        return found  # each is its own hash
    by_hash: dict[int, list[Any]] = {}
    for value in found:
        others = by_hash.setdefault(hash(value), [])
        if value in others:
            continue
        if len(others) == MAX_EQUAL_HASHES:
            raise SerializationError(
                f"more than {MAX_EQUAL_HASHES} elements have the same hash; that is no accident"
            )
        others.append(value)
    return found


def _null(value: Any) -> Any:
    if value is not None:
        raise SerializationError(f"null is needed, not {_name(value)}")
    return None


def _unresolved(hint: Any) -> Convert:
    def convert(value: Any) -> Any:
        raise SerializationError(f"the annotation {hint!r} names nothing that can be found")

    return convert


def _wrong_shape(value: Any, wanted: str, strict: bool) -> Any:
    if value is None and not strict:
        return None
    raise SerializationError(f"{wanted} is needed, not {_name(value)}")


def _name(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _quote(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
