"""A facade that raises where it must not: one connection ends, with a word in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport._engine.base import Engine, EngineConnection
from pywebtransport.config import ClientConfig, ServerConfig

from .conftest import Connect
from .observer import Observer

INTERNAL_ERROR = 0x102


def bugs(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("what", ["session_requested", "stream_opened", "stream_readable"])
async def test_error_in_a_notification_closes_its_connection(
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    whole = getattr(Observer, what)
    broken: list[Observer] = []

    def told(self: Observer, *arguments: Any) -> None:
        if self in broken:
            raise LookupError("a bug of the facade")
        whole(self, *arguments)

    monkeypatch.setattr(Observer, what, told)
    pair = await connect()
    spared = await connect()
    broken.append(pair.server)
    client = pair.client.connection
    session_id = client.open_session(authority="localhost", path="/", headers={})
    if what != "session_requested":
        await pair.server.next("session_requested")
        pair.server.connection.accept_session(session_id)
        await pair.client.next("session_established")
        if what == "stream_readable":
            stream_id = await pair.client.open(session_id)
            await pair.client.write(stream_id, b"first")
            await pair.server.next("stream_opened")
            assert await pair.server.read(stream_id) == b"first"
            assert pair.server.connection.stream_read(stream_id, -1) == (b"", False)
            await pair.client.write(stream_id, b"second")
        else:
            await pair.client.write(await pair.client.open(session_id), b"first")
    info = await pair.client.closed_with()
    assert (info.code, info.by) == (INTERNAL_ERROR, "remote")
    assert "a bug" not in info.reason, "exceptions are nobody else's business"
    await pair.server.closed_with()
    assert bugs(caplog)
    await spared.session()


async def test_error_while_a_connection_is_taken_closes_it(
    engine: Engine,
    server_config: Callable[..., ServerConfig],
    client_config: Callable[..., ClientConfig],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def take(connection: EngineConnection) -> None:
        raise LookupError("a bug of the facade")

    listener = await engine.listen(
        config=server_config(), host="127.0.0.1", port=0, on_connection=take
    )
    try:
        port = listener.local_address[1]
        connection = await engine.connect(
            config=client_config(), host="localhost", port=port, remote=("127.0.0.1", port)
        )
        info = await Observer(connection).closed_with()
        assert (info.code, info.by) == (INTERNAL_ERROR, "remote")
        assert bugs(caplog)
    finally:
        await listener.close()
