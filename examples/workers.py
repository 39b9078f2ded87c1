"""Two processes on one port, whose rooms are one room through Redis.

Each worker runs this file anew. A page tells which process it has reached; what it says reaches
the pages of the other process as well. Needs Linux and a Redis server.
"""

from __future__ import annotations

import os

from examples.local import arguments, configuration, run
from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.pubsub import PubSubBroker, RedisBackplane

TOPIC = "room"

parser = arguments()
parser.add_argument("--redis", default="redis://localhost:6379", metavar="URL")
parser.add_argument("--workers", type=int, default=2)
given = parser.parse_args()

app = ServerApp(config=configuration(engine="native"))
broker = PubSubBroker(
    backplane=RedisBackplane(given.redis),
    max_message_size=2048,
    authorize=lambda session, action, topic: topic == TOPIC,
)
app.on_startup(broker.start)
app.on_shutdown(broker.close)


@app.route("/room")
async def room(session: WebTransportSession) -> None:
    hello = await session.create_unidirectional_stream()
    await hello.write_all(str(os.getpid()))
    await broker.handle_session(session)


if __name__ == "__main__":
    run(app, "workers.html", given.port, workers=given.workers)
