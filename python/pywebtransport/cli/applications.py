"""What ``serve`` can serve, told apart from what it cannot."""

from __future__ import annotations

import inspect
from typing import Any

from pywebtransport.cli.loading import load
from pywebtransport.cli.output import fail
from pywebtransport.server import ServerApp, WebTransportServer

__all__ = ["find_application"]

ASGI_ARGUMENTS = (None, None, None)
"""Places of scope, receive and send."""


def find_application(target: str, *, factory: bool, directory: str) -> ServerApp:
    """The ServerApp that ``module:attribute`` names, or one around the ASGI application it names.

    What is neither ends the command with a line that says what it is.
    """
    found = load(target, directory=directory)
    if factory:
        if not callable(found):
            fail(f"{target} is no function, so not a factory: {describe(found)}")
        found = found()
    if isinstance(found, ServerApp):
        return found
    if isinstance(found, WebTransportServer):
        fail(f"{target} is a WebTransportServer, which has no handlers: make a ServerApp of it")
    if not factory and is_factory(found):
        fail(
            f"{target} is a function without arguments: if it makes the application, add --factory"
        )
    if not is_asgi(found):
        fail(
            f"{target} is neither a ServerApp nor an ASGI application, a callable with"
            f" (scope, receive, send): it is {describe(found)}"
        )
    from pywebtransport.asgi import AsgiServer

    return AsgiServer(found)


def is_asgi(found: Any) -> bool:
    """Whether it can be called as ASGI 3 says; a class would be an application each call."""
    if not callable(found) or (inspect.isclass(found) and not hasattr(found, "__await__")):
        return False
    return accepts(found, *ASGI_ARGUMENTS)


def is_factory(found: Any) -> bool:
    return callable(found) and accepts(found) and not accepts(found, *ASGI_ARGUMENTS)


def accepts(function: Any, *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def describe(found: Any) -> str:
    if inspect.isclass(found):
        return f"the class {found.__name__}; name an object of it"
    if inspect.isroutine(found):
        return f"the function {found.__name__}{signature_of(found)}"
    kind = type(found).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"


def signature_of(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except ValueError:
        return "()"
