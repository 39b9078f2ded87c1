"""Every check with every peer, in both roles, on both engines."""

from __future__ import annotations

import pytest

from tests.interop.checks import CHECKS, Seen
from tests.interop.conftest import SEEN, Case, Laboratory

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest.mark.parametrize("check", CHECKS)
async def test_check(case: Case, laboratory: Laboratory, check: str) -> None:
    cell = (case.peer.name, case.role, case.engine, check)
    known = case.peer.deviation(case.role, case.engine, check)
    # A peer is not waited for long where it is known not to answer.
    pair = await laboratory.pair(case, patience=2 if known else 30)
    try:
        await CHECKS[check](pair)
    except Seen as seen:
        print(f"{case}: {check}: {seen}")
        SEEN[cell] = str(seen)
        if known is None or not known.matches(str(seen)):
            pytest.fail(f"{case}: {check}: {seen}")
    else:
        SEEN[cell] = None
        if known is not None and not known.sometimes:
            pytest.fail(f"{case}: {check} works, but is known not to: {known.why}")
