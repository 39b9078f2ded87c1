"""Telemetry fan-in: many sensors send readings in datagrams, one page watches them all.

`python -m examples.telemetry` is the server; `python -m examples.telemetry --sensors 20` starts
sensors beside it. A reading is a number and a temperature; one that is lost matters little, since
the next comes soon. Each second the server tells whoever watches a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from dataclasses import dataclass

from examples.local import arguments, client_configuration, configuration, run
from pywebtransport import ClientConfig, ServerApp, WebTransportClient, WebTransportSession
from pywebtransport.stream import StreamBroadcaster

READING = struct.Struct("!If")
INTERVAL = 0.05

app = ServerApp(config=configuration())
watchers = StreamBroadcaster()


@dataclass
class Sensor:
    number: int = 0
    received: int = 0
    temperature: float = 0.0

    def take(self, number: int, temperature: float) -> None:
        self.received += 1
        if number > self.number:  # datagrams may overtake each other
            self.number, self.temperature = number, temperature

    def summary(self) -> dict[str, float]:
        lost = max(self.number - self.received, 0)
        return {
            "received": self.received,
            "lost": lost,
            "temperature": round(self.temperature, 2),
        }


sensors: dict[str, Sensor] = {}


@app.pattern_route(r"/sensor/([\w-]{1,40})")
async def sensor(session: WebTransportSession) -> None:
    name = session.path.rpartition("/")[2]
    here = sensors[name] = Sensor()
    try:
        async for data in await session.create_datagram_transport():
            if len(data) == READING.size:
                here.take(*READING.unpack(data))
    finally:
        if sensors.get(name) is here:
            del sensors[name]


@app.route("/watch")
async def watch(session: WebTransportSession) -> None:
    watchers.add(await session.create_unidirectional_stream())
    await session.wait_closed()


async def tell() -> None:
    while True:
        await asyncio.sleep(1)
        summaries = {name: each.summary() for name, each in sorted(sensors.items())}
        await watchers.broadcast(json.dumps(summaries) + "\n")


@app.on_startup
async def start() -> None:
    task = asyncio.create_task(tell())
    app.on_shutdown(task.cancel)


async def send_readings(config: ClientConfig, port: int, name: str) -> None:
    async with WebTransportClient(config=config) as client:
        session = await client.connect(f"https://localhost:{port}/sensor/{name}")
        for number in range(1, 1 << 32):
            temperature = 20 + 5 * math.sin(number / 40 + hash(name) % 7)
            await session.send_datagram(READING.pack(number, temperature))
            await asyncio.sleep(INTERVAL)


async def run_sensors(count: int, port: int) -> None:
    config = client_configuration(port)
    async with asyncio.TaskGroup() as tasks:
        for i in range(count):
            tasks.create_task(send_readings(config, port, f"sensor-{i:03}"))


if __name__ == "__main__":
    parser = arguments()
    parser.add_argument("--sensors", type=int, metavar="N", help="run N sensors, not the server")
    given = parser.parse_args()
    if given.sensors:
        asyncio.run(run_sensors(given.sensors, given.port))
    else:
        run(app, "telemetry.html", given.port)
