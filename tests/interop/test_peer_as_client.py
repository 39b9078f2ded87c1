"""Other implementations' clients against our server."""

from __future__ import annotations

from tests.interop.conftest import Peer
from tests.support.laboratory import Laboratory


async def test_bidirectional_echo(peer: Peer, laboratory: Laboratory) -> None:
    result = await peer.run_client(laboratory.url, "bidirectional")
    assert result["equal"]
    assert result["bytes"] == 300_000


async def test_unidirectional_echo(peer: Peer, laboratory: Laboratory) -> None:
    result = await peer.run_client(laboratory.url, "unidirectional")
    assert result["equal"]
    assert result["streams"] == 10


async def test_datagram_echo(peer: Peer, laboratory: Laboratory) -> None:
    assert (await peer.run_client(laboratory.url, "datagrams"))["equal"] == 20


async def test_streams_that_the_server_opens(peer: Peer, laboratory: Laboratory) -> None:
    result = await peer.run_client(laboratory.url, "server_streams")
    assert result["texts"] == [
        *(f"bidirectional {i}" for i in range(3)),
        *(f"unidirectional {i}" for i in range(3)),
    ]
    answers = {await laboratory.observed.get() for _ in range(3)}
    assert answers == {("answer", f"answer to bidirectional {i}") for i in range(3)}


async def test_reset_code_of_the_client(peer: Peer, laboratory: Laboratory) -> None:
    await peer.run_client(laboratory.url, "reset")
    assert await laboratory.observed.get() == ("reset me", 77)


async def test_reset_by_the_server(peer: Peer, laboratory: Laboratory) -> None:
    result = await peer.run_client(laboratory.url, "reset_by_server")
    # 0.8.1 reports that the stream ended, not with which code.
    expected = {"code": 77} if peer.name == "aioquic" else {"first": "so far so good"}
    assert result == {"event": "result", **expected}


async def test_close_of_the_client(peer: Peer, laboratory: Laboratory) -> None:
    await peer.run_client(laboratory.url, "close")
    assert await laboratory.observed.get() == ("closed", 4242, "bye é")


async def test_close_of_the_server(peer: Peer, laboratory: Laboratory) -> None:
    result = await peer.run_client(laboratory.url, "close_by_server")
    assert (result["code"], result["reason"]) == (4242, "bye é")


async def test_unknown_path_is_rejected(peer: Peer, laboratory: Laboratory) -> None:
    assert (await peer.run_client(laboratory.url, "rejected"))["status"] == 404
