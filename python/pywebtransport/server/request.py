"""Ordinary HTTP/3 requests, beside the sessions of a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from pywebtransport._engine.base import (
    EngineClosed,
    RequestHead,
    SessionRefused,
    StreamFinished,
)
from pywebtransport._link.link import OPERATION, Link
from pywebtransport._waiting import ends_task, wait_among
from pywebtransport._words import peer_path
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import InvalidStateError, RequestError, TimeoutError
from pywebtransport.types import Address, Buffer

if TYPE_CHECKING:
    from pywebtransport._link.deadlines import Waits
    from pywebtransport.connection.connection import WebTransportConnection

__all__ = ["HeaderFields", "HttpRequest", "RequestHandler", "serve_request"]

logger = logging.getLogger("pywebtransport.server")

HeaderFields = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""Names and values; names in any case, text as Latin-1."""

CONTINUE = 100
SWITCHING_PROTOCOLS = 101
OK = 200
HIGHEST_STATUS = 599
REQUEST_TIMEOUT = 408
INTERNAL_SERVER_ERROR = 500
SERVICE_UNAVAILABLE = 503

READ_SIZE = 64 * 1024
DEFAULT_BODY_LIMIT = 1024 * 1024


class HttpRequest:
    """One request of a client, and the answer to it.

    A handler reads the body with :meth:`read` or ``async for``, and answers with :meth:`respond`,
    :meth:`write` and :meth:`end`. Both may go on at once. The body stays with the client until it
    is read, and :meth:`write` waits for a client that does not read.

    When the client gives the request up, or its connection ends, what waits here raises
    :class:`~pywebtransport.exceptions.RequestError`, and so does every later call.
    """

    def __init__(self, connection: WebTransportConnection, link: Link, head: RequestHead) -> None:
        """Made by the server."""
        self._connection = connection
        self._link = link
        self._head = head
        self._status: int | None = None
        self._is_complete = False
        """The response has its end."""
        self._is_read = False
        """The body was read to its end."""
        self._error: RequestError | None = None
        """Why the request is over before its time."""
        self._trailers: list[tuple[bytes, bytes]] = []
        self._expects_continue = head.expects_continue
        self._is_readable = True
        self._reader: asyncio.Future[bool] | None = None
        self._writer: asyncio.Future[bool] | None = None
        self._over_waiters: list[asyncio.Future[None]] = []
        self._bytes_received = 0
        self._bytes_sent = 0
        link.requests[head.stream_id] = self
        link.has_requests = True

    def __repr__(self) -> str:
        path = peer_path(self._head.path)
        return f"<HttpRequest {self._head.method} {path} on stream {self._head.stream_id}>"

    # The request.

    @property
    def method(self) -> str:
        """As sent: ``GET``, ``POST``, ..."""
        return self._head.method

    @property
    def scheme(self) -> str:
        """``https``."""
        return self._head.scheme

    @property
    def authority(self) -> str:
        """Host and port that the client named, by ``:authority`` or by ``host``."""
        return self._head.authority

    @property
    def path(self) -> str:
        """Path and query, as sent."""
        return self._head.path

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names, in lower case, and values in the order of the request, without the pseudo-header
        fields; the lines of ``cookie`` are one (RFC 9114 §4.2.1)."""
        return self._head.headers

    @property
    def trailers(self) -> list[tuple[bytes, bytes]]:
        """What came after the body; complete once the body was read to its end."""
        return self._trailers

    @property
    def client(self) -> Address | None:
        """Where the client is now."""
        return self._connection.remote_address

    @property
    def connection(self) -> WebTransportConnection:
        """The connection that the request came on."""
        return self._connection

    @property
    def stream_id(self) -> int:
        """Of the request's stream."""
        return self._head.stream_id

    @property
    def bytes_received(self) -> int:
        """Bytes of the body that were read."""
        return self._bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes of the response's body that were handed over."""
        return self._bytes_sent

    # Reading.

    async def read(self, max_size: int = READ_SIZE) -> bytes:
        """Return up to ``max_size`` bytes of the body as soon as there are any; ``b""`` at its end.

        Where the client expects ``100 Continue``, the first call that has to wait sends it. One
        task reads at a time.

        Args:
            max_size: The most to return. -1: everything that has arrived.

        Raises:
            RequestError: The client gave the request up, sent a body that is not as long as its
                ``content-length`` says, or the connection ended.
            TimeoutError: Nothing came within ``config.read_timeout`` (60 s).
            ValueError: ``max_size`` is 0 or below -1.
        """
        if max_size == 0 or max_size < -1:
            raise ValueError(f"max_size must be > 0, or -1 for everything, it is {max_size}")
        link = self._link
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        while not self._is_read:
            if self._error is not None:
                self._refuse()
            if self._is_readable:
                try:
                    data, self._is_read = link.engine.stream_read(self._head.stream_id, max_size)
                except (EngineClosed, SessionRefused):
                    self._lose()
                    continue
                self._is_readable = len(data) == max_size
                if data:
                    self._expects_continue = False
                    self._bytes_received += len(data)
                    link.budget -= len(data) // OPERATION
                    return data
                continue
            if self._expects_continue and self._status is None:
                self._send_head(CONTINUE, [], end=False)
            self._expects_continue = False
            if self._reader is not None:
                raise InvalidStateError(f"{self!r}: another task reads the body already")
            self._reader = link.loop.create_future()
            try:
                await self._wait(link.reads, self._reader, "the client sent nothing", "read")
            finally:
                self._reader = None
        return b""

    async def read_all(self, max_size: int = DEFAULT_BODY_LIMIT) -> bytes:
        """Return the whole body.

        Args:
            max_size: Bytes after which to give up, with the rest unread (1 MiB).

        Raises:
            ValueError: The body has more than ``max_size`` bytes: answer with status 413.
            RequestError: As :meth:`read`.
            TimeoutError: As :meth:`read`.
        """
        parts: list[bytes] = []
        total = 0
        while data := await self.read(-1):
            parts.append(data)
            total += len(data)
            if total > max_size:
                raise ValueError(f"the body has more than max_size={max_size} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Chunks of the body, up to its end; raises what :meth:`read` raises."""
        while data := await self.read():
            yield data

    # Answering.

    @property
    def status(self) -> int | None:
        """Of the response; None while there is none."""
        return self._status

    @property
    def is_complete(self) -> bool:
        """Whether the response was sent to its end."""
        return self._is_complete

    async def respond(self, status: int, headers: HeaderFields = (), *, end: bool = False) -> None:
        """Send status and header fields; the body follows by :meth:`write`.

        A ``content-length`` among them has to be that of the body. The body of the response to
        ``HEAD`` is not sent.

        Args:
            status: 200..599; or 100..199 except 101, any number of times before.
            headers: Names in any case, and values; text is sent as Latin-1.
            end: There is no body.

        Raises:
            InvalidStateError: The response has been begun.
            ValueError: The status or a field cannot be sent.
            RequestError: The request is over.
        """
        is_interim = CONTINUE <= status < OK
        if not (is_interim or OK <= status <= HIGHEST_STATUS) or status == SWITCHING_PROTOCOLS:
            raise ValueError(f"status must be in 100..599 and not 101, it is {status}")
        if is_interim and end:
            raise ValueError(f"status {status} is not the last of a response")
        fields = _fields(headers)
        if self._error is not None:
            self._refuse()
        if self._status is not None:
            raise InvalidStateError(f"{self!r} has been answered with status {self._status}")
        self._send_head(status, fields, end=end)
        if not is_interim:
            self._status = status
        if end:
            self._complete()

    def _send_head(self, status: int, fields: list[tuple[bytes, bytes]], *, end: bool) -> None:
        try:
            self._link.engine.respond(self._head.stream_id, status=status, headers=fields, fin=end)
        except StreamFinished:
            self._give_up(ErrorCodes.H3_REQUEST_CANCELLED)
        except (EngineClosed, SessionRefused):
            self._lose()
        if self._error is not None:
            self._refuse()

    async def write(self, data: Buffer) -> None:
        """Send a part of the body; wait while the client gives no credit.

        Large buffers of type ``bytes`` are not copied. One task writes at a time. Cancelled, it may
        have sent a part of ``data``.

        Raises:
            InvalidStateError: There is no response yet, or it has ended.
            ValueError: The body is longer than ``content-length`` says, or than the status allows.
            RequestError: The request is over.
            TimeoutError: No credit within ``config.write_timeout`` (30 s).
        """
        view: Any = data if isinstance(data, bytes) else memoryview(data).cast("B")
        link = self._link
        link.budget -= 1
        if link.budget < 0:
            await link.breathe()
        while True:
            self._check_writable()
            size = len(view)
            try:
                accepted = link.engine.stream_write(self._head.stream_id, view, False)
            except StreamFinished:
                self._give_up(ErrorCodes.H3_REQUEST_CANCELLED)
                continue
            except (EngineClosed, SessionRefused):
                self._lose()
                continue
            self._bytes_sent += accepted
            link.budget -= accepted // OPERATION
            if accepted == size:
                return
            if accepted:
                view = memoryview(view)[accepted:]
            if self._writer is not None:
                raise InvalidStateError(f"{self!r}: another task writes the body already")
            self._writer = link.loop.create_future()
            try:
                await self._wait(link.writes, self._writer, "the client gave no credit", "write")
            finally:
                self._writer = None

    async def end(self, trailers: HeaderFields | None = None) -> None:
        """Send the end of the response. Does nothing when it has ended.

        Raises:
            InvalidStateError: There is no response yet.
            ValueError: The body is shorter than ``content-length`` says, or a trailer cannot be
                sent.
            RequestError: The request is over.
        """
        if self._is_complete:
            return
        self._check_writable()
        fields = [] if trailers is None else _fields(trailers)
        try:
            self._link.engine.finish_response(self._head.stream_id, trailers=fields)
        except StreamFinished:
            self._give_up(ErrorCodes.H3_REQUEST_CANCELLED)
        except (EngineClosed, SessionRefused):
            self._lose()
        if self._error is not None:
            self._refuse()
        self._complete()

    def abort(self, code: int = ErrorCodes.H3_INTERNAL_ERROR) -> None:
        """Give the request up: the client sees the stream reset with an HTTP/3 code.

        Does nothing when the request is over.
        """
        if self._error is not None:
            return
        is_answered = self._is_complete
        self._drop(code)
        if not is_answered:
            text = f"{self!r} was given up here with code {code:#x}"
            self._fail(RequestError(text, error_code=code))

    # The end.

    @property
    def is_disconnected(self) -> bool:
        """Whether the request ended before the response did."""
        return self._error is not None

    async def wait_disconnected(self) -> None:
        """Wait until the request is over: the response is complete, the client gave it up, or the
        connection ended. :attr:`is_disconnected` tells which."""
        if self._error is None and not self._is_complete:
            await wait_among(self._over_waiters, self._link.loop.create_future())

    def _check_writable(self) -> None:
        if self._error is not None:
            self._refuse()
        if self._status is None:
            raise InvalidStateError(f"{self!r} has no response yet: respond() comes first")
        if self._is_complete:
            raise InvalidStateError(f"the response to {self!r} has ended")

    async def _wait(
        self, waits: Waits, future: asyncio.Future[bool], what: str, operation: str
    ) -> None:
        waits.add(future, self._link.loop.time())
        try:
            expired = await future
        finally:
            waits.discard(future)
        if expired:
            raise TimeoutError(
                f"{what} on {self!r} within {operation}_timeout={waits.timeout:g} s",
                timeout_duration=waits.timeout,
                operation=operation,
            )

    def _refuse(self) -> NoReturn:
        assert self._error is not None
        raise RequestError(self._error.message, error_code=self._error.error_code)

    def _complete(self) -> None:
        self._is_complete = True
        self._wake_over()

    def _give_up(self, code: int) -> None:
        text = f"the client gave {self!r} up with code {code:#x}"
        self._fail(RequestError(text, error_code=code))

    def _fail(self, error: RequestError) -> None:
        """It is over, unless it was."""
        if self._error is not None:
            return
        self._error = error
        self._link.requests.pop(self._head.stream_id, None)
        for waiter in (self._reader, self._writer):
            if waiter is not None and not waiter.done():
                waiter.set_result(False)
        self._wake_over()

    def _wake_over(self) -> None:
        for waiter in self._over_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._over_waiters.clear()

    def _drop(self, code: int) -> None:
        """Nobody is interested in what is left of the stream."""
        if self._link.requests.pop(self._head.stream_id, None) is None:
            return
        try:
            self._link.engine.abort_request(self._head.stream_id, code)
        except (EngineClosed, SessionRefused, StreamFinished):
            return

    # The link's side.

    def _on_readable(self) -> None:
        self._is_readable = True
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(False)

    def _on_writable(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(False)

    def _on_trailers(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._trailers = list(fields)

    def _on_given_up(self, code: int) -> None:
        self._give_up(code)

    def _lose(self) -> None:
        text = f"the connection of {self!r} has ended"
        self._fail(RequestError(text, error_code=ErrorCodes.H3_NO_ERROR))


RequestHandler = Callable[[HttpRequest], Awaitable[None]]
"""Called with each request; it answers it."""


async def serve_request(request: HttpRequest, handler: RequestHandler) -> None:
    """Have a request answered, whatever the handler does.

    What the handler has not ended is complete when it returns. When it raises, or returns without
    an answer, the answer is 500, or 408 when it was the client that took too long; one that has
    begun is aborted.
    """
    what = f"{request.method} {peer_path(request.path)}"
    try:
        await handler(request)
        if request._status is None and request._error is None:
            logger.error("the handler of %s returned without an answer", what)
            await request.respond(INTERNAL_SERVER_ERROR, end=True)
        elif request._error is None:
            await request.end()
    except TimeoutError as error:
        logger.warning("the handler of %s gave up: %s", what, error)
        _answer_or_abort(request, REQUEST_TIMEOUT, ErrorCodes.H3_REQUEST_CANCELLED)
    except BaseException as error:
        if ends_task(error):
            _answer_or_abort(request, SERVICE_UNAVAILABLE, ErrorCodes.H3_REQUEST_CANCELLED)
            raise
        if request._error is not None and isinstance(error, RequestError):
            logger.debug("%s was given up: %s", what, error)
        else:
            logger.exception("the handler of %s failed", what)
            _answer_or_abort(request, INTERNAL_SERVER_ERROR, ErrorCodes.H3_INTERNAL_ERROR)
    finally:
        # RFC 9114 §4.1: what of the request nobody has read is not needed.
        request._drop(ErrorCodes.H3_NO_ERROR)


def _answer_or_abort(request: HttpRequest, status: int, code: int) -> None:
    if request._error is not None or request._is_complete:
        return
    if request._status is None:
        try:
            request._send_head(status, [], end=True)
        except RequestError:
            return
        request._status = status
        request._complete()
    else:
        request.abort(code)


def _fields(headers: HeaderFields) -> list[tuple[bytes, bytes]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(_latin(name).lower(), _latin(value)) for name, value in pairs]


def _latin(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)
