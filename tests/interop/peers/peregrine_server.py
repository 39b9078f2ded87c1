"""The ASGI server peregrine-server 1.2 of PyPI (drafts 02, 07 and later) as an end, a server only.

The first request has to be `listen`; with its certificate this program becomes the server, which
imports it again for `app` and goes on with the requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import end
from peregrine.webtransport import WebTransportSession

# Where answers go: standard output is the server's own.
ANSWERS = int(os.environ.get("PEREGRINE_ANSWERS", "1"))


class Stream(end.Stream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        await self._stream.send(data)

    async def finish(self) -> None:
        await self._stream.end()

    async def read(self) -> bytes:
        while (data := await self._stream.receive()) == b"":
            pass
        return bytes(data or b"")

    async def reset(self, code: int) -> None:
        raise end.Cannot("has no reset of a stream")

    async def stop(self, code: int) -> None:
        raise end.Cannot("has no stop of a stream")


class Session(end.Session):
    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._streams: dict[bool, asyncio.Queue[Stream]] = {
            False: asyncio.Queue(),
            True: asyncio.Queue(),
        }
        self._opening = asyncio.Lock()
        self.ended = asyncio.create_task(self._sort())

    async def _sort(self) -> None:
        async for stream in self._session.incoming_streams():
            self._streams[not stream.bidirectional].put_nowait(Stream(stream))

    async def open(self, unidirectional: bool) -> Stream:
        async with self._opening:
            return Stream(await self._session.create_stream(bidirectional=not unidirectional))

    async def accept(self, unidirectional: bool) -> Stream:
        return await self._streams[unidirectional].get()

    async def send_datagram(self, data: bytes) -> None:
        await self._session.send_datagram(data)

    async def receive_datagram(self) -> bytes:
        data = await self._session.receive_datagram()
        if data is None:
            raise ConnectionError("the session has ended")
        return bytes(data)

    async def close(self, code: int, reason: str) -> None:
        await self._session.close(code, reason)

    async def closed(self) -> tuple[int | None, str | None]:
        await asyncio.shield(self.ended)
        return self._session.close_code, self._session.close_reason


class Program(end.End):
    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        return int(os.environ["PEREGRINE_PORT"])


program = Program()


def answer_requests(loop: asyncio.AbstractEventLoop) -> None:
    def say(number: int, answer: dict[str, Any]) -> None:
        os.write(ANSWERS, json.dumps({"id": number} | answer).encode() + b"\n")

    async def answer(request: dict[str, Any]) -> None:
        number, op = request.pop("id"), request.pop("op")
        say(number, await program.run(op, request))

    say(int(os.environ["PEREGRINE_FIRST"]), {"ok": {"port": int(os.environ["PEREGRINE_PORT"])}})
    for line in sys.stdin:
        request = json.loads(line)
        loop.call_soon_threadsafe(lambda request=request: program.spawn(answer(request)))
    os._exit(0)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.startup":
                loop = asyncio.get_running_loop()
                threading.Thread(target=answer_requests, args=(loop,), daemon=True).start()
            else:
                return
    elif scope["type"] == "webtransport":
        session = WebTransportSession(scope, receive, send)
        if session.path == "/close":
            await session.accept()
            await session.close(end.CLOSE_CODE, end.CLOSE_REASON)
        elif session.path.startswith("/lab/"):
            await session.accept()
            it = Session(session)
            program.arrived(session.path, it)
            await it.ended
        else:
            await session.close(404)


def main() -> None:
    line = b""
    while not line.endswith(b"\n"):  # and no more of the input than this
        line += os.read(0, 1)
    request = json.loads(line)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = os.dup(1)
    os.set_inheritable(answers, True)
    os.dup2(2, 1)
    environment = {
        "PEREGRINE_ANSWERS": str(answers),
        "PEREGRINE_FIRST": str(request["id"]),
        "PEREGRINE_PORT": str(port),
    }
    here = Path(__file__).parent
    server = Path(sys.executable).with_name("peregrine")
    os.execve(
        server,
        [
            *(str(server), "peregrine_server:app", "--python-path", str(here), "--http3"),
            "--no-uvloop",
            *("--port", str(port), "--tls-cert", request["certfile"]),
            *("--tls-key", request["keyfile"]),
        ],
        os.environ | environment,
    )


if __name__ == "__main__":
    main()
