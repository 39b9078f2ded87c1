"""One line that moves, on a terminal only."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress", "size_text"]

PAUSE = 0.1
"""Seconds between two pictures."""
BAR = 24
CLEAR = "\r\x1b[K"


class Progress:
    """How far something is, on stderr; nothing where that is no terminal.

    Args:
        label: What it is.
        total: Bytes, or steps; None: nobody knows.
        is_bytes: Sizes and rates are shown.
    """

    def __init__(self, label: str, total: int | None = None, *, is_bytes: bool = True) -> None:
        self._label = label
        self._total = total
        self._is_bytes = is_bytes
        self._done = 0
        self._started = time.monotonic()
        self._shown = 0.0
        self._is_on = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._is_on and self._shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()

    def advance(self, amount: int) -> None:
        """So much more is done."""
        self._done += amount
        now = time.monotonic()
        if self._is_on and now - self._shown >= PAUSE:
            self._shown = now
            sys.stderr.write(CLEAR + self._line(now - self._started))
            sys.stderr.flush()

    def _line(self, seconds: float) -> str:
        words = f"{self._label}  "
        if self._total:
            share = min(1.0, self._done / self._total)
            filled = round(share * BAR)
            words += f"[{'#' * filled}{'.' * (BAR - filled)}] {share:4.0%}"
        if not self._is_bytes:
            return words
        rate = self._done / seconds if seconds else 0.0
        words += f"  {size_text(self._done)}"
        if self._total:
            words += f" of {size_text(self._total)}"
        words += f"  {size_text(rate)}/s"
        if self._total and rate and self._done < self._total:
            words += f"  {(self._total - self._done) / rate:.0f} s left"
        return words


def size_text(size: float) -> str:
    """Bytes for people, in powers of ten: ``3.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
