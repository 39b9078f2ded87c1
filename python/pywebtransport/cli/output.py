"""What verbs print: results to stdout, the rest to stderr; colour on a terminal only.

``click.echo`` leaves styles out where the stream is no terminal, and everywhere when NO_COLOR is
set (the group's ``color``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

__all__ = ["fail", "json_option", "note", "print_json", "warn"]

F = TypeVar("F", bound=Callable[..., Any])


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
