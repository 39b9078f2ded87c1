"""The command ``pywebtransport``: each verb is a module here with a click command ``command``.

A verb's module is imported when the verb is used, so that none pays for another. Exit codes: 0 it
worked, 1 it did not, 2 it was asked wrongly, 130 Ctrl-C.
"""

from __future__ import annotations

import difflib
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

import click

from pywebtransport.cli.output import exit_codes
from pywebtransport.version import __version__

__all__ = ["main"]

VERBS = {
    "serve": "Serve an application.",
    "connect": "Open a session and talk over it.",
    "cert": "Make a certificate, or show one and what browsers will say to it.",
    "doctor": "Find out why a connection fails.",
    "bench": "Measure a server.",
    "demo": "Serve a page that shows what this library does.",
}
"""In the order of the help text; in one line what each verb's own help says at length."""


class Verbs(click.Group):
    """Loads a verb when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            close = difflib.get_close_matches(cmd_name, VERBS)
            meant = f"; did you mean {' or '.join(close)}?" if close else ""
            ctx.fail(f"There is no verb {cmd_name!r}{meant}")
        command = importlib.import_module(f"{__name__}.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        with exit_codes():
            status = super().main(args, standalone_mode=False, **extra)
        sys.exit(status if isinstance(status, int) else 0)


def show_version(ctx: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if not is_asked or ctx.resilient_parsing:
        return
    python = f"{platform.python_implementation()} {platform.python_version()}"
    click.echo(f"pywebtransport-native {__version__}, {python} on {platform.system()}")
    ctx.exit()


@click.group(
    cls=Verbs,
    context_settings={
        "color": False if os.environ.get("NO_COLOR") else None,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    subcommand_metavar="VERB [OPTIONS] [ARGUMENTS]...",
    epilog="pywebtransport VERB --help has the options of a verb, and examples.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Print the version and exit.",
)
def main() -> None:
    """WebTransport over HTTP/3: serve it, talk it, look into it."""
