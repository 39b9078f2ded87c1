"""One connection of the aioquic engine, as the facade sees it.

The driver translates between QUIC and the protocol core, :mod:`.aioquic_loop` has packets and
deadlines. What is left for here: bytes that arrived wait until the application reads them, writes
are accepted while little enough is unsent, datagrams wait in bounded queues.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pywebtransport._engine.aioquic_buffers import StreamBuffers, WaitsFor
from pywebtransport._engine.aioquic_loop import LoopConnection
from pywebtransport._engine.base import (
    EngineClosed,
    SessionRefused,
    StreamFinished,
)
from pywebtransport._native import CoreError, CorePanic, CoreSessionError
from pywebtransport.exceptions import datagram_too_large, no_datagrams

__all__ = ["AioquicConnection"]


class AioquicConnection(LoopConnection):
    """``EngineConnection`` over aioquic."""

    def session_flow(self, session_id: int) -> dict[str, int]:
        return self._driver.session_flow(session_id)

    def export_keying_material(
        self, session_id: int, label: bytes, context: bytes, length: int
    ) -> bytes:
        label, context = self._call(self._driver.core.exporter, session_id, label, context)
        return self._quic.export_keying_material(label, context, length)

    def _call(self, verb: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Run a verb of the core, with its errors in the words of the seam."""
        self._require_open()
        self._flush_soon()
        try:
            return verb(*arguments, **options)
        except CoreSessionError as error:
            raise SessionRefused(str(error)) from error
        except CorePanic as error:
            self._driver.fail(str(error))
            raise EngineClosed(str(error)) from error
        except CoreError as error:
            raise EngineClosed(str(error)) from error

    # sessions, from the facade

    def open_session(
        self,
        *,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str] = (),
    ) -> int:
        self._require_open()
        if not self._quic.can_open(unidirectional=False):
            raise SessionRefused("the peer allows no further stream at present")
        session_id: int = self._call(
            self._driver.open_session,
            authority=authority,
            path=path,
            headers=headers,
            protocols=protocols,
            now=self._loop.time(),
        )
        self._inbound.requests.add(session_id)
        return session_id

    def accept_session(
        self, session_id: int, *, protocol: str | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        self._require_open()
        # Streams and datagrams that came early are told of before the call returns.
        self._inbound.session_begins(session_id)
        try:
            self._call(
                self._driver.accept_session,
                session_id,
                protocol=protocol,
                headers=headers,
                now=self._loop.time(),
            )
        except Exception:
            self._inbound.sessions.pop(session_id, None)
            raise
        self._inbound.requests.discard(session_id)

    def reject_session(
        self, session_id: int, *, status: int, headers: Mapping[str, str] = {}
    ) -> None:
        self._call(
            self._driver.reject_session,
            session_id,
            status=status,
            headers=headers,
            now=self._loop.time(),
        )
        self._inbound.requests.discard(session_id)

    def close_session(self, session_id: int, *, code: int, reason: str) -> None:
        self._call(
            self._driver.close_session,
            session_id,
            code=code,
            reason=reason,
            now=self._loop.time(),
        )

    def drain_session(self, session_id: int) -> None:
        self._call(self._driver.core.drain_session, session_id)

    def send_goaway(self) -> None:
        self._call(self._driver.core.goaway)

    # requests, from the facade

    def respond(
        self, stream_id: int, *, status: int, headers: Sequence[tuple[bytes, bytes]], fin: bool
    ) -> None:
        stream = self._response(stream_id)
        self._call(self._driver.respond, stream_id, status=status, headers=headers, fin=fin)
        if fin:
            self._inbound.response_ended(stream_id, stream)

    def finish_response(
        self, stream_id: int, *, trailers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        stream = self._response(stream_id)
        self._call(self._driver.finish_response, stream_id, trailers=trailers)
        self._inbound.response_ended(stream_id, stream)

    def abort_request(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or self._close_info is not None:
            return
        self._call(self._driver.end_request, stream_id, code)
        self._inbound.request_over(stream_id, stream)

    def _response(self, stream_id: int) -> StreamBuffers:
        self._require_open()
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_write_ended:
            raise StreamFinished(f"the response on stream {stream_id} has ended")
        return stream

    # streams, from the facade

    def open_stream(self, session_id: int, unidirectional: bool) -> int | None:
        self._require_open()
        if not self._quic.can_open(unidirectional):
            self._inbound.streams_wanted[session_id, unidirectional] = None
            return None
        opened = self._call(self._driver.open_stream, session_id, unidirectional)
        if opened is None:
            return None
        stream_id, header = cast("tuple[int, bytes]", opened)
        self._quic.write_header(stream_id, header)
        self._streams[stream_id] = StreamBuffers(
            session_id, readable=not unidirectional, writable=True
        )
        self._streams[stream_id].reader_waits = not unidirectional
        return stream_id

    def stream_read(self, stream_id: int, max_size: int) -> tuple[bytes, bool]:
        self._require_here()
        stream = self._streams.get(stream_id)
        if stream is None:
            return b"", True
        is_end = stream.is_read_ended
        if not stream.size:
            stream.reader_waits = not is_end
            return b"", is_end
        data = stream.take(max_size)
        is_end = is_end and not stream.size
        stream.reader_waits = not is_end and (max_size < 0 or len(data) < max_size)
        if self._close_info is None:
            self._driver.stream_consumed(stream_id, len(data), self._loop.time())
            if self._quic.stream_consumed(stream_id, len(data)) or self._limits.has_session_credit:
                self._flush_soon()
            if stream.is_read_ended:
                self._inbound.release(stream_id, stream)
        return data, is_end

    def stream_write(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool) -> int:
        self._require_open()
        stream = self._streams.get(stream_id)
        outgoing = self._quic.stream(stream_id)
        if (
            stream is None
            or stream.is_write_ended
            or outgoing is None
            or outgoing.sender.is_ended  # QUIC may know before the core tells
        ):
            raise StreamFinished(f"stream {stream_id} takes no more data")
        view = data if isinstance(data, bytes) else memoryview(data).cast("B")
        size = len(view)
        accepted = 0
        if size:
            buffer = self._limits.stream_buffer
            connection_room = self._limits.send_window - self._quic.kept
            # Without credit a stream holds nothing that other streams could have sent.
            stream_room = min(buffer - outgoing.sender.unsent, outgoing.credit)
            room = max(0, min(size, stream_room, connection_room))
            if room:
                accepted = room if stream.is_request else self._driver.reserve_send(stream_id, room)
            if accepted < room:
                self._inbound.wait(stream_id, stream, WaitsFor.SESSION, size - accepted)
            elif room == max(0, connection_room):
                self._inbound.wait(stream_id, stream, WaitsFor.CONNECTION, size - accepted)
            elif accepted < size:
                self._inbound.wait(stream_id, stream, WaitsFor.BUFFER, size - accepted)
        fin = fin and accepted == size
        if stream.is_request:
            if size:
                accepted = self._write_body(stream_id, view, accepted)
            return accepted
        if accepted or fin:
            self._quic.send_stream_data(stream_id, cast(bytes, view[:accepted]), fin)
            self._flush_soon()
        if fin:
            self._driver.stream_finished(stream_id)
            self._inbound.write_ended(stream_id, stream)
        return accepted

    def _write_body(self, stream_id: int, view: bytes | memoryview, room: int) -> int:
        """Send what there is room for as one DATA frame; how much was taken."""
        head: bytes | None = self._call(self._driver.body_frame, stream_id, room, len(view))
        if head is None:
            return len(view)
        if room:
            self._quic.send_stream_data(stream_id, head + view[:room])
        return room

    def stream_reset(self, stream_id: int, code: int) -> None:
        self._require_open()
        stream = self._streams.get(stream_id)
        if stream is None or stream.is_write_ended:
            raise StreamFinished(f"the sending side of stream {stream_id} has ended")
        outgoing = self._quic.stream(stream_id)
        withheld = outgoing.withheld(reliably=self._quic.peer_resets_at) if outgoing else 0
        if withheld:
            self._driver.release_send(stream_id, withheld)
        self._call(self._driver.reset_stream, stream_id, code)
        self._inbound.write_ended(stream_id, stream)

    def stream_stop(self, stream_id: int, code: int) -> None:
        self._require_open()
        stream = self._streams.get(stream_id)
        if stream is None or (stream.is_read_ended and not stream.size):
            return
        self._call(self._driver.stop_stream, stream_id, code)
        self._inbound.drop(stream_id, stream)

    def set_stream_priority(self, stream_id: int, priority: int) -> None:
        """No effect: aioquic lets all streams take turns."""

    # datagrams, from the facade

    def max_datagram_size(self, session_id: int) -> int:
        return max(0, self._datagram_room(session_id)[1])

    def send_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> bool:
        queued = self._queue_datagrams(session_id, [data], self._quic.outgoing.push)
        return queued == 1

    def offer_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> bool:
        return self.offer_datagrams(session_id, [data]) == 1

    def offer_datagrams(
        self, session_id: int, datagrams: list[bytes | bytearray | memoryview]
    ) -> int:
        return self._queue_datagrams(session_id, datagrams, self._quic.outgoing.offer)

    def _queue_datagrams(
        self,
        session_id: int,
        datagrams: list[bytes | bytearray | memoryview],
        queue: Callable[[int, bytes], bool],
    ) -> int:
        """Up to the first that is too large, or of which ``queue`` says False: how many."""
        prefix, room = self._datagram_room(session_id)
        for count, data in enumerate(datagrams):
            size = data.nbytes if isinstance(data, memoryview) else len(data)
            if size > room:
                if count:
                    return count
                if room < 0:
                    raise no_datagrams(size)
                raise datagram_too_large(size=size, max_size=room)
            if not queue(session_id, prefix + data):
                return count
        return len(datagrams)

    def _datagram_room(self, session_id: int) -> tuple[bytes, int]:
        """What goes before a payload, and how long that may be; -1: not even an empty one fits."""
        prefix: bytes | None = self._call(self._driver.datagram_prefix, session_id)
        if prefix is None:
            return b"", -1
        return prefix, max(-1, self._quic.max_datagram_payload() - len(prefix))

    def receive_datagram(self, session_id: int) -> bytes | None:
        taken = self.receive_datagrams(session_id, 1)
        return taken[0] if taken else None

    def datagrams_dropped(self, session_id: int) -> int:
        return self._inbound.datagrams_dropped_of(session_id)

    def receive_datagrams(self, session_id: int, max_count: int) -> list[bytes]:
        self._require_here()
        return self._inbound.take_datagrams(session_id, max_count)
