"""``doctor``: why a connection fails, and what to do."""

from __future__ import annotations

import logging
from dataclasses import replace

import click

from pywebtransport._loop import run
from pywebtransport._words import peer_text
from pywebtransport.cli.diagnosis.report import Check, Outcome, Report
from pywebtransport.cli.output import json_option, print_json
from pywebtransport.cli.visitor import Visitor, visitor_options
from pywebtransport.constants import DEFAULT_DEV_PORT

__all__ = ["command"]

COLOURS = {
    Outcome.OK: "green",
    Outcome.WARNING: "yellow",
    Outcome.FAILURE: "red",
    Outcome.SKIPPED: "bright_black",
}
ENOUGH_SECONDS = 15.0
ANSWER_SECONDS = 5.0
"""How long the server has to answer a request."""
LONGEST = 2000
"""Characters of a line."""
OUTCOME_WIDTH = 9
NAME_WIDTH = 15


@click.command(name="doctor")
@visitor_options(needs_url=False, seconds=ENOUGH_SECONDS, seconds_help="Seconds for everything.")
@click.option("--serve", is_flag=True, help="Look at this machine as a server instead.")
@click.option("--host", default="::", show_default=True, help="With --serve: where to listen.")
@click.option(
    "--port",
    default=DEFAULT_DEV_PORT,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="With --serve: the UDP port.",
)
@json_option
def command(
    visitor: Visitor | None,
    engine: str | None,
    certfile: str | None,
    keyfile: str | None,
    serve: bool,
    host: str,
    port: int,
    as_json: bool,
) -> int:
    """Find out why a connection fails.

    Looks at everything between this machine and a session at URL, in the order in which it can
    fail: DNS, UDP, QUIC and TLS, the certificate, SETTINGS, the server's answer, Origin,
    datagrams, streams, several sessions. Each line is ok, a warning or a failure; below it stands
    what to do.

    With --serve it looks at this machine as a server instead: certificate, port, IPv6, kernel
    buffers, limits, clock; --certfile and --keyfile are then the server's.

    Exit code 0: no failure; 1: a failure; 2: asked wrongly.

    \b
    Examples:
      pywebtransport doctor https://example.org/chat
      pywebtransport doctor https://localhost:4433/ --dev
      pywebtransport doctor https://example.org/chat --origin https://www.example.org
      pywebtransport doctor https://example.org/ --json | jq .cause
      pywebtransport doctor --serve --certfile server.crt --keyfile server.key --port 443
    """
    if serve == (visitor is not None):
        raise click.UsageError("give a URL, or --serve")
    # What the library would log, the report says.
    logging.getLogger().addHandler(logging.NullHandler())
    report = Report(None if as_json else print_check)
    subject: dict[str, object]
    if visitor is None:
        from pywebtransport.cli.diagnosis.machine import Place, examine

        run(examine(report, Place(host, port, certfile, keyfile, engine)))
        subject = {"host": host, "port": port}
    else:
        from pywebtransport.cli.diagnosis.remote import diagnose

        patience = min(visitor.timeout, ANSWER_SECONDS)
        run(diagnose(report, replace(visitor, timeout=patience), seconds=visitor.timeout))
        subject = {"url": visitor.url}
    if as_json:
        print_json({**subject, **report.to_dict()})
    else:
        print_summary(report)
    return 1 if report.failures else 0


def print_check(check: Check) -> None:
    """One line, and what to do below it."""
    outcome = click.style(f"{check.outcome:<{OUTCOME_WIDTH}}", fg=COLOURS[check.outcome])
    click.echo(f"{outcome}{check.name:<{NAME_WIDTH}}{harmless(check.text)}")
    if check.remedy:
        click.echo(f"{'':{OUTCOME_WIDTH + NAME_WIDTH}}-> {harmless(check.remedy)}")


def harmless(text: str) -> str:
    """Words of the server, of its certificate too, that cannot steer a terminal."""
    return peer_text(text, limit=LONGEST, is_quoted=False)


def print_summary(report: Report) -> None:
    """How many of what, and the first that matters."""
    failures, warnings = report.failures, report.warnings
    click.echo()
    if not failures and not warnings:
        click.secho("Nothing is wrong.", fg="green")
        return
    counts = [
        f"{len(checks)} {word}{'s' if len(checks) > 1 else ''}"
        for checks, word in ((failures, "failure"), (warnings, "warning"))
        if checks
    ]
    click.echo(f"{' and '.join(counts)}.", nl=not failures)
    if failures:
        click.secho(f" The cause: {harmless(failures[0].text)}", fg="red")
