"""The version, which is that of the extension."""

from __future__ import annotations

from pywebtransport._native import __version__

__all__ = ["__version__"]
