"""The documented API on every engine: no test here knows which one it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.support.certificate import Certificate, make_certificate

from .site import Site
from .web import MakeWeb, webs

ENGINES = ["native", "aioquic"]

MakeSite = Callable[..., Awaitable[Site]]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def site(engine: str, certificate: Certificate) -> AsyncIterator[MakeSite]:
    """Call it with options to get a running site; afterwards no task of it may be left."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:

        async def make(**options: Any) -> Site:
            return await stack.enter_async_context(
                Site(engine=engine, certificate=certificate, **options)
            )

        yield make
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks outlive their site: {left}"


@pytest.fixture
async def web(engine: str, certificate: Certificate) -> AsyncIterator[MakeWeb]:
    """Call it with a handler, and options, to get a server of requests."""
    async with webs(engine, certificate) as make:
        yield make
