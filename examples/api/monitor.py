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
        await asyncio.sleep(0.3)
        latest = monitor.get_metrics_summary()["latest_metrics"]
        print("attempted:", latest["stats"]["connections"]["attempted"])
        print("alerts:", monitor.get_alerts())


if __name__ == "__main__":
    asyncio.run(main())
