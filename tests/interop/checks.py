"""What two ends must be able to do with each other, whichever of them is ours.

A check gets a `Pair` and speaks to both ends by the operations of peers/end.py. It returns when
all is as it should be and raises `Seen` with a few words on the first thing that is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Protocol

from tests.interop.peers.end import CLOSE_CODE, CLOSE_REASON, PROTOCOL, SMALL_DATA, SMALL_STREAMS

RESET_CODE, STOP_CODE = 77, 55
# How long a check looks for what should not happen.
A_WHILE = 0.5


class Seen(Exception):
    """What was seen instead of what should be."""


class End(Protocol):
    async def run(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]: ...


class Side:
    """A session as one of its two ends has it."""

    def __init__(self, role: str, end: End, session: int, patience: float) -> None:
        self.role, self._end, self._session, self._patience = role, end, session, patience

    async def __call__(self, op: str, **arguments: Any) -> dict[str, Any]:
        if not {"stream", "session"} & arguments.keys():
            arguments["session"] = self._session
        return await ask(self.role, self._end, self._patience, op, **arguments)


async def ask(role: str, end: End, patience: float, op: str, **arguments: Any) -> dict[str, Any]:
    try:
        async with asyncio.timeout(patience):
            answer = await end.run(op, arguments)
    except TimeoutError:
        raise Seen(f"{role}: `{op}` waits for ever") from None
    if "error" in answer:
        raise Seen(f"{role}: `{op}`: {answer['error']}")
    return dict(answer["ok"])


class Pair:
    """A client and a server, and the ways to a session between them."""

    paths = count(1)

    def __init__(
        self,
        client: End,
        server: End,
        ports: dict[bool, int],
        *,
        sha256: str = "",
        patience: float,
    ) -> None:
        self.client, self.server, self._ports, self._patience = client, server, ports, patience
        self._sha256 = sha256
        self.protocols: dict[str, str | None] = {}

    async def request(self, path: str, **options: Any) -> dict[str, Any]:
        """The client's answer to `connect`."""
        port = self._ports[bool(options.get("small"))]
        url = f"https://127.0.0.1:{port}{path}"
        options = {"url": url, "sha256": self._sha256, **options}
        return await ask("client", self.client, self._patience, "connect", **options)

    async def session(self, **options: Any) -> tuple[Side, Side]:
        """A new session as client and server have it."""
        path = f"/lab/{next(self.paths)}"
        accepting = asyncio.create_task(
            ask("server", self.server, self._patience, "accept", path=path)
        )
        try:
            connected = await self.request(path, **options)
            if "session" not in connected:
                raise Seen(f"client: `connect`: {connected}")
            accepted = await accepting
        finally:
            accepting.cancel()
        self.protocols = {"client": connected["protocol"], "server": accepted["protocol"]}
        return (
            Side("client", self.client, connected["session"], self._patience),
            Side("server", self.server, accepted["session"], self._patience),
        )


def expect(side: str, what: str, seen: Any, wanted: Any) -> None:
    if seen != wanted:
        raise Seen(f"{side}: {what} is {seen!r}")


Check = Callable[[Pair], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(name: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return add


@check("a session")
async def session(pair: Pair) -> None:
    await pair.session()


async def echoed(
    opener: Side, echoer: Side, *, unidirectional: bool = False, count: int = 1, size: int = 1000
) -> None:
    await echoer("echo")
    result = await opener("exchange", unidirectional=unidirectional, count=count, size=size)
    expect(opener.role, "echoes", result["equal"], count)


@check("echo of a small stream")
async def small_echo(pair: Pair) -> None:
    client, server = await pair.session()
    await echoed(client, server, size=5)


@check("echo of 10 MiB")
async def large_echo(pair: Pair) -> None:
    client, server = await pair.session()
    await echoed(client, server, size=10 << 20)


@check("100 streams at once")
async def many_streams(pair: Pair) -> None:
    client, server = await pair.session()
    await echoed(client, server, count=100)


@check("echo of unidirectional streams")
async def unidirectional_echo(pair: Pair) -> None:
    client, server = await pair.session()
    await echoed(client, server, unidirectional=True, count=10)


@check("echo of datagrams")
async def datagram_echo(pair: Pair) -> None:
    client, server = await pair.session()
    await server("echo")
    expect("client", "echoes", (await client("datagrams", count=20, size=500))["equal"], 20)


@check("streams that the server opens")
async def pushed_streams(pair: Pair) -> None:
    client, server = await pair.session()
    await echoed(server, client, count=5)
    result = await server("exchange", unidirectional=True, count=5, size=1000)
    expect("server", "echoes", result["equal"], 5)


async def opened(opener: Side, taker: Side) -> tuple[int, int]:
    """A stream with `hello` on it as both sides have it."""
    stream = (await opener("open"))["stream"]
    taken = await taker("take")
    expect(taker.role, "the stream's first bytes", taken["text"], "hello")
    return stream, taken["stream"]


async def reset_code(pair: Pair, by: str) -> None:
    client, server = await pair.session()
    opener, taker = await opened(client, server)
    if by == "client":
        await client("reset", stream=opener, code=RESET_CODE)
        expect("server", "the end", await server("ended", stream=taker), {"reset": RESET_CODE})
    else:
        await server("reset", stream=taker, code=RESET_CODE)
        expect("client", "the end", await client("ended", stream=opener), {"reset": RESET_CODE})


async def stop_code(pair: Pair, by: str) -> None:
    client, server = await pair.session()
    opener, taker = await opened(client, server)
    if by == "client":
        await client("stop", stream=opener, code=STOP_CODE)
        expect("server", "the stop", await server("stopped", stream=taker), {"stop": STOP_CODE})
    else:
        await server("stop", stream=taker, code=STOP_CODE)
        expect("client", "the stop", await client("stopped", stream=opener), {"stop": STOP_CODE})


@check("reset code of the client")
async def reset_by_client(pair: Pair) -> None:
    await reset_code(pair, "client")


@check("reset code of the server")
async def reset_by_server(pair: Pair) -> None:
    await reset_code(pair, "server")


@check("stop code of the client")
async def stop_by_client(pair: Pair) -> None:
    await stop_code(pair, "client")


@check("stop code of the server")
async def stop_by_server(pair: Pair) -> None:
    await stop_code(pair, "server")


GOODBYE = {"code": CLOSE_CODE, "reason": CLOSE_REASON}


@check("close of the client, code and reason")
async def close_by_client(pair: Pair) -> None:
    client, server = await pair.session()
    await client("close", **GOODBYE)
    expect("server", "the close", await server("closed"), GOODBYE)


@check("close of the server, code and reason")
async def close_by_server(pair: Pair) -> None:
    client, server = await pair.session()
    await server("close", **GOODBYE)
    expect("client", "the close", await client("closed"), GOODBYE)


@check("close of the server at once")
async def close_at_once(pair: Pair) -> None:
    connected = await pair.request("/close")
    if "session" not in connected:
        raise Seen(f"client: `connect`: {connected}")
    client = Side("client", pair.client, connected["session"], pair._patience)
    expect("client", "the close", await client("closed"), GOODBYE)


@check("an unknown path")
async def unknown_path(pair: Pair) -> None:
    expect("client", "the answer", await pair.request("/nowhere"), {"status": 404})


@check("a subprotocol")
async def subprotocol(pair: Pair) -> None:
    client, server = await pair.session(protocols=["other", PROTOCOL])
    expect("both", "the protocol", pair.protocols, {"client": PROTOCOL, "server": PROTOCOL})
    await echoed(client, server)


@check("session flow control, small limits")
async def session_flow_control(pair: Pair) -> None:
    client, server = await pair.session(small=True)
    held = [await opened(client, server) for _ in range(SMALL_STREAMS)]
    more = asyncio.create_task(opened(client, server))
    done, _ = await asyncio.wait({more}, timeout=A_WHILE)
    if done:
        await more
        raise Seen("client: a stream beyond the limit opens at once")
    for opener, taker in held:
        await asyncio.gather(client("finish", stream=opener), server("finish", stream=taker))
    await more
    opener, taker = more.result()
    await asyncio.gather(client("finish", stream=opener), server("finish", stream=taker))
    await echoed(client, server, count=10, size=SMALL_DATA)
    await echoed(server, client, count=10, size=SMALL_DATA)
