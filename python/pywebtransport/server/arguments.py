"""What an application gives to its server, checked where it is written and not at the first
session."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from typing import Any
from urllib.parse import quote

from pywebtransport.exceptions import ServerError

__all__ = [
    "check_address",
    "check_callback",
    "check_handler",
    "check_middleware",
    "check_no_loop",
    "check_path",
    "check_pattern",
    "name_of",
]

PLACEHOLDER = re.compile(r"[{}<>]")
NEVER_IN_A_PATH = re.compile(r"[^!-~]|#")
"""RFC 3986 §3.3: a client percent-encodes it, or does not send it."""
LITERAL_BEGINNING = re.compile(r"(?:\^|\\A)?[\w-](?![?*{])")
HIGHEST_PORT = 65535


def check_path(path: object) -> None:
    """The path of a route.

    Raises:
        ValueError: No request has it.
        TypeError: It is none.
    """
    if callable(path):
        raise TypeError(
            f'a route needs its path: @app.route("/path") in front of {name_of(path)}, with'
            " parentheses"
        )
    if not isinstance(path, str):
        raise TypeError(f"a path is a str, this is {path!r}")
    if not path.startswith("/"):
        raise ValueError(f"a path begins with a slash, this one does not: {path!r}")
    if PLACEHOLDER.search(path):
        kind = "braces" if "{" in path or "}" in path else "angle brackets"
        raise ValueError(
            f"a path is taken literally, and {path!r} has {kind}: pattern_route() takes a"
            " regular expression, whose groups become session.path_params"
        )
    if NEVER_IN_A_PATH.search(path):
        raise ValueError(
            f"a path is compared with what clients send, which never has what {path!r} has:"
            f" write {quote(path, safe='/:@!$&()*+,;=~%?')!r}"
        )


def check_pattern(pattern: object) -> None:
    """The pattern of a route.

    Raises:
        ValueError: No path matches it.
        TypeError: It is none.
        re.error: It is no regular expression.
    """
    if callable(pattern):
        raise TypeError(
            f'a route needs its pattern: @app.pattern_route(r"/path/(.*)") in front of'
            f" {name_of(pattern)}, with parentheses"
        )
    if not isinstance(pattern, str | re.Pattern):
        raise TypeError(f"a pattern is a str, this is {pattern!r}")
    text = re.compile(pattern).pattern
    if isinstance(text, str) and LITERAL_BEGINNING.match(text):
        raise ValueError(
            f"a pattern matches whole paths, which begin with a slash, and {text!r} does not"
        )


def check_handler(handler: object) -> None:
    """What is called with a session, a stream or a request.

    Raises:
        TypeError: It is no coroutine function of one argument.
    """
    check_coroutine_function(handler, "a handler")
    check_call(handler, "a handler", "with one argument", None)


def check_middleware(middleware: object) -> None:
    """What is called with the session of a request.

    Raises:
        TypeError: It is no coroutine function of ``session``.
    """
    check_coroutine_function(middleware, "a middleware")
    check_call(middleware, "a middleware", "with session=...", session=None)


def check_callback(callback: object) -> None:
    """What is called at startup or shutdown.

    Raises:
        TypeError: It is no function without arguments.
    """
    if not callable(callback):
        raise TypeError(f"at startup and shutdown a function is called, this is {callback!r}")
    check_call(callback, "at startup and shutdown a function", "without arguments")


def check_coroutine_function(function: object, what: str) -> None:
    if not callable(function):
        raise TypeError(f"{what} must be `async def`, it is {function!r}")
    called: Any = function
    while isinstance(called, functools.partial):
        called = called.func
    name = name_of(called)
    if inspect.isclass(called):
        if not hasattr(called, "__await__"):
            raise TypeError(f"{what} must be `async def`, {name} is a class: give an object of it")
        return
    if not inspect.isroutine(called):
        if inspect.iscoroutinefunction(called):
            return
        called = getattr(called, "__wrapped__", type(called).__call__)
        if not inspect.isfunction(called):
            return
    inner = inspect.unwrap(called)
    if inspect.isasyncgenfunction(inner):
        raise TypeError(f"{what} must be `async def` without `yield`, {name} has one")
    is_plain = not inspect.iscoroutinefunction(inner)
    # What a decorator returns, or what returns an awaitable, cannot be told before the call.
    is_plain = is_plain and getattr(called, "__name__", "") != "<lambda>"
    returns = getattr(called, "__annotations__", {}).get("return", "")
    if is_plain and "Awaitable" not in str(returns) and "Coroutine" not in str(returns):
        raise TypeError(f"{what} must be `async def`, {name} is a plain `def`")


def check_call(function: Any, what: str, how: str, *arguments: Any, **named: Any) -> None:
    try:
        # A decorator may pass more to what it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # Some of what is written in C has none.
    try:
        signature.bind(*arguments, **named)
    except TypeError as error:
        name = name_of(function)
        raise TypeError(f"{what} is called {how}, and {name} takes {signature}: {error}") from None


def check_address(host: object, port: object) -> None:
    """Where to listen; None stands for what the configuration says.

    Raises:
        ServerError: It is no address.
    """
    if not isinstance(host, str | None):
        raise ServerError(f"host must be a name or an address, a str, it is {host!r}")
    if port is None:
        return
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= HIGHEST_PORT:
        raise ServerError(f"port must be an integer from 0 to {HIGHEST_PORT}, it is {port!r}")


def check_no_loop() -> None:
    """RuntimeError: an event loop runs, in which none of its own can be run."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "run() starts an event loop, and one runs here already: use"
        " `async with app: await app.serve()` instead"
    )


def name_of(handler: object) -> str:
    """As its author wrote it, with its module."""
    name = getattr(handler, "__qualname__", None)
    return repr(handler) if name is None else f"{getattr(handler, '__module__', '')}.{name}"
