"""A server's figures, as Prometheus gets them."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, generate_latest

from pywebtransport import WebTransportServer
from pywebtransport.telemetry import JsonLogFormatter, MetricsServer


async def main() -> None:
    registry = CollectorRegistry()
    async with (
        WebTransportServer() as server,
        MetricsServer(server, port=0, registry=registry) as metrics,
    ):
        print("scraped at:", metrics.local_address is not None)
        lines = generate_latest(registry).decode().splitlines()
        print(next(line for line in lines if line.startswith("webtransport_sessions_open ")))
    print("a log for programs:", JsonLogFormatter.__name__)


if __name__ == "__main__":
    asyncio.run(main())
