"""RPC: the page calls functions of the server by JSON-RPC 2.0, and the server one of the page."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from examples.local import configuration, run
from pywebtransport import ServerApp, WebTransportStream
from pywebtransport.rpc import InvalidParamsError, RpcManager

app = ServerApp(config=configuration())


async def divide(a: float, b: float) -> float:
    if b == 0:
        raise InvalidParamsError("b must not be 0")
    return a / b


@lru_cache
def primes_below(limit: int) -> int:
    sieve = bytearray([1]) * limit
    for number in range(2, int(limit**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(sieve[number * number :: number]))
    return max(sum(sieve) - 2, 0)


async def primes(limit: int) -> int:
    """Slow, so it runs in a thread, and other calls are answered meanwhile."""
    if not 0 <= limit <= 10_000_000:
        raise InvalidParamsError("limit must be between 0 and 10,000,000")
    return await asyncio.to_thread(primes_below, limit)


@app.stream_route("/rpc")
async def calls(stream: WebTransportStream) -> None:
    rpc = RpcManager(
        stream=stream, session_id=stream.session.session_id, concurrency_limit=10, jsonrpc=True
    )

    async def greet(name: str) -> str:
        """Ask the page in turn."""
        return f"Hello {name}, your language is {await rpc.call('language', timeout=5)}"

    for function in (divide, primes, greet):
        rpc.register(func=function)
    async with rpc:
        await rpc.wait_closed()


if __name__ == "__main__":
    run(app, "rpc.html")
