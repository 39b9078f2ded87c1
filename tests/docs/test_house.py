"""The picture of the house names what is there."""

from __future__ import annotations

import re
from pathlib import Path

from pywebtransport.constants import DEFAULT_MAX_INCOMING_DATAGRAMS, DEFAULT_MAX_QUEUED_EVENTS
from pywebtransport.datagram.inbox import BATCH

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python/pywebtransport"
TEXT = (ROOT / "docs/topics/house.md").read_text()


def test_every_file_and_room_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:rust|tests|_engine|_link)?/?[\w/*]+\.(?:rs|py)|rust/\w+)`", TEXT))
    assert len(named) > 15
    places = (ROOT, PACKAGE, PACKAGE / "_engine")
    assert not [name for name in named if not any((place / name).exists() for place in places)]


def test_every_room_of_the_package_is_in_the_table() -> None:
    rows = "".join(line for line in TEXT.splitlines() if line.startswith("|"))
    rooms = [each.parent.name for each in PACKAGE.glob("*/__init__.py")]
    assert rooms
    assert not [room for room in rooms if f"`{room}`" not in rows]


def test_the_figures_are_those_of_the_code() -> None:
    assert f"{DEFAULT_MAX_INCOMING_DATAGRAMS:,}\nlong" in TEXT
    assert f"up to {BATCH} at once" in TEXT
    assert f"from a queue of {DEFAULT_MAX_QUEUED_EVENTS:,}" in TEXT
