"""Two ends of a connection in memory, behind the engines' seam.

Nothing is encoded and nothing is lost. A notification comes in the next turn of the loop, as an
engine's does. `window` bounds the unread bytes of a stream, `max_streams` the streams of each kind
that an end may have open at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from pywebtransport._engine.base import (
    CloseInfo,
    ConnectionSink,
    EngineClosed,
    EngineStats,
    SessionRefused,
    SessionRequest,
    StreamFinished,
)
from pywebtransport._native import app_error_to_http
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import DatagramError, datagram_too_large
from pywebtransport.types import Address

MAX_DATAGRAM_SIZE = 1200


class Stream:
    """One end of a stream."""

    def __init__(self, session_id: int, *, readable: bool, writable: bool) -> None:
        self.session_id = session_id
        self.arrived = bytearray()
        self.fin = False
        self.is_read_ended = not readable
        self.is_write_ended = not writable
        self.reader_waits = False
        self.writer_waits = False

    @property
    def is_done(self) -> bool:
        return self.is_read_ended and self.is_write_ended


class MemoryConnection:
    """`EngineConnection`; made in pairs by :func:`memory_pair`."""

    peer: MemoryConnection

    def __init__(
        self, *, is_client: bool, window: int, max_streams: int, max_datagrams: int
    ) -> None:
        self.is_client = is_client
        self.local_address: Address | None = ("192.0.2.1" if is_client else "192.0.2.2", 4433)
        self.remote_address: Address | None = ("192.0.2.2" if is_client else "192.0.2.1", 4433)
        self.window = window
        self.max_streams = max_streams
        self.max_datagrams = max_datagrams
        self.streams: dict[int, Stream] = {}
        self.sessions: set[int] = set()
        self.requests: dict[int, SessionRequest] = {}
        self.datagrams: dict[int, deque[bytes]] = {}
        self.datagram_wanted: set[int] = set()
        self.datagram_room_wanted: set[int] = set()
        self.dropped = 0
        self.received = 0
        self.opened = {False: 0, True: 0}
        self.open_now = {False: 0, True: 0}
        self.blocked: dict[tuple[int, bool], None] = {}
        self.is_closed = False
        self._has_told_closed = False
        self.calls: list[str] = []
        self._sink: ConnectionSink | None = None
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        self._gone: asyncio.Event = asyncio.Event()

    # Telling.

    def set_sink(self, sink: ConnectionSink) -> None:
        self._sink = sink
        early, self._early = self._early, []
        for name, arguments in early:
            getattr(sink, name)(*arguments)

    def tell(self, name: str, *arguments: Any) -> None:
        """Notify in the next turn of the loop."""
        asyncio.get_running_loop().call_soon(self._tell_now, name, arguments)

    def _tell_now(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self._sink is None:
            self._early.append((name, arguments))
        elif not self._has_told_closed:
            self._has_told_closed = name == "closed"
            getattr(self._sink, name)(*arguments)

    def _require_open(self) -> None:
        if self.is_closed:
            raise EngineClosed("the connection is closed")

    def _require(self, session_id: int) -> None:
        self._require_open()
        if session_id not in self.sessions:
            raise SessionRefused(f"session {session_id} is not established")

    # Sessions.

    def open_session(
        self,
        *,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str] = (),
    ) -> int:
        self._require_open()
        session_id = self._new_id(unidirectional=False)
        request = SessionRequest(
            session_id, authority, path, {":path": path, **headers}, protocols, "15"
        )
        self.peer.requests[session_id] = request
        self.peer.tell("session_requested", request)
        return session_id

    def accept_session(
        self, session_id: int, *, protocol: str | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        self._require_open()
        if self.requests.pop(session_id, None) is None:
            raise SessionRefused(f"session {session_id} was answered")
        for end in (self, self.peer):
            end.sessions.add(session_id)
            end.datagrams[session_id] = deque()
        self.peer.tell("session_established", session_id, protocol, headers)

    def reject_session(
        self, session_id: int, *, status: int, headers: Mapping[str, str] = {}
    ) -> None:
        self._require_open()
        if self.requests.pop(session_id, None) is None:
            raise SessionRefused(f"session {session_id} was answered")
        self.peer.tell("session_rejected", session_id, status, headers, "")

    def close_session(self, session_id: int, *, code: int, reason: str) -> None:
        self._require_open()
        if session_id in self.peer.requests:
            del self.peer.requests[session_id]
            self._tell_now("session_closed", (session_id, code, reason, "local", None))
            return
        self._require(session_id)
        self._end_session(session_id)
        self._tell_now("session_closed", (session_id, code, reason, "local", None))
        self.peer._end_session(session_id)
        self.peer.tell("session_closed", session_id, code, reason, "remote", None)

    def drain_session(self, session_id: int) -> None:
        self._require(session_id)
        self.peer.tell("session_draining", session_id)

    def _end_session(self, session_id: int) -> None:
        self.sessions.discard(session_id)
        self.datagrams.pop(session_id, None)
        for stream_id in [i for i, each in self.streams.items() if each.session_id == session_id]:
            stream = self.streams[stream_id]
            if not stream.is_read_ended:
                stream.arrived.clear()
                self.tell("stream_reset", stream_id, ErrorCodes.WT_SESSION_GONE)
            stream.is_read_ended = stream.is_write_ended = True
            self._forget(stream_id)

    # Streams.

    def _new_id(self, *, unidirectional: bool) -> int:
        number = self.opened[unidirectional]
        self.opened[unidirectional] += 1
        return number << 2 | unidirectional << 1 | (not self.is_client)

    def open_stream(self, session_id: int, unidirectional: bool) -> int | None:
        self._require(session_id)
        if self.open_now[unidirectional] >= self.max_streams:
            self.blocked[session_id, unidirectional] = None
            return None
        self.open_now[unidirectional] += 1
        stream_id = self._new_id(unidirectional=unidirectional)
        self.streams[stream_id] = Stream(session_id, readable=not unidirectional, writable=True)
        self.streams[stream_id].reader_waits = not unidirectional
        self.peer.streams[stream_id] = Stream(
            session_id, readable=True, writable=not unidirectional
        )
        self.peer.tell("stream_opened", session_id, stream_id)
        return stream_id

    def _forget(self, stream_id: int) -> None:
        """An end that is done with a stream; when both are, its opener may open another."""
        if stream_id in self.streams and self.streams[stream_id].is_done:
            del self.streams[stream_id]
            if stream_id not in self.peer.streams:
                opener = self if (stream_id & 1 == 0) == self.is_client else self.peer
                opener._granted(bool(stream_id & 2))

    def _granted(self, unidirectional: bool) -> None:
        self.open_now[unidirectional] -= 1
        for key in [key for key in self.blocked if key[1] is unidirectional]:
            del self.blocked[key]
            self.tell("streams_available", *key)

    def stream_read(self, stream_id: int, max_size: int) -> tuple[bytes, bool]:
        self.calls.append("stream_read")
        stream = self.streams.get(stream_id)
        if stream is None:
            return b"", True
        size = len(stream.arrived) if max_size < 0 else max_size
        data = bytes(stream.arrived[:size])
        del stream.arrived[:size]
        is_end = stream.is_read_ended or (stream.fin and not stream.arrived)
        if is_end:
            stream.is_read_ended = True
            self._forget(stream_id)
        else:
            stream.reader_waits = len(data) < size or max_size < 0
        sender = self.peer.streams.get(stream_id)
        if data and sender is not None and sender.writer_waits:
            sender.writer_waits = False
            self.peer.tell("stream_writable", stream_id)
        return data, is_end

    def stream_write(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool) -> int:
        self.calls.append("stream_write")
        self._require_open()
        stream = self.streams.get(stream_id)
        if stream is None or stream.is_write_ended:
            raise StreamFinished(f"stream {stream_id} takes no more data")
        receiver = self.peer.streams.get(stream_id)
        size = len(data)
        accepted = size
        if receiver is not None and not receiver.is_read_ended:
            accepted = min(size, max(0, self.window - len(receiver.arrived)))
            receiver.arrived += memoryview(data)[:accepted]
        if accepted < size:
            stream.writer_waits = True
        elif fin:
            stream.is_write_ended = True
            if receiver is not None:
                receiver.fin = True
        if receiver is not None and receiver.reader_waits and (accepted or stream.is_write_ended):
            receiver.reader_waits = False
            self.peer.tell("stream_readable", stream_id)
        self._forget(stream_id)
        return accepted

    def stream_reset(self, stream_id: int, code: int) -> None:
        self._require_open()
        stream = self.streams.get(stream_id)
        if stream is None or stream.is_write_ended:
            raise StreamFinished(f"the sending side of stream {stream_id} has ended")
        stream.is_write_ended = True
        receiver = self.peer.streams.get(stream_id)
        if receiver is not None and not receiver.is_read_ended:
            receiver.arrived.clear()
            receiver.is_read_ended = True
            self.peer.tell("stream_reset", stream_id, app_error_to_http(code))
            self.peer._forget(stream_id)
        self._forget(stream_id)

    def set_stream_priority(self, stream_id: int, priority: int) -> None:
        """All streams are as fast."""

    def stream_stop(self, stream_id: int, code: int) -> None:
        self._require_open()
        stream = self.streams.get(stream_id)
        if stream is None or stream.is_read_ended:
            return
        stream.is_read_ended = True
        stream.arrived.clear()
        sender = self.peer.streams.get(stream_id)
        if sender is not None and not sender.is_write_ended:
            sender.is_write_ended = True
            self.peer.tell("stream_stopped", stream_id, app_error_to_http(code))
            self.peer._forget(stream_id)
        self._forget(stream_id)

    # Datagrams.

    def max_datagram_size(self, session_id: int) -> int:
        self._require(session_id)
        return MAX_DATAGRAM_SIZE

    def send_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> bool:
        self._require(session_id)
        if len(data) > MAX_DATAGRAM_SIZE:
            raise datagram_too_large(size=len(data), max_size=MAX_DATAGRAM_SIZE)
        queue = self.peer.datagrams[session_id]
        is_full = len(queue) >= self.max_datagrams
        if is_full:
            queue.popleft()
            self.dropped += 1
        queue.append(bytes(data))
        if session_id in self.peer.datagram_wanted:
            self.peer.datagram_wanted.discard(session_id)
            self.peer.tell("datagrams_readable", session_id)
        return not is_full

    def offer_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> bool:
        self._require(session_id)
        if len(self.peer.datagrams[session_id]) >= self.max_datagrams:
            self.datagram_room_wanted.add(session_id)
            return False
        return self.send_datagram(session_id, data)

    def offer_datagrams(
        self, session_id: int, datagrams: list[bytes | bytearray | memoryview]
    ) -> int:
        for count, data in enumerate(datagrams):
            try:
                if not self.offer_datagram(session_id, data):
                    return count
            except DatagramError:
                if not count:
                    raise
                return count
        return len(datagrams)

    def receive_datagram(self, session_id: int) -> bytes | None:
        taken = self.receive_datagrams(session_id, 1)
        return taken[0] if taken else None

    def receive_datagrams(self, session_id: int, max_count: int) -> list[bytes]:
        queue = self.datagrams.get(session_id, deque())
        taken = [queue.popleft() for _ in range(min(max_count, len(queue)))]
        if not taken:
            self.datagram_wanted.add(session_id)
        elif session_id in self.peer.datagram_room_wanted:
            self.peer.datagram_room_wanted.discard(session_id)
            self.peer.tell("datagrams_writable", session_id)
        return taken

    def datagrams_dropped(self, session_id: int) -> int:
        return 0

    # The connection.

    def session_flow(self, session_id: int) -> dict[str, int]:
        return {}

    def stats(self) -> EngineStats:
        return EngineStats(rtt=0.01, cwnd=12000, packets_sent=10, packets_received=self.received)

    def peer_certificates(self) -> list[bytes]:
        return []

    def export_keying_material(
        self, session_id: int, label: bytes, context: bytes, length: int
    ) -> bytes:
        self._require(session_id)
        return (label + context).ljust(length, b".")[:length]

    def send_goaway(self) -> None:
        self._require_open()

    def close(self, *, code: int, reason: str) -> None:
        if not self.is_closed:
            self._end(CloseInfo(code, reason, "local", None))
            self.peer._end(CloseInfo(code, reason, "remote", None))

    def lose(self) -> None:
        """The network is gone: both ends time out."""
        self._end(CloseInfo(0, "idle timeout", "transport", is_application=False))
        self.peer._end(CloseInfo(0, "idle timeout", "transport", is_application=False))

    def _end(self, info: CloseInfo) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._gone.set()
        self.tell("closed", info)

    async def wait_closed(self) -> None:
        await self._gone.wait()


def memory_pair(
    *, window: int = 65536, max_streams: int = 100, max_datagrams: int = 100
) -> tuple[MemoryConnection, MemoryConnection]:
    """A client's and a server's end."""
    client, server = (
        MemoryConnection(
            is_client=is_client,
            window=window,
            max_streams=max_streams,
            max_datagrams=max_datagrams,
        )
        for is_client in (True, False)
    )
    client.peer, server.peer = server, client
    return client, server
