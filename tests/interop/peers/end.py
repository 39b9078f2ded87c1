"""One end of a connection, driven by JSON lines: what every peer program in Python is made of.

A line in is `{"id": 1, "op": "open", ...}`; a line out `{"id": 1, "ok": {...}}` or
`{"id": 1, "error": "..."}`, in the order in which they are done. The operations are the public
methods of `End`; the programs in Go and Rust speak the same. A program says how its library
connects, listens and ends things (`Session`, `Stream`); what is done with that stands here.

Only the standard library and Python 3.11: every peer's environment can import it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count as counter
from typing import Any

CLOSE_CODE, CLOSE_REASON = 4242, "bye é"
PROTOCOL = "chat.v1"
CHUNK = 65536
# Of a session with session flow control, where an end is asked to be `small`.
SMALL_DATA, SMALL_STREAMS = 20_000, 2


class Cannot(Exception):
    """The library has no way to do this."""


class Rejected(Exception):
    """The server did not accept the session; `status` is None where the client is not told."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


class StreamEnd(Exception):
    """A half of a stream was ended by the peer; None: without an application's code."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class Stream:
    """A stream of the library, or the halves of it that there are."""

    async def write(self, data: bytes) -> None:
        """Raises StreamEnd when the peer wants no more."""
        raise NotImplementedError

    async def finish(self) -> None:
        raise NotImplementedError

    async def read(self) -> bytes:
        """Some bytes; none at the end. Raises StreamEnd when the peer reset it."""
        raise NotImplementedError

    async def reset(self, code: int) -> None:
        raise NotImplementedError

    async def stop(self, code: int) -> None:
        raise NotImplementedError


class Session:
    """A session of the library."""

    protocol: str | None = None

    async def open(self, unidirectional: bool) -> Stream:
        raise NotImplementedError

    async def accept(self, unidirectional: bool) -> Stream:
        raise NotImplementedError

    async def send_datagram(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive_datagram(self) -> bytes:
        raise NotImplementedError

    async def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    async def closed(self) -> tuple[int | None, str | None]:
        """Waits for the end; None where the library does not tell."""
        raise NotImplementedError


class End:
    """The operations, each with a JSON object as its result."""

    def __init__(self) -> None:
        self._numbers = counter(1)
        self._sessions: dict[int, Session] = {}
        self._streams: dict[int, Stream] = {}
        self._arrived: dict[str, asyncio.Queue[Session]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # What a program fills in.

    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        """Serve `/lab/...` and `/close` on 127.0.0.1, and return the port."""
        raise Cannot("has no server")

    async def start_session(self, url: str, protocols: list[str], small: bool) -> Session:
        raise Cannot("has no client")

    def shut_down(self) -> None:
        """End what would outlive the program."""

    # What a program calls.

    def arrived(self, path: str, session: Session) -> None:
        """A session that a client asked for at a path below /lab/."""
        self._arrivals(path).put_nowait(session)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Operations.

    async def listen(self, certfile: str, keyfile: str, small: bool = False) -> dict[str, Any]:
        return {"port": await self.start_listening(certfile, keyfile, small)}

    async def connect(
        self, url: str, sha256: str, protocols: list[str] | None = None, small: bool = False
    ) -> dict[str, Any]:
        """A session with a server whose certificate has this hash, which most do not look at."""
        try:
            session = await self.start_session(url, protocols or [], small)
        except Rejected as rejected:
            return {"status": rejected.status}
        return self._keep_session(session)

    async def accept(self, path: str) -> dict[str, Any]:
        return self._keep_session(await self._arrivals(path).get())

    async def echo(self, session: int) -> dict[str, Any]:
        """From now on, send everything of the session back."""
        it = self._sessions[session]
        for loop in (_echo_bidirectional, _echo_unidirectional):
            self.spawn(loop(self, it))
        self.spawn(_echo_datagrams(it))
        return {}

    async def exchange(
        self, session: int, unidirectional: bool, count: int, size: int
    ) -> dict[str, Any]:
        """Open streams at once, send random bytes, and count how many echoes are equal."""
        it = self._sessions[session]
        sent = [os.urandom(size) for _ in range(count)]
        if not unidirectional:
            equal = await asyncio.gather(*(_exchange(it, data) for data in sent))
            return {"equal": sum(equal)}
        receiving = asyncio.gather(*(_receive(it) for _ in sent))
        await asyncio.gather(*(_open_and_send(it, data) for data in sent))
        echoes = {digest(data) for data in await receiving}
        return {"equal": len(echoes & {digest(data) for data in sent})}

    async def datagrams(self, session: int, count: int, size: int) -> dict[str, Any]:
        """Send one datagram after the other, and count the echoes; each is tried three times."""
        it = self._sessions[session]
        equal = 0
        for _ in range(count):
            data = os.urandom(size)
            for _ in range(3):
                await it.send_datagram(data)
                try:
                    async with asyncio.timeout(1):
                        while await it.receive_datagram() != data:
                            pass
                except TimeoutError:
                    continue
                equal += 1
                break
        return {"equal": equal}

    async def open(self, session: int, unidirectional: bool = False) -> dict[str, Any]:
        """Open a stream and send `hello` on it."""
        stream = await self._sessions[session].open(unidirectional)
        await stream.write(b"hello")
        return self._keep_stream(stream)

    async def take(self, session: int, unidirectional: bool = False) -> dict[str, Any]:
        """The next stream that the peer opens, and its first bytes."""
        stream = await self._sessions[session].accept(unidirectional)
        text = (await stream.read()).decode()
        return self._keep_stream(stream) | {"text": text}

    async def finish(self, stream: int) -> dict[str, Any]:
        """End the sending half and read the other one to its end."""
        await self._streams[stream].finish()
        return {"text": (await _read_all(self._streams[stream])).decode()}

    async def reset(self, stream: int, code: int) -> dict[str, Any]:
        await self._streams[stream].reset(code)
        return {}

    async def stop(self, stream: int, code: int) -> dict[str, Any]:
        await self._streams[stream].stop(code)
        return {}

    async def ended(self, stream: int) -> dict[str, Any]:
        """How the receiving half ends."""
        try:
            await _read_all(self._streams[stream])
        except StreamEnd as end:
            return {"reset": end.code}
        return {"fin": True}

    async def stopped(self, stream: int) -> dict[str, Any]:
        """The code with which the peer stops the sending half."""
        try:
            while True:
                await self._streams[stream].write(bytes(100))
                await asyncio.sleep(0.01)
        except StreamEnd as end:
            return {"stop": end.code}

    async def close(self, session: int, code: int, reason: str) -> dict[str, Any]:
        await self._sessions[session].close(code, reason)
        return {}

    async def closed(self, session: int) -> dict[str, Any]:
        code, reason = await self._sessions[session].closed()
        return {"code": code, "reason": reason}

    async def run(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer to an operation: under `ok` its result, under `error` why there is none."""
        try:
            return {"ok": await getattr(self, op)(**arguments)}
        except Cannot as reason:
            return {"error": f"cannot: {reason}"}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _arrivals(self, path: str) -> asyncio.Queue[Session]:
        return self._arrived.setdefault(path, asyncio.Queue())

    def _keep_session(self, session: Session) -> dict[str, Any]:
        number = next(self._numbers)
        self._sessions[number] = session
        return {"session": number, "protocol": session.protocol}

    def _keep_stream(self, stream: Stream) -> dict[str, Any]:
        number = next(self._numbers)
        self._streams[number] = stream
        return {"stream": number}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _read_all(stream: Stream) -> bytes:
    chunks = []
    while data := await stream.read():
        chunks.append(data)
    return b"".join(chunks)


async def _send(stream: Stream, data: bytes) -> None:
    for at in range(0, len(data), CHUNK):
        await stream.write(data[at : at + CHUNK])
    await stream.finish()


async def _open_and_send(session: Session, data: bytes) -> None:
    await _send(await session.open(True), data)


async def _exchange(session: Session, data: bytes) -> bool:
    stream = await session.open(False)
    _, echo = await asyncio.gather(_send(stream, data), _read_all(stream))
    return digest(echo) == digest(data)


async def _receive(session: Session) -> bytes:
    return await _read_all(await session.accept(True))


async def _accept_each(
    end: End, session: Session, unidirectional: bool, use: Callable[[Stream], Awaitable[None]]
) -> None:
    async def used(stream: Stream) -> None:
        try:
            await use(stream)
        except Exception as error:  # the session's end, and streams that a check ends otherwise
            print(f"echo: {error!r}", file=sys.stderr)

    try:
        while True:
            end.spawn(used(await session.accept(unidirectional)))
    except Exception as error:
        print(f"accept: {error!r}", file=sys.stderr)


async def _echo_bidirectional(end: End, session: Session) -> None:
    async def send_back(stream: Stream) -> None:
        while data := await stream.read():
            await stream.write(data)
        await stream.finish()

    await _accept_each(end, session, False, send_back)


async def _echo_unidirectional(end: End, session: Session) -> None:
    async def send_back(stream: Stream) -> None:
        data = await _read_all(stream)
        await _open_and_send(session, data)

    await _accept_each(end, session, True, send_back)


async def _echo_datagrams(session: Session) -> None:
    try:
        while True:
            await session.send_datagram(await session.receive_datagram())
    except Exception as error:
        print(f"datagrams: {error!r}", file=sys.stderr)


def main(make: Callable[[], End]) -> None:
    """Serve standard input until it ends."""

    async def serve() -> None:
        end = make()
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str] = asyncio.Queue()

        def read() -> None:
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            end.shut_down()
            os._exit(0)  # a library's own clean-up is not under test

        async def answer(request: dict[str, Any]) -> None:
            number, op = request.pop("id"), request.pop("op")
            print(json.dumps({"id": number} | await end.run(op, request)), flush=True)

        threading.Thread(target=read, daemon=True).start()
        while True:
            end.spawn(answer(json.loads(await lines.get())))

    asyncio.run(serve())
