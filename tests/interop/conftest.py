"""Peers in processes of their own, and our two ends in the tests' process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from examples.certificate import make_certificate
from tests.interop.checks import End, Pair, ask
from tests.interop.ours import Ours
from tests.interop.registry import ENGINES, PEERS, Peer
from tests.interop.remote import Remote


@dataclass(frozen=True)
class Case:
    """A peer in one role, and the engine of ours in the other."""

    peer: Peer
    role: str
    engine: str

    def __str__(self) -> str:
        return f"{self.peer.name} as {self.role}, {self.engine}"


CASES = [Case(peer, role, engine) for peer in PEERS for role in peer.roles for engine in ENGINES]


SEEN: dict[tuple[str, str, str, str], str | None] = {}
"""By peer, role, engine and check: what a run saw instead of what should be, or None."""


class Laboratory:
    """Each end once, started when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self.certificate = make_certificate(directory)
        self._peers, self._ours = AsyncExitStack(), AsyncExitStack()
        self._ends: dict[str, End] = {}
        self._ports: dict[tuple[str, bool], int] = {}

    async def __aenter__(self) -> Laboratory:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._ours.aclose()
        await self._peers.aclose()

    async def pair(self, case: Case, *, patience: float) -> Pair:
        theirs, ours = await self._peer(case.peer), await self._end(case.engine)
        client, server = (ours, theirs) if case.role == "server" else (theirs, ours)
        name = case.peer.name if case.role == "server" else case.engine
        ports = {small: await self._port(name, server, small) for small in (False, True)}
        sha256 = self.certificate.sha256
        return Pair(client, server, ports, sha256=sha256, patience=patience)

    async def _peer(self, peer: Peer) -> End:
        if peer.name not in self._ends:
            try:
                end = await self._peers.enter_async_context(Remote(peer.command))
            except FileNotFoundError:
                pytest.fail(f"{peer.name} is not there: run `make test-interop`")
            self._ends[peer.name] = end
        return self._ends[peer.name]

    async def _end(self, engine: str) -> End:
        if engine not in self._ends:
            self._ends[engine] = await self._ours.enter_async_context(Ours(engine))
        return self._ends[engine]

    async def _port(self, name: str, server: End, small: bool) -> int:
        if (name, small) not in self._ports:
            files = {"certfile": self.certificate.certfile, "keyfile": self.certificate.keyfile}
            answer = await ask("server", server, 30, "listen", **files, small=small)
            self._ports[name, small] = answer["port"]
        return self._ports[name, small]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def laboratory(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Laboratory]:
    async with Laboratory(tmp_path_factory.mktemp("certificate")) as laboratory:
        yield laboratory


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param
