"""Samples of a client, taken every tenth of a second."""

from __future__ import annotations

import asyncio

from examples.api.local import echo, serving
from pywebtransport import WebTransportClient
from pywebtransport.monitor import ClientMonitor


async def main() -> None:
    async with (
        serving(echo) as (url, config),
        WebTransportClient(config=config) as client,
        ClientMonitor(client, monitoring_interval=0.1) as monitor,
    ):
        await client.connect(url=url)
        while not monitor.get_metrics_history() or not attempted(monitor):
            await asyncio.sleep(0.05)
        print("attempted:", attempted(monitor), "alerts:", monitor.get_alerts())


def attempted(monitor: ClientMonitor) -> int:
    count: int = monitor.get_metrics_summary()["latest_metrics"]["stats"]["connections"][
        "attempted"
    ]
    return count


if __name__ == "__main__":
    asyncio.run(main())
