"""One WebTransport session as ASGI messages: ``receive`` takes from it, ``send`` gives to it.

Nothing waits here for the application but what it has asked for itself. Data stays in the session,
and QUIC's windows bound it there, until a call of ``receive`` takes up to :data:`READ_SIZE` bytes
of one stream; datagrams stay in their queue, which is bounded as well. Streams, datagrams and new
streams take turns. What has nothing to give leaves a callback, so that an idle stream costs no
task.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from pywebtransport.asgi._scope import connection_scope, header_fields
from pywebtransport.asgi._types import Message, Scope
from pywebtransport.asgi.exceptions import ClientDisconnected, StreamEnded
from pywebtransport.datagram.transport import WebTransportDatagramTransport
from pywebtransport.events import Event
from pywebtransport.exceptions import (
    ConnectionLostError,
    InvalidStateError,
    SessionError,
    StreamError,
    StreamResetError,
)
from pywebtransport.session.session import WebTransportSession
from pywebtransport.stream.base import FINISHED
from pywebtransport.stream.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.types import EventType, Headers, SessionState

__all__ = ["READ_SIZE", "SPEC_VERSION", "SessionMessages", "session_scope"]

SPEC_VERSION = "0.2"
"""Of the messages; 0.1 are those of channels-webtransport 0.0.1."""
READ_SIZE = 1 << 16
"""Bytes of a stream that one message brings at most."""
FORBIDDEN = 403
ENDS_OF_A_SESSION = (SessionError, ConnectionLostError)

AnyStream = WebTransportStream | WebTransportReceiveStream | WebTransportSendStream
Kind = TypeVar("Kind", WebTransportSendStream, WebTransportReceiveStream)
Source = Callable[[], Message | None]
"""Gives what it has, or None and leaves a callback for when it has something."""


def session_scope(session: WebTransportSession, state: dict[str, Any]) -> Scope:
    """The scope of a session that a client asks for."""
    fields = session.headers
    scope = connection_scope(
        kind="webtransport",
        method="CONNECT",
        target=session.path,
        headers=header_fields(
            ((name.encode(), value.encode()) for name, value in fields.items()),
            fields.get(":authority", "").encode(),
        ),
        connection=session.connection,
        state=state,
    )
    about = {"spec_version": SPEC_VERSION, "session_id": session.session_id}
    scope["webtransport"] = about
    scope["extensions"] = {"webtransport": about, "pywebtransport": {"session": session}}
    scope["subprotocols"] = session.wt_available_protocols or []
    return scope


class KnownStream:
    """A stream that the application has been told of, until both its directions have ended."""

    __slots__ = ("is_kept", "is_paused", "stream")

    def __init__(self, stream: AnyStream) -> None:
        self.stream = stream
        self.is_paused = False
        self.is_kept = False
        """Its turn has come while it was paused."""


class SessionMessages:
    """``receive`` and ``send`` of one session.

    answered: called when the application has accepted the session.
    """

    def __init__(self, session: WebTransportSession, answered: Callable[[], None]) -> None:
        self._session = session
        self._answered = answered
        self._news = asyncio.Event()
        self._told: deque[Message] = deque([{"type": "webtransport.connect"}])
        """Answers to what the application asked for, and at most one stop of each known stream."""
        self._ready: deque[Source] = deque([self._next_stream])
        self._streams: dict[int, KnownStream] = {}
        self._datagrams: WebTransportDatagramTransport | None = None
        self._opening = asyncio.Lock()
        self._is_over = False
        """The session has ended."""
        self._is_told = False
        """So has the application been told."""
        self.is_begun = False
        """The application has received or sent something."""
        session.on(event_type=EventType.STOP_SENDING_RECEIVED, handler=self._stopped)

    def leave(self) -> None:
        """The application has returned: session and messages do not hold each other any more."""
        self._session.off(event_type=EventType.STOP_SENDING_RECEIVED, handler=self._stopped)

    # To the application.

    async def receive(self) -> Message:
        """The next message; cancelled, it takes none.

        Raises:
            ClientDisconnected: The last one, ``webtransport.disconnect``, has been given: one that
                was given again and again would keep an application that ignores it busy for ever.
        """
        self.is_begun = True
        link = self._session._initialized()
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        while (message := self._take()) is None:
            self._news.clear()
            await self._news.wait()
        return message

    def _take(self) -> Message | None:
        if self._told:
            return self._told.popleft()
        while self._ready:
            message = self._ready.popleft()()
            if message is not None:
                return message
        if not self._is_over:
            return None
        if self._is_told:
            raise ClientDisconnected(f"there is no further message: {self._session._end_text()}")
        self._is_told = True
        return self._disconnect()

    def _tell(self, message: Message) -> None:
        self._told.append(message)
        self._news.set()

    def _wake(self, source: Source, _: object = None) -> None:
        self._ready.append(source)
        self._news.set()

    def _next_stream(self) -> Message | None:
        incoming = self._session._incoming_queue()
        stream = incoming.take(None)
        if stream is not None:
            self._ready.append(self._next_stream)
            self._learn(stream)
            is_both_ways = isinstance(stream, WebTransportStream)
            return {
                "type": "webtransport.stream.open",
                **_stream_fields(stream),
                "direction": "bidirectional" if is_both_ways else "unidirectional",
                "bidirectional": is_both_ways,
                "initiated_by": "client",
            }
        if not incoming.is_ended:
            incoming.arrival(None).add_done_callback(partial(self._wake, self._next_stream))
            return None
        # What had arrived comes before the end, of streams that are paused as well.
        self._is_over = True
        for known in self._streams.values():
            self._let_go(known)
        return None

    def _next_datagram(self) -> Message | None:
        assert self._datagrams is not None
        inbox = self._datagrams._inbox
        data = inbox.take()
        if data is not None:
            self._ready.append(self._next_datagram)
            return {"type": "webtransport.datagram.receive", "data": data}
        if not inbox.is_closed:
            future = self._session._initialized().loop.create_future()
            future.add_done_callback(partial(self._wake, self._next_datagram))
            inbox.receivers.append(future)
        return None

    def _learn(self, stream: AnyStream) -> None:
        known = self._streams[stream.stream_id] = KnownStream(stream)
        if isinstance(stream, WebTransportReceiveStream):
            self._wake(partial(self._next_chunk, known))

    def _next_chunk(self, known: KnownStream) -> Message | None:
        if known.is_paused:
            known.is_kept = True
            return None
        stream = known.stream
        assert isinstance(stream, WebTransportReceiveStream)
        source = partial(self._next_chunk, known)
        try:
            data = stream._read_now(READ_SIZE)
        except StreamResetError as error:
            self._forget_ended(stream)
            self._tell(
                {
                    "type": "webtransport.stream.reset",
                    **_stream_fields(stream),
                    "code": error.error_code,
                }
            )
            # Nothing more comes, and it has not ended: applications that know no reset see that.
            return _received(stream, b"", more=False, ended=False)
        except StreamError:
            # The application has stopped it, or the session has ended.
            self._forget_ended(stream)
            return None
        if data is None:
            stream._when_readable(partial(self._wake, source))
            return None
        if data:
            self._ready.append(source)
            return _received(stream, data, more=True, ended=False)
        self._forget_ended(stream)
        if stream._receiving != FINISHED:
            return None  # The session was closed before the stream's end had come.
        return _received(stream, b"", more=False, ended=True)

    def _stopped(self, event: Event) -> None:
        assert event.data is not None
        stream_id, code = event.data["stream_id"], event.data["error_code"]
        known = self._streams.get(stream_id)
        if known is not None:
            self._forget_ended(known.stream)
            self._tell(
                {
                    "type": "webtransport.stream.stop_sending",
                    **_stream_fields(known.stream),
                    "code": code,
                }
            )

    def _disconnect(self) -> Message:
        session = self._session
        return {
            "type": "webtransport.disconnect",
            "code": session.close_code or 0,
            "reason": session.close_reason or "",
            "clean": session.closed_by != "transport" and session.close_error is None,
        }

    def _forget_ended(self, stream: AnyStream) -> None:
        if stream.is_closed:
            self._streams.pop(stream.stream_id, None)

    def _let_go(self, known: KnownStream) -> None:
        known.is_paused = False
        if known.is_kept:
            known.is_kept = False
            self._wake(partial(self._next_chunk, known))

    # From the application.

    async def send(self, message: Message) -> None:
        """Do what a message says.

        Raises:
            ClientDisconnected: The session has ended.
            StreamEnded: The stream that it names has, or is none of this session.
            InvalidStateError: It does not fit the session's state.
            DatagramError: A datagram is too large.
            TimeoutError: The client gives no credit within ``config.write_timeout``.
            ValueError, TypeError: There is no such message, or a field of it cannot be.
        """
        kind = message["type"]
        verb = VERBS.get(kind)
        if verb is None:
            raise ValueError(f"a WebTransport session is sent no {kind!r}, but {', '.join(VERBS)}")
        self.is_begun = True
        session = self._session
        if session.is_closed or session.state is SessionState.CLOSING:
            if kind == "webtransport.close":
                return
            raise ClientDisconnected(f"{kind} was not sent: {session._end_text()}")
        is_answer = kind in ("webtransport.accept", "webtransport.close")
        if session.state is SessionState.CONNECTING and not is_answer:
            raise InvalidStateError(f"{kind} comes before webtransport.accept")
        try:
            await verb(self, message)
        except ENDS_OF_A_SESSION as error:
            raise ClientDisconnected(f"{kind} was not sent: {error.message}") from error

    async def _accept(self, message: Message) -> None:
        session = self._session
        if session.state is not SessionState.CONNECTING:
            raise InvalidStateError("the session has been accepted already")
        subprotocol = message.get("subprotocol")
        if subprotocol is not None:
            session.wt_protocol = subprotocol
        await session.accept(headers=_answer_fields(message.get("headers")))
        self._answered()
        self._datagrams = await session.create_datagram_transport()
        self._wake(self._next_datagram)

    async def _close(self, message: Message) -> None:
        session, code = self._session, message.get("code") or 0
        if session.state is not SessionState.CONNECTING:
            await session.close(code, reason=message.get("reason") or "")
            return
        status = message.get("status")
        if status is None:
            status = code if 400 <= code <= 599 else FORBIDDEN
        await session.reject(status, headers=_answer_fields(message.get("headers")))

    async def _send_datagram(self, message: Message) -> None:
        await self._session.send_datagram(message["data"])

    async def _open(self, message: Message) -> None:
        is_both_ways = message.get("bidirectional", True)
        # The answers come in the order of the questions, however long the peer allows no stream.
        async with self._opening:
            if is_both_ways:
                stream: AnyStream = await self._session.create_bidirectional_stream()
            else:
                stream = await self._session.create_unidirectional_stream()
            self._learn(stream)
            self._tell(
                {
                    "type": "webtransport.stream.opened",
                    **_stream_fields(stream),
                    "bidirectional": is_both_ways,
                }
            )

    async def _send(self, message: Message) -> None:
        stream = self._stream(message, WebTransportSendStream)
        try:
            await stream.write(message.get("data", b""), end_stream=_is_last(message))
        except ENDS_OF_A_SESSION:
            raise
        except StreamError as error:
            raise StreamEnded(error.message) from error
        finally:
            self._forget_ended(stream)

    async def _reset(self, message: Message) -> None:
        stream = self._stream(message, WebTransportSendStream)
        await stream.reset(message.get("code", 0))
        self._forget_ended(stream)

    async def _stop_receiving(self, message: Message) -> None:
        stream = self._stream(message, WebTransportReceiveStream)
        await stream.stop_receiving(message.get("code", 0))
        self._forget_ended(stream)

    async def _pause(self, message: Message) -> None:
        known = self._streams.get(_stream_id(message))
        if known is not None and not self._is_over:
            known.is_paused = True

    async def _resume(self, message: Message) -> None:
        known = self._streams.get(_stream_id(message))
        if known is not None:
            self._let_go(known)

    def _stream(self, message: Message, kind: type[Kind]) -> Kind:
        stream_id = _stream_id(message)
        known = self._streams.get(stream_id)
        if known is None:
            raise StreamEnded(
                f"{message['type']}: the session has no stream {stream_id}, or it has ended"
            )
        if not isinstance(known.stream, kind):
            raise StreamEnded(
                f"{message['type']}: stream {stream_id} is {known.stream.direction.value}"
            )
        return known.stream


VERBS: dict[str, Callable[[SessionMessages, Message], Awaitable[None]]] = {
    "webtransport.accept": SessionMessages._accept,
    "webtransport.close": SessionMessages._close,
    "webtransport.datagram.send": SessionMessages._send_datagram,
    "webtransport.stream.open": SessionMessages._open,
    "webtransport.stream.send": SessionMessages._send,
    "webtransport.stream.reset": SessionMessages._reset,
    "webtransport.stream.stop_receiving": SessionMessages._stop_receiving,
    "webtransport.stream.pause": SessionMessages._pause,
    "webtransport.stream.resume": SessionMessages._resume,
}


# Fields. Each has the names that the applications of another server know it by.


def _stream_fields(stream: AnyStream) -> Message:
    return {"stream": stream.stream_id, "stream_id": stream.stream_id}


def _received(stream: AnyStream, data: bytes, *, more: bool, ended: bool) -> Message:
    return {
        "type": "webtransport.stream.receive",
        "stream": stream.stream_id,
        "stream_id": stream.stream_id,
        "data": data,
        "end_stream": ended,
        "more_data": more,
        "more_body": more,
    }


def _stream_id(message: Message) -> int:
    stream_id = message.get("stream", message.get("stream_id"))
    if not isinstance(stream_id, int):
        raise TypeError(
            f"{message['type']}: stream must be an integer, the id of a stream, it is {stream_id!r}"
        )
    return stream_id


def _is_last(message: Message) -> bool:
    for name in ("end_stream", "finish"):
        if name in message:
            return bool(message[name])
    return not message.get("more_data", message.get("more_body", True))


def _text(field: bytes) -> str:
    """As the library gives the text of fields: UTF-8 if they are, else Latin-1."""
    try:
        return bytes(field).decode()
    except UnicodeDecodeError:
        return bytes(field).decode("latin-1")


def _answer_fields(fields: Iterable[tuple[bytes, bytes]] | None) -> Headers:
    """Of an answer to a request for a session, in which no name can come twice."""
    found: Headers = {}
    for name, value in fields or ():
        key, text = _text(name).lower(), _text(value)
        if key == "set-cookie" and key in found:
            raise ValueError("the answer to a request for a session can set one cookie only")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
