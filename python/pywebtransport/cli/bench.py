"""``bench``: what a server, and the way to it, can do."""

from __future__ import annotations

import contextlib
import platform
from pathlib import Path
from typing import Any

import click

from pywebtransport._engine.select import get_engine
from pywebtransport._loop import run as run_in_loop
from pywebtransport._words import address_text, redacted
from pywebtransport.cli.measure.plot import milliseconds, picture
from pywebtransport.cli.measure.workloads import WORKLOADS, Bench, Figures, measure, suitable
from pywebtransport.cli.output import fail, json_option, note, print_json
from pywebtransport.cli.progress import size_text
from pywebtransport.cli.visitor import Visitor, visitor_options
from pywebtransport.config import ServerConfig
from pywebtransport.constants import DEFAULT_DEV_PORT
from pywebtransport.utils import certificate_hash
from pywebtransport.version import __version__

__all__ = ["command"]

COLUMNS = (("workload", 18), ("in a second", 13), ("throughput", 14), ("p50", 10), ("p99", 10))


@click.command(name="bench")
@visitor_options(needs_url=False)
@click.option(
    "--serve", is_flag=True, help="Be the server that is measured; --certfile, --keyfile: its own."
)
@click.option(
    "--host", default="localhost", show_default=True, help="With --serve: where to listen."
)
@click.option(
    "--port",
    default=DEFAULT_DEV_PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="With --serve: the UDP port; 0: any.",
)
@click.option(
    "--workload",
    "names",
    multiple=True,
    type=click.Choice(list(WORKLOADS)),
    help="Only this one; may be repeated.",
)
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(min=0.1, max=3600),
    help="How long each workload runs.",
)
@click.option(
    "--at-once",
    default=32,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Requests, and connections, at the same time.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE.svg",
    help="Draw the figures, too.",
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
    names: tuple[str, ...],
    seconds: float,
    at_once: int,
    plot: str | None,
    as_json: bool,
) -> int:
    """Measure a server.

    Every workload runs for some seconds on a connection of its own. Everything is measured by this
    client, in Python: what it shows is the least that the server can do.

    Against `bench --serve` all workloads run. A server of your own that echoes streams and
    datagrams can do all but upload and download; echo takes their place.

    \b
    Exit code 0: figures; 1: no connection, or a workload has none; 2: asked wrongly.

    \b
    Examples:
      pywebtransport bench --serve --port 4433
      pywebtransport bench https://server.example:4433/ --hash 5f3c...e1
      pywebtransport bench https://localhost:4433/ --dev --plot out.svg
      pywebtransport bench https://localhost:4433/echo --dev --workload requests --seconds 10 --json
    """
    if serve == (visitor is not None):
        raise click.UsageError("give a URL, or --serve")
    if visitor is None:
        with contextlib.suppress(KeyboardInterrupt):
            run_in_loop(answer(host, port, certfile, keyfile, engine))
        return 0
    bench = Bench(visitor, seconds=seconds, at_once=at_once)
    found = run_in_loop(run(bench, names, is_quiet=as_json))
    if plot:
        Path(plot).write_text(
            picture(found, redacted(visitor.url), circumstances(bench)), encoding="utf-8"
        )
    if as_json:
        print_json(document(bench, found))
    elif plot:
        note(f"drawn in {plot}")
    return 1 if any(figures.fault for figures in found) else 0


async def run(bench: Bench, names: tuple[str, ...], *, is_quiet: bool) -> list[Figures]:
    """The figures; each is printed as soon as it is known, unless this is to be quiet."""
    found: list[Figures] = []
    async for figures in measure(bench, list(names) or await suitable(bench)):
        if not is_quiet:
            if not found:
                click.echo(circumstances(bench))
                heads = (f"{name:<{width}}" for name, width in COLUMNS)
                click.secho("".join(heads).rstrip(), bold=True)
            click.echo(line(figures))
        found.append(figures)
    return found


def line(figures: Figures) -> str:
    """A row of the table."""
    if figures.fault:
        return f"{figures.name:<{COLUMNS[0][1]}}{figures.fault}"
    cells = [figures.name, "", "", "", ""]
    if figures.count:
        cells[1] = f"{figures.rate:,.0f}"
    if figures.bytes:
        cells[2] = f"{size_text(figures.throughput)}/s"
    for column, share in ((3, 0.5), (4, 0.99)):
        if (value := figures.percentile(share)) is not None:
            cells[column] = milliseconds(value)
    words = "".join(f"{cell:<{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    lost = "" if figures.loss is None else f"  {figures.loss:.2%} lost"
    return f"{words}{figures.text}{lost}"


def circumstances(bench: Bench) -> str:
    """What the figures depend on."""
    return (
        f"pywebtransport-native {__version__}, engine {engine_name(bench)}, "
        f"{platform.python_implementation()} {platform.python_version()}; "
        f"{bench.seconds:g} s each"
    )


def engine_name(bench: Bench) -> str:
    """Of this client."""
    return get_engine(bench.visitor.config()).name


def document(bench: Bench, found: list[Figures]) -> dict[str, Any]:
    """For JSON; seconds, bytes, and shares."""
    return {
        "url": bench.visitor.url,
        "version": __version__,
        "python": platform.python_version(),
        "engine": engine_name(bench),
        "seconds": bench.seconds,
        "at_once": bench.at_once,
        "workloads": [figures.to_dict() for figures in found],
    }


async def answer(
    host: str, port: int, certfile: str | None, keyfile: str | None, engine: str | None
) -> None:
    """Be the server, until Ctrl-C; without a certificate with the one of ``serve --dev``."""
    from pywebtransport.cli.development import obtain_certificate
    from pywebtransport.cli.measure.answer import answering_app

    if bool(certfile) != bool(keyfile):
        fail("--certfile and --keyfile go together")
    if not certfile or not keyfile:
        own = obtain_certificate()
        certfile, keyfile = own.certfile, own.keyfile
    config = ServerConfig(
        bind_host=host,
        bind_port=port,
        certfile=certfile,
        keyfile=keyfile,
        engine=engine,
        graceful_timeout=0,
        access_log=False,
    )
    app = answering_app(config)
    async with app:
        await app.server.listen()
        address = app.server.local_address
        assert address is not None
        click.echo(f"listening on UDP {address_text(address)}; Ctrl-C ends it. Measure it by")
        url = f"https://localhost:{address[1]}/"
        click.echo(f"  pywebtransport bench {url} --hash {certificate_hash(path=certfile)}")
        await app.server.serve_forever()
