"""What verbs print: results to stdout, the rest to stderr; colour on a terminal only.

``click.echo`` leaves styles out where the stream is no terminal, and everywhere when NO_COLOR is
set (the group's ``color``).
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import click

__all__ = ["INTERRUPTED", "exit_codes", "fail", "json_option", "note", "print_json", "warn"]

F = TypeVar("F", bound=Callable[..., Any])

FAILED = 1
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells count."""


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """What ends a command becomes its exit code, and one line where the library says why."""
    try:
        yield
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Exception as error:
        from pywebtransport.exceptions import WebTransportError

        if not isinstance(error, WebTransportError):
            raise
        click.ClickException(error.message).show()
        sys.exit(FAILED)


def fail(text: str) -> NoReturn:
    """End the command with one line on stderr and exit code 1."""
    raise click.ClickException(text)


def warn(text: str) -> None:
    """One line on stderr that stands out."""
    click.echo(f"{click.style('Warning:', fg='yellow')} {text}", err=True)


def note(text: str) -> None:
    """One line on stderr, for whoever watches and not for whoever reads the output."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """One JSON document on one line on stdout, at once also into a pipe."""
    click.echo(json.dumps(value, ensure_ascii=False))


def json_option(command: F) -> F:
    """Decorator: the flag ``--json``, as the argument ``as_json``."""
    flag = click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
    return flag(command)
