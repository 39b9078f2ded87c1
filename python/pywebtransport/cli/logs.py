"""The log of ``serve``: to stderr, with colour on a terminal."""

from __future__ import annotations

import logging

import click

from pywebtransport.server.running import LogFormatter
from pywebtransport.telemetry import JsonLogFormatter

__all__ = ["LEVELS", "configure_logging"]

LEVELS = ("debug", "info", "warning", "error", "critical")
DEFAULT_LEVEL = "info"
COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class Handler(logging.Handler):
    """Writes as ``click.echo`` does, which knows where colour is wanted."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            colour = COLOURS.get(record.levelname)
            if colour is not None:
                level = record.levelname
                text = text.replace(f" {level} ", f" {click.style(level, fg=colour)} ", 1)
            click.echo(text, err=True)
        except Exception:
            self.handleError(record)


def configure_logging(level: str | None, *, is_json: bool = False) -> None:
    """Log what the library says; where the application has configured logging, only the level.

    ``is_json``: one JSON object a line, whatever the application has configured.
    """
    library = logging.getLogger("pywebtransport")
    is_configured = library.hasHandlers() or library.level != logging.NOTSET
    if is_json:
        plain = logging.StreamHandler()
        plain.setFormatter(JsonLogFormatter())
        library.handlers[:] = [plain]
        library.propagate = False
        library.setLevel((level or DEFAULT_LEVEL).upper())
        return
    if not is_configured:
        handler = Handler()
        handler.setFormatter(LogFormatter())
        library.addHandler(handler)
        level = level or DEFAULT_LEVEL
    if level is not None:
        library.setLevel(level.upper())
