"""Attacks on a server process of each engine, with a bound on what each may cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.security.target")

from tests.support.certificate import Certificate, make_certificate  # noqa: E402

from .target import Target, target_of  # noqa: E402

Serve = Callable[..., Awaitable[Target]]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def serve(engine: str, certificate: Certificate) -> AsyncIterator[Serve]:
    """A server process; call it with the server's options."""
    async with AsyncExitStack() as stack:

        async def serve(**options: Any) -> Target:
            return await stack.enter_async_context(target_of(engine, certificate, **options))

        yield serve
