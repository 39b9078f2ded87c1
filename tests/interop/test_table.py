"""The committed table is what the suite saw. Runs after the checks: files go by their names."""

from __future__ import annotations

import os

from tests.interop.checks import CHECKS
from tests.interop.conftest import CASES, SEEN
from tests.interop.registry import Known, Peer
from tests.interop.table import DOCUMENT, render


def documented(peer: Peer, role: str, engine: str, check: str) -> Known | None:
    return peer.deviation(role, engine, check)


def seen(peer: Peer, role: str, engine: str, check: str) -> Known | None:
    """As `documented`, from what came out in this run; what it has no word for is an error."""
    what = SEEN[peer.name, role, engine, check]
    known = peer.deviation(role, engine, check)
    if what is None:
        return known if known is not None and known.sometimes else None
    assert known is not None and known.matches(what), f"{peer.name} {role} {engine} {check}: {what}"
    return known


def test_the_table_is_what_was_seen() -> None:
    if os.environ.get("WRITE_INTEROP_TABLE"):
        DOCUMENT.write_text(render(seen))
    assert DOCUMENT.read_text() == render(documented), "run `make interop-table`"
    for case in CASES:
        for check in CHECKS:
            cell = (case.peer, case.role, case.engine, check)
            if (case.peer.name, *cell[1:]) in SEEN:  # all of them, but in a run of a few tests
                assert seen(*cell) == documented(*cell)
