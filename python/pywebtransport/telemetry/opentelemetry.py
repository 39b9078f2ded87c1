"""Figures for OpenTelemetry: observable instruments over snapshots."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from pywebtransport.exceptions import ServerError
from pywebtransport.telemetry.metrics import METRICS, Metric

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from pywebtransport.server import WebTransportServer

__all__ = ["instrument"]

INTERVAL = 5.0
"""Seconds between two snapshots."""
MISSING = "OpenTelemetry needs its API: pip install 'pywebtransport-native[opentelemetry]'"


@contextlib.asynccontextmanager
async def instrument(
    server: WebTransportServer,
    *,
    meter_provider: MeterProvider | None = None,
    interval: float = INTERVAL,
) -> AsyncIterator[None]:
    """Report the server's figures to OpenTelemetry while the block runs.

    Readers of OpenTelemetry ask in threads of their own, so they see the latest of the snapshots
    that are taken every ``interval`` seconds in the event loop. ``meter_provider``: the global one
    when left out. Raises ServerError when the package is missing.
    """
    try:
        from opentelemetry.metrics import Observation, get_meter_provider
    except ImportError as error:
        raise ServerError(MISSING) from error
    meter = (meter_provider or get_meter_provider()).get_meter("pywebtransport")
    latest = [server.snapshot()]
    is_over = False

    def observe(metric: Metric) -> Any:
        def observations(_options: Any) -> Iterable[Any]:
            if is_over:
                return []
            return [Observation(value, labels) for labels, value in metric.read(latest[0])]

        return observations

    for metric in METRICS:
        name = metric.name.replace("webtransport_", "webtransport.", 1)
        create = (
            meter.create_observable_counter
            if metric.is_counter
            else meter.create_observable_up_down_counter
        )
        create(name, callbacks=[observe(metric)], description=metric.help)

    async def refresh() -> None:
        while True:
            await asyncio.sleep(interval)
            latest[0] = server.snapshot()

    task = asyncio.ensure_future(refresh())
    try:
        yield
    finally:
        is_over = True
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
