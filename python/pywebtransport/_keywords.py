"""Arguments that are documented as keywords and may come by position as well."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["first_by_position"]

F = TypeVar("F", bound=Callable[..., Any])


def first_by_position(method: F) -> F:
    """The first argument of a method may come by position.

    The documented API knows the keyword only, and that is what introspection shows; the function
    itself is the same.
    """
    signature = inspect.signature(method)
    owner, first, *rest = signature.parameters.values()
    first = first.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    method.__signature__ = signature.replace(parameters=(owner, first, *rest))  # type: ignore[attr-defined]
    return method
