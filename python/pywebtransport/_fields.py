"""Header fields that an application gives, before anything is done with them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["checked_fields"]


def checked_fields(headers: object) -> dict[str, str]:
    """The fields with their names in lower case; what a name or a value may hold, the engine knows.

    Raises:
        ValueError: They are no texts by name.
    """
    if not isinstance(headers, Mapping):
        kind = type(headers).__name__
        raise ValueError(f"headers must be a dictionary of str by str, it is {kind}")
    fields: dict[str, str] = {}
    for name, value in headers.items():
        for text, what in ((name, f"the name {name!r}"), (value, f"the value of {name!r}")):
            if not isinstance(text, str):
                # Not the value itself, which may be a secret.
                raise ValueError(f"{what} in headers must be a str, it is {type(text).__name__}")
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{what} in headers is no text: {error}") from None
        fields[name.lower()] = value
    return fields
