"""The conformance sheet over real UDP: a raw peer sends, the engine's answer is on the wire."""

from __future__ import annotations

import pytest

# Each registers its cases.
from . import capsules, control, datagrams, requests, sessions, settings, streams
from .bench import CASES, Bench
from .sheet import SHEET

ROOMS = (capsules, control, datagrams, requests, sessions, settings, streams)


def test_every_row_of_the_sheet_has_a_test() -> None:
    assert sorted(CASES) == sorted(SHEET)
    assert len(ROOMS) == len({case.__module__ for case in CASES.values()})


@pytest.mark.parametrize("row", SHEET)
async def test_conformance(bench: Bench, row: str) -> None:
    await CASES[row](bench)
