"""The log as one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from pywebtransport.server.access_log import EVENT, FIELDS
from pywebtransport.server.running import LogFormatter

__all__ = ["JsonLogFormatter"]


class JsonLogFormatter(logging.Formatter):
    """``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, and of the access log the event
    and each of its fields, ``session`` among them; ``exception`` with a traceback; ``process`` when
    there are several.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        when = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if LogFormatter.who:
            line["process"] = LogFormatter.who.strip()
        if event := getattr(record, EVENT, None):
            line["event"] = event
            line |= {k: v for k, v in getattr(record, FIELDS).items() if k not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
