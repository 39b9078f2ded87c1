"""Dataclass instances as plain dictionaries, one prepared plan per class.

Nested instances stay as they are: the encoder comes back for each of them. A set is written as
an array only where an annotation says that it is one, because only there can it be read back.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Any

__all__ = ["Flatten", "dataclass_to_dict", "field_hints"]

Flatten = Callable[[Any], dict[str, Any]]

SETS = (set, frozenset, AbstractSet, typing.AbstractSet)

_plans: dict[type, Flatten] = {}


def dataclass_to_dict(obj: Any) -> dict[str, Any]:
    """The fields of a dataclass instance by name; TypeError for anything else."""
    cls = type(obj)
    plan = _plans.get(cls)
    if plan is None:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"object of type {cls.__name__} is not serializable")
        plan = _plans[cls] = _plan(cls)
    return plan(obj)


def field_hints(cls: type) -> dict[str, Any]:
    """The annotations of a class with strings resolved.

    A string that names something out of reach, a class local to a function for instance, stays
    a string; the others of the class are resolved all the same.
    """
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError, AttributeError, SyntaxError):
        pass
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        module = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
        for name, hint in vars(base).get("__annotations__", {}).items():
            one = types.SimpleNamespace(__annotations__={name: hint})
            try:
                hints.update(typing.get_type_hints(one, globalns=module, localns=dict(vars(base))))
            except (NameError, TypeError, AttributeError, SyntaxError):
                hints[name] = hint
    return hints


def _plan(cls: type) -> Flatten:
    names = tuple(field.name for field in dataclasses.fields(cls))
    if not names:
        return lambda obj: {}
    if len(names) == 1:
        (only,) = names
        flatten: Flatten = lambda obj: {only: getattr(obj, only)}  # noqa: E731
    else:
        values = attrgetter(*names)
        flatten = lambda obj: dict(zip(names, values(obj), strict=True))  # noqa: E731
    hints = field_hints(cls)
    sets = [name for name in names if _mentions_set(hints.get(name))]
    if not sets:
        return flatten

    def flatten_with_sets(obj: Any) -> dict[str, Any]:
        fields = flatten(obj)
        for name in sets:
            fields[name] = _sets_to_lists(fields[name])
        return fields

    return flatten_with_sets


def _mentions_set(hint: Any) -> bool:
    if hint in SETS or typing.get_origin(hint) in SETS:
        return True
    return any(_mentions_set(argument) for argument in typing.get_args(hint))


def _sets_to_lists(value: Any) -> Any:
    if isinstance(value, (AbstractSet, list, tuple)):
        return [_sets_to_lists(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _sets_to_lists(each) for key, each in value.items()}
    return value
