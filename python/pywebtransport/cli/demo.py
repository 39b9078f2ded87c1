"""``demo``: the live page."""

from __future__ import annotations

import webbrowser

import click

from pywebtransport.cli.output import note
from pywebtransport.constants import DEFAULT_DEV_PORT, ENGINES

__all__ = ["command"]


@click.command(name="demo")
@click.option(
    "--host", default="localhost", show_default=True, help="Where to listen; 0.0.0.0 for the LAN."
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_DEV_PORT,
    show_default=True,
    help="Of the page (TCP) and of WebTransport (UDP).",
)
@click.option("--engine", type=click.Choice(ENGINES), help="What carries it.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in a browser.")
def command(host: str, port: int, engine: str | None, open_page: bool) -> None:
    """Serve a page that shows what this library does.

    Throughput, round trips, loss, cursors and a chat, live, in whichever browsers open it.

    \b
    Examples:
      pywebtransport demo
      pywebtransport demo --open
      pywebtransport demo --host 0.0.0.0 --port 4455
    """
    from pywebtransport.demo import Demo

    def announce(demo: Demo) -> None:
        click.echo(f"Open {click.style(demo.url, bold=True)} in Chrome, Edge or Firefox.")
        if demo.url.startswith("https:"):
            note("The certificate is self-signed: go on where the browser warns of it.")
        note("Ctrl-C ends it.")
        if open_page:
            webbrowser.open(demo.url)

    Demo(host=host, port=port, engine=engine).run(announce)
