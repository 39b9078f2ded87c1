"""A sink that remembers, and the two ends of one connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pywebtransport._engine.base import (
    CloseInfo,
    EngineConnection,
    EngineListener,
    SessionRequest,
)
from pywebtransport._native import http_to_app_error

PATIENCE = 10.0
"""Seconds until a notification that does not come fails the test."""


class Observer:
    """Takes what an engine tells about one connection; a test awaits it."""

    def __init__(self, connection: EngineConnection) -> None:
        self.connection = connection
        self.told: list[tuple[Any, ...]] = []
        self._changed = asyncio.Event()
        self._taken: dict[str, int] = defaultdict(int)
        connection.set_sink(self)

    def _tell(self, name: str, *details: Any) -> None:
        self.told.append((name, *details))
        self._changed.set()

    def of(self, name: str, *first: Any) -> list[tuple[Any, ...]]:
        """All that was told under this name, and about these ids."""
        return [
            told[1:] for told in self.told if told[0] == name and told[1 : 1 + len(first)] == first
        ]

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not (result := condition()):
                self._changed.clear()
                await self._changed.wait()
            return result

    async def next(self, name: str, *first: Any) -> tuple[Any, ...]:
        """The next notification of this kind about these ids, each only once."""
        key = repr((name, first))
        seen = self._taken[key]
        await self.until(lambda: len(self.of(name, *first)) > seen)
        self._taken[key] += 1
        return self.of(name, *first)[seen]

    async def read(self, stream_id: int, size: int = -1) -> bytes:
        """One read that waits; b"" at the end."""
        while True:
            data, is_end = self.connection.stream_read(stream_id, size)
            if data or is_end:
                return data
            await self.next("stream_readable", stream_id)

    async def read_all(self, stream_id: int) -> bytes:
        parts = []
        while data := await self.read(stream_id):
            parts.append(data)
        return b"".join(parts)

    async def write(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        view = memoryview(data)
        while True:
            taken = self.connection.stream_write(stream_id, view, fin)
            view = view[taken:]
            if not view:
                return
            await self.next("stream_writable", stream_id)

    async def open(self, session_id: int, unidirectional: bool = False) -> int:
        while True:
            stream_id = self.connection.open_stream(session_id, unidirectional)
            if stream_id is not None:
                return stream_id
            await self.next("streams_available", session_id, unidirectional)

    async def datagram(self, session_id: int) -> bytes:
        while (data := self.connection.receive_datagram(session_id)) is None:
            await self.next("datagrams_readable", session_id)
        return data

    async def closed_with(self) -> CloseInfo:
        (info,) = await self.next("closed")
        assert isinstance(info, CloseInfo)
        return info

    # ConnectionSink

    def session_requested(self, request: SessionRequest) -> None:
        self._tell("session_requested", request)

    def session_established(self, session_id: int, protocol: Any, headers: Any) -> None:
        self._tell("session_established", session_id, protocol, headers)

    def session_rejected(self, session_id: int, status: int, headers: Any, reason: str) -> None:
        self._tell("session_rejected", session_id, status, headers, reason)

    def session_draining(self, session_id: int) -> None:
        self._tell("session_draining", session_id)

    def session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None:
        self._tell("session_closed", session_id, code, reason, by)

    def streams_available(self, session_id: int, unidirectional: bool) -> None:
        self._tell("streams_available", session_id, unidirectional)

    def stream_opened(self, session_id: int, stream_id: int) -> None:
        self._tell("stream_opened", session_id, stream_id)

    def stream_readable(self, stream_id: int) -> None:
        self._tell("stream_readable", stream_id)

    def stream_writable(self, stream_id: int) -> None:
        self._tell("stream_writable", stream_id)

    def stream_reset(self, stream_id: int, code: int) -> None:
        self._tell("stream_reset", stream_id, http_to_app_error(code))

    def stream_stopped(self, stream_id: int, code: int) -> None:
        self._tell("stream_stopped", stream_id, http_to_app_error(code))

    def datagrams_writable(self, session_id: int) -> None:
        self._tell("datagrams_writable", session_id)

    def datagrams_readable(self, session_id: int) -> None:
        self._tell("datagrams_readable", session_id)

    def closed(self, info: CloseInfo) -> None:
        self._tell("closed", info)


@dataclass
class Pair:
    """One connection, seen from both ends."""

    client: Observer
    server: Observer
    listener: EngineListener

    def end(self, name: str) -> Observer:
        return self.client if name == "client" else self.server

    async def session(
        self,
        path: str = "/",
        *,
        headers: dict[str, str] | None = None,
        protocols: tuple[str, ...] = (),
        protocol: str | None = None,
    ) -> int:
        """A session that both ends have."""
        session_id = self.client.connection.open_session(
            authority="localhost", path=path, headers=headers or {}, protocols=protocols
        )
        (request,) = await self.server.next("session_requested")
        assert request.session_id == session_id
        self.server.connection.accept_session(session_id, protocol=protocol)
        await self.client.next("session_established", session_id)
        return session_id
