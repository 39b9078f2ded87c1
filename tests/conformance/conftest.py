"""Every row of the sheet, on every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

ROOM = Path(__file__).parent
pytest.register_assert_rewrite(
    *(f"tests.conformance.{path.stem}" for path in ROOM.glob("*.py") if path.stem != "conftest")
)

from tests.support.certificate import Certificate, make_certificate  # noqa: E402

from .bench import Bench  # noqa: E402


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def bench(engine: str, certificate: Certificate) -> AsyncIterator[Bench]:
    async with Bench(engine, certificate) as bench:
        yield bench
