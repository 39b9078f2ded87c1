"""What a peer can cause as often as it likes is logged once in a while."""

from __future__ import annotations

import logging
import time
from typing import Any

__all__ = ["SparseLog"]

INTERVAL = 60.0
"""Seconds between two lines."""


class SparseLog:
    """Logs a kind of line once a minute, and then says how many were left out; those at DEBUG."""

    __slots__ = ("_due", "_left_out", "_logger")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._due = 0.0
        self._left_out = 0

    def log(self, level: int, text: str, *args: Any, **options: Any) -> None:
        """As ``Logger.log``, if it is time."""
        now = time.monotonic()
        if now < self._due:
            self._left_out += 1
            self._logger.debug(text, *args)
            return
        self._due = now + INTERVAL
        if self._left_out:
            text += " (%d more like it before)"
            args = (*args, self._left_out)
            self._left_out = 0
        self._logger.log(level, text, *args, **options)

    def warning(self, text: str, *args: Any) -> None:
        """At WARNING."""
        self.log(logging.WARNING, text, *args)
