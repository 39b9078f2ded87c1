"""Random programs of two applications over one session, on every engine.

Whatever they do: bytes arrive in order and unchanged, up to the end that the sender chose or that
somebody cut; every end is seen, once; nothing waits for ever; and nothing is left of it.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pywebtransport.exceptions import StreamError, WebTransportError
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream
from tests.support.certificate import Certificate

from .site import PATIENCE, Pair, Site, within

EXAMPLES = 60
STEPS = 40
HEADER = 8
"""Bytes at the front of each stream: the number by which the other end knows it."""

ends = st.sampled_from(["client", "server"])
sizes = st.one_of(st.integers(1, 100), st.integers(1_000, 40_000))
codes = st.sampled_from([0, 1, 29, 30, 255, 2**32 - 1])


def pattern(number: int, start: int, size: int) -> bytes:
    """Bytes that say where they belong."""
    period = bytes((number * 31 + i) % 251 for i in range(251))
    offset = start % 251
    return (period * (size // 251 + 2))[offset : offset + size]


@dataclass
class Flow:
    """One direction of one stream."""

    number: int
    sent: int = 0
    """Bytes of the pattern written."""
    is_over: bool = False
    """Finished, reset, or stopped by the reader: no more is written."""
    cut: set[int] = field(default_factory=set)
    """Codes with which either end cut it short; empty: it has a whole end, or none yet."""
    received: bytearray = field(default_factory=bytearray)
    ends: list[Any] = field(default_factory=list)
    """What its reader was told at the end: None is a whole one, or the code of a reset."""


@dataclass
class Opened:
    number: int
    is_bidirectional: bool
    opener: str
    near: Any
    far: asyncio.Future[Any]
    there: Flow
    back: Flow


class Program:
    """The two applications, and what they have seen."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.pair: Pair | None = None
        self.opened: dict[int, Opened] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.datagrams: dict[str, list[bytes]] = {"client": [], "server": []}
        self.sent_datagrams: dict[str, set[bytes]] = {"client": set(), "server": set()}
        self.closed_by: tuple[int, str] | None = None
        self.transports: dict[str, Any] = {}
        self.failures: list[BaseException] = []

    def spawn(self, work: Any) -> None:
        def done(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.failures.append(error)

        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(done)

    async def start(self) -> None:
        self.pair = await self.site.pair()
        for end in ("client", "server"):
            session = self.pair.end(end)
            self.transports[end] = await session.create_datagram_transport()
            self.spawn(self.accept(session))
            self.spawn(self.receive(end))

    async def accept(self, session: WebTransportSession) -> None:
        async for stream in session.incoming_streams():
            self.spawn(self.meet(stream))

    async def meet(self, stream: Any) -> None:
        """A stream of the other end: its first bytes say which, if it was not cut before."""
        try:
            number = int.from_bytes(await stream.readexactly(n=HEADER))
        except (StreamError, asyncio.IncompleteReadError):
            return
        opened = self.opened[number]
        assert not opened.far.done(), "one stream came twice"
        opened.far.set_result(stream)
        await self.read(stream, opened.there)

    async def read(self, stream: WebTransportReceiveStream, flow: Flow) -> None:
        try:
            while data := await stream.read(size=10_000):
                flow.received += data
            flow.ends.append(None)
        except StreamError as error:
            flow.ends.append(error.error_code)

    async def receive(self, end: str) -> None:
        try:
            while True:
                self.datagrams[end].append(await self.transports[end].receive())
        except WebTransportError:
            pass

    async def open(self, end: str, is_bidirectional: bool) -> int:
        assert self.pair is not None
        session = self.pair.end(end)
        number = len(self.opened) + 1
        if is_bidirectional:
            near: Any = await session.create_bidirectional_stream()
        else:
            near = await session.create_unidirectional_stream()
        opened = Opened(
            number,
            is_bidirectional,
            end,
            near,
            asyncio.get_running_loop().create_future(),
            Flow(number),
            Flow(number + 1000),
        )
        self.opened[number] = opened
        await near.write(data=number.to_bytes(HEADER))
        if is_bidirectional:
            self.spawn(self.read(near, opened.back))
        return number

    async def sender(self, number: int, is_opener: bool) -> tuple[Any, Flow] | None:
        """The end that writes, if there is one that may."""
        opened = self.opened[number]
        if is_opener:
            return None if opened.there.is_over else (opened.near, opened.there)
        if not opened.is_bidirectional or opened.back.is_over:
            return None
        if opened.there.cut and not opened.far.done():
            return None
        return await within(asyncio.shield(opened.far)), opened.back

    async def reader(self, number: int, is_opener: bool) -> tuple[Any, Flow] | None:
        opened = self.opened[number]
        if is_opener:
            return (opened.near, opened.back) if opened.is_bidirectional else None
        if opened.there.cut and not opened.far.done():
            return None
        return await within(asyncio.shield(opened.far)), opened.there

    async def write(self, number: int, is_opener: bool, size: int, fin: bool) -> None:
        if (found := await self.sender(number, is_opener)) is None:
            return
        stream, flow = found
        data = pattern(flow.number, flow.sent, size)
        flow.sent += size
        try:
            await within(stream.write(data=data, end_stream=fin))
        except StreamError:
            assert flow.cut or self.closed_by is not None
            flow.is_over = True
        flow.is_over |= fin

    async def reset(self, number: int, is_opener: bool, code: int) -> None:
        if (found := await self.sender(number, is_opener)) is not None:
            stream, flow = found
            flow.cut.add(code)
            flow.is_over = True
            await stream.reset(error_code=code)

    async def stop(self, number: int, is_opener: bool, code: int) -> None:
        if (found := await self.reader(number, is_opener)) is not None:
            stream, flow = found
            flow.cut.add(code)
            await stream.stop_receiving(error_code=code)

    async def send_datagram(self, end: str, size: int) -> None:
        data = len(self.sent_datagrams[end]).to_bytes(4) + bytes(min(size, 1_000))
        self.sent_datagrams[end].add(data)
        await self.transports[end].send(data=data)

    async def finish(self) -> None:
        """End what is open in an orderly way, see that everything ended, and close."""
        assert self.pair is not None
        for number in self.opened:
            for is_opener in (True, False):
                await self.write(number, is_opener, 1, True)
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE
        # What is awaited is what a reader is told, by no event of its own.
        while waiting := [each for each in self.opened.values() if not self.has_ended(each)]:
            assert loop.time() < end, f"no end was seen: {waiting}"
            await asyncio.sleep(0.005)
        self.check()
        await within(self.pair.client.close(code=7, reason="over"))
        await within(self.pair.server.wait_closed())
        await within(asyncio.gather(*self.tasks))
        assert not self.failures, self.failures

    def has_ended(self, opened: Opened) -> bool:
        """Whether every reader that there is has been told the end."""
        there = bool(opened.there.ends) or (bool(opened.there.cut) and not opened.far.done())
        back = not opened.is_bidirectional or bool(opened.back.ends)
        # What was cut before it was met has no end that answers.
        return there and (back or (bool(opened.there.cut) and not opened.far.done()))

    def check(self) -> None:
        assert not self.failures, self.failures
        for opened in self.opened.values():
            for flow in (opened.there, opened.back):
                assert flow.received == pattern(flow.number, 0, len(flow.received))
                assert len(flow.received) <= flow.sent
                assert len(flow.ends) <= 1, f"two ends: {flow}"
                if flow.ends == [None]:
                    assert len(flow.received) == flow.sent, "a whole end, and bytes are missing"
                elif flow.ends:
                    assert flow.cut, f"cut by nobody: {flow}"
        for end, other in (("client", "server"), ("server", "client")):
            got = self.datagrams[end]
            assert len(got) == len(set(got)), "a datagram came twice"
            assert set(got) <= self.sent_datagrams[other], "a datagram that nobody sent"


class Machine(RuleBasedStateMachine):
    """Each rule is something that one application does."""

    runner: asyncio.Runner
    site: Site
    streams: Bundle[int] = Bundle("streams")

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.program = Program(self.site)
        self.run(self.program.start())

    @rule(target=streams, end=ends, is_bidirectional=st.booleans())
    def open(self, end: str, is_bidirectional: bool) -> int:
        number: int = self.run(self.program.open(end, is_bidirectional))
        return number

    @rule(number=streams, is_opener=st.booleans(), size=sizes, fin=st.booleans())
    def write(self, number: int, is_opener: bool, size: int, fin: bool) -> None:
        self.run(self.program.write(number, is_opener, size, fin))

    @rule(number=streams, is_opener=st.booleans(), code=codes)
    def reset(self, number: int, is_opener: bool, code: int) -> None:
        self.run(self.program.reset(number, is_opener, code))

    @rule(number=streams, is_opener=st.booleans(), code=codes)
    def stop(self, number: int, is_opener: bool, code: int) -> None:
        self.run(self.program.stop(number, is_opener, code))

    @rule(end=ends, size=sizes)
    def datagram(self, end: str, size: int) -> None:
        self.run(self.program.send_datagram(end, size))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "program"):
            self.program.check()

    def teardown(self) -> None:
        if hasattr(self, "program"):
            self.run(self.program.finish())


@pytest.mark.timeout(240)
def test_random_programs(engine: str, certificate: Certificate) -> None:
    with asyncio.Runner() as runner:
        site = Site(engine=engine, certificate=certificate)
        runner.run(site.__aenter__())
        try:
            machine = type("MachineOfEngine", (Machine,), {"runner": runner, "site": site})
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    # A program that waits for ever takes its time: it is not tried again.
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
            runner.run(nothing_left())
        finally:
            runner.run(site.__aexit__())


async def nothing_left() -> None:
    async with asyncio.timeout(10):
        while True:
            gc.collect()
            left = [each for each in gc.get_objects() if isinstance(each, WebTransportStream)]
            if not left:
                return
            await asyncio.sleep(0.05)
