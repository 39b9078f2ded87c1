"""For every room of tests: each engine in turn, and in CI a test that did not run has failed.

TEST_EVENT_LOOP=uvloop runs them on that loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator

import pytest

from pywebtransport.constants import ENGINES

# Programs that tests start inherit what is ignored, as below nohup or in a shell's background, and
# not what has a handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)

LoopFactories = dict[str, Callable[[], asyncio.AbstractEventLoop]]
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


if os.environ.get("TEST_EVENT_LOOP") == "uvloop":
    import uvloop

    def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> LoopFactories:
        return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure in CI: {report.longrepr}"
    return report


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)
