"""Bad networks: loss, delay, reordering, duplicates, damage, a NAT that forgets, silence."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from typing import Any

import pytest

from pywebtransport import SessionError, StreamError, WebTransportError

from .conftest import Lab
from .relay import Path


def blob(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def exchange(session: Any, data: bytes) -> None:
    stream = await session.create_bidirectional_stream()
    await stream.write(data=data, end_stream=True)
    answer = await stream.read_all()
    assert answer[:32] == hashlib.sha256(data).digest(), "the server saw other bytes"
    assert answer[32:] == data, "the client got other bytes"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("name", "path", "sizes"),
    [
        ("loss-50ms", Path(loss=0.05, delay=0.050, jitter=0.020), [1, 1_000, 20_000, 60_000]),
        ("reordering", Path(jitter=0.030), [1, 1_000, 50_000, 100_000]),
        ("duplicates", Path(duplicate=0.30, jitter=0.005), [1, 1_000, 50_000, 400_000]),
        ("damage", Path(damage=0.05, delay=0.005), [1, 1_000, 50_000, 400_000]),
    ],
)
async def test_all_data_arrives_over_a_bad_path(
    lab: Lab, name: str, path: Path, sizes: list[int]
) -> None:
    async with lab.serve() as server, server.client(path) as (session, relay):
        await asyncio.gather(*(exchange(session, blob(size, size)) for size in sizes))
        print(f"{lab.engine}: {name}: {sum(sizes)} bytes each way, {relay.counts}")
        assert relay.counts["forwarded"] > 100


@pytest.mark.timeout(120)
async def test_connect_succeeds_where_a_fifth_of_the_packets_is_lost(lab: Lab) -> None:
    times = []

    async def connect(seed: int) -> None:
        start = asyncio.get_running_loop().time()
        async with server.client(Path(loss=0.2, delay=0.020, seed=seed)):
            times.append(asyncio.get_running_loop().time() - start)

    async with lab.serve() as server:
        await asyncio.gather(*(connect(seed) for seed in range(40)))
    print(f"{lab.engine}: {sorted(times)[20]:.2f} s in the middle, {max(times):.2f} s at most")
    assert len(times) == 40


@pytest.mark.parametrize("retry", [True, False])
async def test_clients_prove_their_address_where_they_have_to(lab: Lab, retry: bool) -> None:
    loop = asyncio.get_running_loop()
    async with lab.serve(retry=retry) as server:
        async with server.client(Path()) as (session, relay):
            await exchange(session, b"proved")
            assert relay.counts["retries"] == retry
            closing = loop.time()
        took = loop.time() - closing
    print(f"{lab.engine}: closed in {took:.3f} s")
    assert took < session.connection.config.close_timeout / 2, "waits for what was sent again"


async def test_session_survives_a_new_address(lab: Lab) -> None:
    async with lab.serve() as server, server.client(Path(delay=0.002)) as (session, relay):
        await exchange(session, blob(10_000, 1))
        for turn in range(3):
            relay.rebind()
            await exchange(session, blob(100_000, turn))
        print(f"{lab.engine}: three new addresses, {relay.counts}")


async def test_silence_ends_in_the_documented_exception(lab: Lab) -> None:
    """A peer that vanishes: every waiter wakes when the idle timeout ends the connection."""
    quick = {"connection_idle_timeout": 2.0, "connection_idle_check_interval": 0.5}
    async with lab.serve(**quick) as server, server.client(Path()) as (session, relay):
        await exchange(session, b"alive")
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"half")
        relay.blackhole = True
        with pytest.raises((StreamError, SessionError)) as caught:
            while await asyncio.wait_for(stream.read(), 20):
                pass
            raise StreamError("the stream ended without an error")
        assert isinstance(caught.value, WebTransportError)
        assert "without an error" not in str(caught.value)
        await asyncio.wait_for(session.wait_closed(), 20)
        await asyncio.wait_for(server.ended.get(), 20)
        print(f"{lab.engine}: {caught.value}")


async def test_garbage_datagrams_change_nothing(lab: Lab) -> None:
    """Noise, truncated and coalesced packets, unknown versions from a stranger's socket."""
    async with lab.serve() as server, server.client(Path()) as (session, _):
        noise = random.Random(7)
        stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            for size in [0, 1, 5, 20, 21, 100, 1200, 1500, 9000, 65_507]:
                for first in (None, 0x00, 0x40, 0x80, 0xC0, 0xFF):
                    packet = bytearray(noise.randbytes(size))
                    if first is not None and packet:
                        packet[0] = first
                    stranger.sendto(bytes(packet), server.address)
            for version in (0, 1, 2, 0x0A0A0A0A, 0xFFFFFFFF):
                head = bytes([0xC3]) + version.to_bytes(4, "big") + b"\x08" + bytes(8) + b"\x08"
                stranger.sendto((head + bytes(1200))[:1200], server.address)
                stranger.sendto((head + bytes(20)) * 30, server.address)
        finally:
            stranger.close()
        await exchange(session, blob(100_000, 3))
        async with server.client(Path()) as (second, _):
            await exchange(second, b"a new client still gets in")


async def test_datagrams_survive_loss_of_some(lab: Lab) -> None:
    async with lab.serve() as server, server.client(Path(loss=0.2)) as (session, relay):
        transport = await session.create_datagram_transport()
        seen: set[bytes] = set()
        for number in range(300):
            message = number.to_bytes(4, "big")
            await transport.send(data=message)
            if (echo := await transport.try_receive()) is not None:
                seen.add(echo)
            await asyncio.sleep(0)
        try:
            while True:
                seen.add(await transport.receive(timeout=0.5))
        except WebTransportError:
            pass
        assert len(seen) > 30, f"{len(seen)} of 300 echoes came back, {relay.counts}"
        print(f"{lab.engine}: {len(seen)} of 300 datagrams came back, {relay.counts}")
