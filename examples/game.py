"""A game: the server moves everybody, and tells the state 60 times a second in datagrams.

A player's datagram is two signed bytes: where it steers. The state is five bytes for each player:
number, and place on a board of 1000 by 1000.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count

from examples.local import configuration, run
from pywebtransport import ServerApp, WebTransportSession
from pywebtransport.datagram import DatagramBroadcaster

TICK = 1 / 60
SPEED = 7
SIZE = 1000
PLACE = struct.Struct("!BHH")
MAX_PLAYERS = 200  # 1000 bytes: a state has to fit into a datagram

app = ServerApp(config=configuration(max_sessions=MAX_PLAYERS))
numbers = count()


@dataclass
class Player:
    number: int
    x: int = SIZE // 2
    y: int = SIZE // 2
    dx: int = 0
    dy: int = 0

    def move(self) -> None:
        self.x = min(max(self.x + self.dx * SPEED, 0), SIZE)
        self.y = min(max(self.y + self.dy * SPEED, 0), SIZE)


players: dict[WebTransportSession, Player] = {}
everybody = DatagramBroadcaster()
running = AsyncExitStack()


async def tick() -> None:
    """The loop of the game; a late tick is not made up for."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        for player in players.values():
            player.move()
        state = b"".join(PLACE.pack(each.number, each.x, each.y) for each in players.values())
        if state:
            await everybody.broadcast(data=state, ttl=TICK)
        due = max(due + TICK, loop.time())
        await asyncio.sleep(due - loop.time())


@app.on_startup
async def start() -> None:
    await running.enter_async_context(everybody)
    game = asyncio.create_task(tick())
    running.callback(game.cancel)


app.on_shutdown(running.aclose)


@app.route("/game")
async def play(session: WebTransportSession) -> None:
    datagrams = await session.create_datagram_transport()
    taken = {player.number for player in players.values()}
    number = next(each for each in numbers if each % 256 not in taken) % 256
    player = players[session] = Player(number)
    await everybody.add_transport(transport=datagrams)
    try:
        hello = await session.create_unidirectional_stream()
        await hello.write_all(bytes([number]))
        async for data in datagrams:
            if len(data) == 2:
                dx, dy = struct.unpack("!bb", data)
                player.dx, player.dy = min(max(dx, -1), 1), min(max(dy, -1), 1)
    finally:
        del players[session]
        await everybody.remove_transport(transport=datagrams)


if __name__ == "__main__":
    run(app, "game.html")
