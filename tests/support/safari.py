"""A client after Safari 26.4 and later, as it has been observed from outside.

It announces drafts 13/14 and asks with the token `webtransport`. Before it asks, it looks at the
server's SETTINGS: WT_MAX_SESSIONS above 1 without all three WT_INITIAL_MAX_* is refused. It opens
streams and sends only within the session credit that SETTINGS and capsules have given it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support import raw_http3 as h3
from tests.support.raw_peer import RawPeer, raw_client

CHUNK = 16384
INITIAL = (h3.WT_INITIAL_MAX_DATA, h3.WT_INITIAL_MAX_STREAMS_UNI, h3.WT_INITIAL_MAX_STREAMS_BIDI)
PLAIN = {h3.WT_MAX_SESSIONS: 1, h3.H3_DATAGRAM: 1}
"""Without limits of its own."""
LIMITED = {
    **PLAIN,
    h3.WT_INITIAL_MAX_DATA: 1 << 20,
    h3.WT_INITIAL_MAX_STREAMS_UNI: 100,
    h3.WT_INITIAL_MAX_STREAMS_BIDI: 100,
}
"""With limits that it renews as streams end."""


class Refused(Exception):
    """An empty WebTransportError, in the page."""


class Safari:
    """One connection and one session of it."""

    def __init__(self, peer: RawPeer, settings: dict[int, int]) -> None:
        self.peer = peer
        self.session_id = -1
        self._settings = settings
        self._sent = 0
        self._opened = {False: 0, True: 0}
        self._granted_uni = settings.get(h3.WT_INITIAL_MAX_STREAMS_UNI, 0)
        self._granted_data = settings.get(h3.WT_INITIAL_MAX_DATA, 0)

    async def connect(self, path: str = "/") -> None:
        peer = self.peer
        peer.send(peer.open(unidirectional=True), h3.control_stream(self._settings))
        server = await peer.until(lambda: peer.settings)
        assert server is not None
        sessions = server.get(h3.WT_MAX_SESSIONS, 0)
        if not sessions and not server.get(h3.WEBTRANSPORT_MAX_SESSIONS):
            raise Refused("no draft that it speaks")
        if sessions > 1 and not all(server.get(setting) for setting in INITIAL):
            raise Refused("more than one session without session credit")
        self.session_id = peer.open()
        peer.send(self.session_id, h3.connect_frame(path=path))
        response = await peer.response(self.session_id)
        assert response[":status"] == "200"

    def _limit(self, setting: int, capsule: int) -> int:
        values = [h3.read_varint(c.payload) for c in self.peer.capsules(self.session_id, capsule)]
        server = self.peer.settings or {}
        return max([server.get(setting, 0), *(value[0] for value in values if value)])

    async def open(self, unidirectional: bool = False) -> int:
        """A stream, once the session's credit allows it."""
        kinds = {
            False: (h3.WT_INITIAL_MAX_STREAMS_BIDI, h3.MAX_STREAMS_BIDI),
            True: (h3.WT_INITIAL_MAX_STREAMS_UNI, h3.MAX_STREAMS_UNI),
        }
        await self.peer.until(
            lambda: self._opened[unidirectional] < self._limit(*kinds[unidirectional])
        )
        self._opened[unidirectional] += 1
        header = h3.uni_header if unidirectional else h3.bidi_header
        stream_id = self.peer.open(unidirectional)
        self.peer.send(stream_id, header(self.session_id))
        return stream_id

    async def write(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        """All of it, as the session's credit comes."""
        sender = self.peer.quic._streams[stream_id].sender
        view = memoryview(data)
        while view:
            await self.peer.until(lambda: self._room() > 0)
            # What waits for QUIC's own windows is not piled up here.
            await self.peer.until(lambda: len(sender._buffer) < 16 * CHUNK)
            chunk = bytes(view[: min(CHUNK, self._room())])
            view = view[len(chunk) :]
            self._sent += len(chunk)
            self.peer.send(stream_id, chunk, fin and not view)
        if not data:
            self.peer.send(stream_id, b"", fin)

    def _room(self) -> int:
        return self._limit(h3.WT_INITIAL_MAX_DATA, h3.MAX_DATA) - self._sent

    def renew(self, streams: int, size: int) -> None:
        """So many of the server's streams, and bytes on them, are done with."""
        if not self._granted_uni:
            return
        self._granted_uni += streams
        self._granted_data += size
        capsules = h3.capsule(h3.MAX_STREAMS_UNI, h3.varint(self._granted_uni))
        capsules += h3.capsule(h3.MAX_DATA, h3.varint(self._granted_data))
        self.peer.send(self.session_id, h3.frame(h3.DATA, capsules))


@asynccontextmanager
async def safari(
    port: int, settings: dict[int, int] = PLAIN, **options: Any
) -> AsyncIterator[Safari]:
    """Connected, and ready for ``connect()``."""
    async with raw_client(port, **options) as peer:
        yield Safari(peer, settings)
