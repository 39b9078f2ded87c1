"""``cert``: certificates for development, and what browsers will say to any."""

from __future__ import annotations

import click

from pywebtransport.cli.output import json_option, print_json
from pywebtransport.utils import certificate_hash

__all__ = ["command"]


@click.group(name="cert")
def command() -> None:
    """Make a certificate, or show one and what browsers will say to it.

    \b
    Examples:
      pywebtransport cert show server.crt
      pywebtransport cert show server.crt --json
    """


@command.command()
@click.argument("file", type=click.Path())
@json_option
def show(file: str, as_json: bool) -> None:
    """Show what a page needs to trust FILE."""
    sha256 = certificate_hash(path=file)
    if as_json:
        print_json({"sha256": sha256})
    else:
        click.echo(f"SHA-256  {sha256}")
