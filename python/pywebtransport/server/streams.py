"""A session handler that is made of a stream handler."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from pywebtransport._waiting import ends_task
from pywebtransport._words import peer_path
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import WebTransportError
from pywebtransport.server.arguments import check_handler
from pywebtransport.server.router import SessionHandler
from pywebtransport.session.session import WebTransportSession
from pywebtransport.stream.base import FINISHED
from pywebtransport.stream.stream import WebTransportReceiveStream, WebTransportStream
from pywebtransport.types import Buffer, Data

__all__ = ["DEFAULT_MESSAGE_LIMIT", "MessageHandler", "StreamHandler", "serve_streams"]

logger = logging.getLogger("pywebtransport.server")

StreamHandler: TypeAlias = Callable[[WebTransportStream], Awaitable[None]]
"""Called with each stream that the peer opens; one that it only writes is a receive stream."""

MessageHandler: TypeAlias = Callable[[WebTransportStream, bytes], Data | Buffer | None]
"""A plain function, called with each stream and all that the peer has sent on it; what it returns
is the answer."""

DEFAULT_MESSAGE_LIMIT = 64 * 1024


def serve_streams(
    handler: StreamHandler | MessageHandler, max_size: int = DEFAULT_MESSAGE_LIMIT
) -> SessionHandler:
    """A session handler that calls ``handler`` with each stream.

    Raises:
        TypeError: ``handler`` is neither a coroutine function of a stream, nor a plain function of
            a stream and its data.
    """
    if not takes_data(handler):
        check_handler(handler)
        return each_stream(handler)  # type: ignore[arg-type]
    if inspect.iscoroutinefunction(handler):
        raise TypeError(
            f"a handler of a stream and its data must be a plain `def`, {handler!r} is `async def`:"
            " let it take the stream alone, and read"
        )
    return each_message(handler, max_size)  # type: ignore[arg-type]


def takes_data(handler: Callable[..., Any]) -> bool:
    """Whether it wants two arguments."""
    try:
        signature = inspect.signature(handler)
        signature.bind(None, None)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None)
    except TypeError:
        return True
    return False


def each_stream(handler: StreamHandler) -> SessionHandler:
    """A session handler that calls ``handler`` with each stream, in a task of its own."""

    @functools.wraps(handler)
    async def serve(session: WebTransportSession) -> None:
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for stream in session.incoming_streams():
                task = asyncio.create_task(serve_stream(handler, session, stream))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if tasks:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()

    return serve


async def serve_stream(
    handler: StreamHandler,
    session: WebTransportSession,
    stream: WebTransportStream | WebTransportReceiveStream,
) -> None:
    """Call the handler; its failure ends its stream and no other."""
    try:
        await handler(stream)  # type: ignore[arg-type]
        if isinstance(stream, WebTransportStream):
            await stream.close()
        await stream.stop_receiving()
    except BaseException as error:
        if ends_task(error):
            if isinstance(error, asyncio.CancelledError):
                await stream.abort()
            raise
        await stream.abort(code=ErrorCodes.INTERNAL_ERROR)
        log_failure(stream, session.path, error)


def each_message(handler: MessageHandler, max_size: int) -> SessionHandler:
    """A session handler that calls ``handler`` when a stream has come whole, without a task."""

    @functools.wraps(handler)
    async def serve(session: WebTransportSession) -> None:
        session._incoming_queue().give_to(MessageReader(handler, session.path, max_size).begin)
        await session.wait_closed()

    # Its name is the handler's, but it is a coroutine function, and that is not.
    del serve.__wrapped__
    return serve


class MessageReader:
    """Reads the streams of one session to their end, and answers them."""

    def __init__(self, handler: MessageHandler, path: str, max_size: int) -> None:
        self._handler = handler
        self._path = path
        self._max_size = max_size

    def begin(self, stream: WebTransportReceiveStream) -> None:
        """Take what the stream has brought; the rest follows by itself."""
        self._read(stream, [])

    def _read(
        self,
        stream: WebTransportReceiveStream,
        parts: list[bytes],
        news: asyncio.Future[bool] | None = None,
    ) -> None:
        try:
            link = stream._linked()
            size = sum(map(len, parts))
            if size:
                link.unfinished.change(size, 0)
            if news is not None and news.result():
                raise stream._silence(link)
            room = self._max_size + 1 - size
            while stream._receiving != FINISHED and (data := stream._read_now(room)) != b"":
                if data is None:
                    if parts:
                        stream._count_unfinished(0, self._max_size + 1 - room)
                    stream._notice(link).add_done_callback(
                        functools.partial(self._read, stream, parts)
                    )
                    return
                parts.append(data)
                room -= len(data)
                if not room:
                    raise stream._error(
                        f"stream {stream.stream_id} carries more than {self._max_size} bytes"
                    )
            if stream._receiving == FINISHED:
                self._answer(stream, b"".join(parts))
        except BaseException as error:
            if ends_task(error):
                raise
            stream._stop_now(ErrorCodes.INTERNAL_ERROR)
            if isinstance(stream, WebTransportStream):
                stream._reset_now(ErrorCodes.INTERNAL_ERROR)
            log_failure(stream, self._path, error)

    def _answer(self, stream: WebTransportReceiveStream, data: bytes) -> None:
        answer = self._handler(stream, data)  # type: ignore[arg-type]
        if isinstance(stream, WebTransportStream):
            stream._write_now(b"" if answer is None else answer, is_last=True)
        elif answer is not None:
            raise TypeError(f"stream {stream.stream_id} is one-way: there is no answer on it")


def log_failure(stream: WebTransportReceiveStream, path: str, error: BaseException) -> None:
    """Say that the handler of a stream has failed; a peer that left is no failure."""
    if isinstance(error, WebTransportError):
        logger.info("stream %d of %s: %s", stream.stream_id, peer_path(path), error)
    else:
        logger.error(
            "handler of stream %d of %s failed",
            *(stream.stream_id, peer_path(path)),
            exc_info=error,
        )
