"""Links between handlers on every kind of QUIC connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.support.certificate import Certificate, make_certificate

from .link import Link

PAIRS = [
    ("aioquic", "aioquic"),
    ("qh3", "qh3"),
    ("native", "native"),
    ("native", "qh3"),
    ("qh3", "aioquic"),
    ("aioquic", "native"),
]

MakeLink = Callable[[], Awaitable[Link]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=PAIRS, ids="-".join)
async def link(request: pytest.FixtureRequest, certificate: Certificate) -> Link:
    """A client and a server of each pairing, connected."""
    link = Link(*request.param, certificate)
    await link.settle()
    return link


@pytest.fixture
async def aioquic_link(certificate: Certificate) -> Link:
    """One pairing, for what does not depend on the QUIC library."""
    link = Link("aioquic", "aioquic", certificate)
    await link.settle()
    return link
