"""SECURITY.md says the limits that the code has."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import generate_limits as limits  # noqa: E402


def test_the_tables_of_limits_are_up_to_date() -> None:
    assert limits.PAGE.read_text() == limits.page(), "run `make docs`"


def test_every_limit_of_the_core_is_there() -> None:
    source = limits.CORE.read_text()
    struct = source[source.index("pub struct Limits {") : source.index("impl Default for Limits")]
    assert len(list(limits.core())) == struct.count("    pub ")
