"""What was broken once, a file a theme; on every engine where an engine takes part."""

from __future__ import annotations

from tests.behaviour.conftest import certificate, engine, site

__all__ = ["certificate", "engine", "site"]
