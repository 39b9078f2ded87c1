"""``serve``: an application on a port, until a signal ends it."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pywebtransport._certificates import check_pair
from pywebtransport.cli.applications import find_application
from pywebtransport.cli.logs import LEVELS, configure_logging
from pywebtransport.cli.options import Options
from pywebtransport.cli.output import INTERRUPTED, fail
from pywebtransport.constants import DEFAULT_BIND_HOST, DEFAULT_DEV_PORT, ENGINES
from pywebtransport.server import ServerApp
from pywebtransport.server.workers import current_worker
from pywebtransport.server.workers.supervisor import MAX_WORKERS
from pywebtransport.telemetry import MetricsServer

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


def option(name: str, **attributes: Any) -> Callable[[F], F]:
    """An option that is an environment variable, too: PYWEBTRANSPORT_ and its name."""
    variable = f"PYWEBTRANSPORT_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, envvar=variable, show_envvar=True, **attributes)


@click.command(name="serve")
@click.argument("target", metavar="APP")
@option("--host", help=f"Name or address to listen on.  [default: {DEFAULT_BIND_HOST}]")
@option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"UDP port; 0: a free one.  [default: {DEFAULT_DEV_PORT}]",
)
@option("--certfile", type=click.Path(), help="PEM certificate chain, leaf first.")
@option("--keyfile", type=click.Path(), help="PEM key of the certificate, without a password.")
@option(
    "--dev",
    is_flag=True,
    help="Make a certificate that browsers accept by its hash, keep it between starts, and print"
    " what to paste into a page. Pages of any origin are answered.",
)
@option("--reload", is_flag=True, help="Start again when a source file below --app-dir changes.")
@option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    show_default=True,
    help="Processes that serve the port together (Linux, native engine).",
)
@option("--engine", type=click.Choice(ENGINES), help="What carries QUIC.  [default: native]")
@option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="The least that is logged.  [default: info]",
)
@option("--log-json", is_flag=True, help="Log one JSON object a line.")
@option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="TCP port on 127.0.0.1 for Prometheus (/metrics); of several workers each takes the port"
    " of its number further.",
)
@option(
    "--graceful-timeout",
    type=click.FloatRange(min=0),
    help="Seconds that sessions have to end after SIGTERM.  [default: 1]",
)
@option("--factory", is_flag=True, help="APP is a function: call it to get the application.")
@option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    show_default=True,
    help="Where modules are looked for first.",
)
def command(reload: bool, **values: Any) -> None:
    """Serve the ServerApp or ASGI application APP, written module:attribute.

    The attribute may be left out when it is `app`. Ctrl-C or SIGTERM ends the server in good order,
    once more at once. SIGHUP reads the certificate again, as a change of its file does; of several
    workers it replaces all, and sessions go on.

    \b
    Examples:
      pywebtransport serve server:app --dev --reload
      pywebtransport serve server:app --certfile cert.pem --keyfile key.pem --host :: --port 443
      pywebtransport serve server:app --dev --workers 4
      pywebtransport serve chat.server:make_app --factory --dev
    """
    options = Options(**values)
    if bool(options.certfile) != bool(options.keyfile):
        raise click.UsageError("--certfile and --keyfile go together")
    if options.dev and options.certfile:
        raise click.UsageError("--dev makes a certificate of its own: leave out --certfile")
    if reload and options.workers > 1:
        raise click.UsageError("--reload is for one worker: leave out --workers")
    if reload:
        from pywebtransport.cli.reloading import serve_reloading

        sys.exit(serve_reloading(options, serve))
    sys.exit(serve(options))


def serve(options: Options) -> int:
    """Serve until a signal comes; the exit code."""
    app = find_application(options.target, factory=options.factory, directory=options.app_dir)
    configure_logging(options.log_level, is_json=options.log_json)
    settings = options.settings()
    if options.dev:
        from pywebtransport.cli.development import DevelopmentServer

        settings |= DevelopmentServer(app, announces=options.is_first).settings()
    app.server._set(**settings)
    config = app.server.config
    if not config.certfile:
        fail("no certificate: name one with --certfile and --keyfile, or try --dev")
    check_pair(certfile=config.certfile, keyfile=config.keyfile)
    if options.metrics_port is not None:
        add_metrics(app, options.metrics_port)
    app.run(workers=options.workers)
    return INTERRUPTED if app._ended_by == signal.SIGINT else 0


def add_metrics(app: ServerApp, port: int) -> None:
    """Have the application serve its figures while it runs."""
    running = contextlib.AsyncExitStack()

    async def start() -> None:
        worker = current_worker()
        own = port if worker is None else port + worker.number - 1
        await running.enter_async_context(MetricsServer(app.server, port=own))

    app.on_startup(start)
    app.on_shutdown(running.aclose)
