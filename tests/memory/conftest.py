"""Memory of a server process, as the kernel counts it."""

from __future__ import annotations

import pytest

from tests.support.certificate import Certificate, make_certificate

ENGINES = ["native", "aioquic"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))
