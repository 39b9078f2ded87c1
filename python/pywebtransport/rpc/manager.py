"""Both roles of RPC on one stream: the calls of this side, and the tasks that answer the other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._identifiers import random_uuid
from pywebtransport._messages import finish, read_chunk
from pywebtransport._sparse_log import SparseLog
from pywebtransport._waiting import wait_within
from pywebtransport._words import peer_text
from pywebtransport.constants import DEFAULT_MAX_MESSAGE_SIZE, ErrorCodes
from pywebtransport.exceptions import WebTransportError
from pywebtransport.rpc.batch import RpcBatch
from pywebtransport.rpc.dispatcher import VERSION, Dispatcher, is_version_2
from pywebtransport.rpc.exceptions import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcError,
    RpcErrorCode,
    RpcTimeoutError,
)
from pywebtransport.rpc.protocol import (
    FrameDecoder,
    decode_message,
    encode_frame,
    is_request,
    is_response,
)
from pywebtransport.types import SessionId

if TYPE_CHECKING:
    from pywebtransport.stream import WebTransportStream

__all__ = [
    "CLOSE_TIMEOUT",
    "DEFAULT_MAX_BATCH_SIZE",
    "DEFAULT_MAX_PENDING_REQUESTS",
    "RpcManager",
]

logger = logging.getLogger(__name__)

DEFAULT_MAX_PENDING_REQUESTS = 1024
"""Requests of the peer that are being answered at once; more have to wait."""
DEFAULT_MAX_BATCH_SIZE = 100
"""Messages in one array."""
MAX_ERROR_TEXT = 1000
"""Characters of the text of an answered error that are kept."""
CLOSE_TIMEOUT = 5.0
"""Seconds for the answers that are under way when the peer ends the stream, and for functions that
were cancelled."""

UNSENDABLE = (TypeError, ValueError, RecursionError)
"""What encoding raises for a value without a JSON form, or for one that is too large."""
Answer = dict[str, Any] | RpcError


class RpcManager:
    """Calls the functions of the other side, and lets it call the registered ones.

    Use it with ``async with``; the end of the stream, from either side, closes it. Up to
    ``concurrency_limit`` functions run at once (``None`` or 0: as many as requests are pending).

    With ``jsonrpc`` the requests are JSON-RPC 2.0: they carry the ``jsonrpc`` member, parameters
    may be named, batches may be sent, and what is not a request is answered with an error instead
    of being ignored. Requests, batches of them included, are answered in the format that they come
    in, so either setting works with peers of both kinds.

    A frame larger than ``max_message_size`` cannot be skipped safely: it closes the manager. While
    ``max_pending_requests`` are being answered the next ones wait, up to ``max_message_size`` bytes
    of them; what is more is refused with the error ``RpcErrorCode.OVERLOADED``. Responses are read
    all the same.

    With ``expose_errors=False`` an answer does not tell what a function raised, unless that is an
    RpcError, nor the token of the session; both are as in 0.8 otherwise.
    """

    def __init__(
        self,
        *,
        stream: WebTransportStream,
        session_id: SessionId,
        concurrency_limit: int | None = None,
        jsonrpc: bool = False,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        max_pending_requests: int = DEFAULT_MAX_PENDING_REQUESTS,
        max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
        expose_errors: bool = True,
    ) -> None:
        if concurrency_limit is not None and concurrency_limit < 0:
            raise ValueError("concurrency_limit must not be negative")
        for name, limit in (
            ("max_message_size", max_message_size),
            ("max_pending_requests", max_pending_requests),
            ("max_batch_size", max_batch_size),
        ):
            if limit <= 0:
                raise ValueError(f"{name} must be positive")
        self._stream = stream
        self._session_id = session_id
        self._jsonrpc = jsonrpc
        self._max_message_size = max_message_size
        self._max_pending_requests = max_pending_requests
        self._max_batch_size = max_batch_size
        self._limit: AbstractAsyncContextManager[None] = (
            asyncio.Semaphore(concurrency_limit) if concurrency_limit else nullcontext()
        )
        self._dispatcher = Dispatcher(session_id=session_id, expose_errors=expose_errors)
        self._calls: dict[str, asyncio.Future[Answer]] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._waiting: deque[tuple[Any, int]] = deque()
        """Requests and batches that came while too many were being answered, with their sizes."""
        self._waiting_bytes = 0
        self._is_dropping = False
        """Closing without answers: nothing that waits is begun any more."""
        self._refusals = SparseLog(logger)
        self._reader: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        if self._reader is not None:
            raise self._error("RpcManager was entered before; make a new one")
        self._reader = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def register(self, *, func: Callable[..., Any], name: str | None = None) -> None:
        """Let the other side call a function, plain or asynchronous, by its own or another name.

        A later registration of a name wins. What the function raises becomes the answer's error.
        """
        self._dispatcher.register(func, name)

    async def call(
        self,
        method: str,
        *params: Any,
        timeout: float = 30.0,
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of the other side and wait for its result.

        ``named`` parameters instead of positional ones need ``jsonrpc``. Cancelling the call is
        safe; the other side is not told.

        Raises:
            RpcError: what the other side answered, with its code; or the manager is not entered,
                closed, or was closed while the call waited.
            RpcTimeoutError: no answer within ``timeout`` seconds.
            InvalidParamsError: the parameters cannot be written as JSON or are too large.
            ValueError: ``method`` is not a name, or ``timeout`` is not positive.
        """
        request_id, request = self._request(method, self._arguments(method, params, named))
        return _result(*await self._exchange([request_id], self._frame(request), method, timeout))

    async def notify(
        self, method: str, *params: Any, named: Mapping[str, Any] | None = None
    ) -> None:
        """Call a function of the other side that does not answer, not even with an error.

        Returns when the stream has taken the request. Raises as :meth:`call` does.
        """
        _, request = self._request(method, self._arguments(method, params, named))
        del request["id"]
        await self._send(self._frame(request))

    def batch(self) -> RpcBatch:
        """A batch to collect calls in. ValueError without ``jsonrpc``: 0.8 has no batches."""
        if not self._jsonrpc:
            raise ValueError("a batch needs RpcManager(..., jsonrpc=True)")
        return RpcBatch(arguments=self._arguments, send=self._send_batch)

    async def close(self) -> None:
        """End the stream; pending calls fail and running functions are cancelled. Idempotent."""
        if self._reader is None:
            return
        caller = asyncio.current_task()
        self._is_dropping = True
        if self._closing is None:
            self._begin_closing("RPC manager shutting down.", keep=caller)
        for task in self._serving:
            if task is not caller:
                task.cancel()
        await self._closed.wait()

    async def wait_closed(self) -> None:
        """Wait until the manager is closed: by :meth:`close` or by the end of the stream."""
        await self._closed.wait()

    # Calls of this side.

    def _arguments(
        self, method: str, params: tuple[Any, ...], named: Mapping[str, Any] | None
    ) -> list[Any] | dict[str, Any]:
        if not isinstance(method, str) or not method:
            raise ValueError("RPC method name must be a non-empty string.")
        if named is None:
            return list(params)
        if not self._jsonrpc:
            raise ValueError("named parameters need RpcManager(..., jsonrpc=True)")
        if params:
            raise ValueError("parameters are either positional or named")
        return dict(named)

    def _request(
        self, method: str, arguments: list[Any] | dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        request_id = random_uuid()
        version = {"jsonrpc": VERSION} if self._jsonrpc else {}
        return request_id, version | {"id": request_id, "method": method, "params": arguments}

    def _frame(self, message: Any) -> bytes:
        try:
            return self._bounded_frame(message)
        except UNSENDABLE as error:
            raise InvalidParamsError(
                f"the parameters cannot be sent: {error}", session_id=self._session_id
            ) from error

    async def _send(self, frame: bytes) -> None:
        if self._reader is None:
            raise self._error(
                "RpcManager has not been activated. Use it with `async with RpcManager(...)`."
            )
        if self._closing is not None:
            raise self._error("RPC stream is not available or closed.")
        try:
            await self._stream.write(data=frame)
        except WebTransportError as error:
            raise self._error(f"RPC stream failed: {error.message}") from error

    async def _exchange(
        self, request_ids: Sequence[str], frame: bytes, what: str, timeout: float
    ) -> list[Answer]:
        if timeout <= 0:
            raise ValueError("Timeout must be positive.")
        loop = asyncio.get_running_loop()
        calls: dict[str, asyncio.Future[Answer]] = {
            request_id: loop.create_future() for request_id in request_ids
        }
        self._calls |= calls
        try:
            async with asyncio.timeout(timeout):
                await self._send(frame)
                return [await answer for answer in calls.values()]
        except TimeoutError:
            raise RpcTimeoutError(
                f"RPC call to {what!r} timed out after {timeout}s.", session_id=self._session_id
            ) from None
        finally:
            for request_id in request_ids:
                self._calls.pop(request_id, None)

    async def _send_batch(
        self, requests: list[tuple[str, bool, list[Any] | dict[str, Any]]], timeout: float
    ) -> list[Any]:
        if not requests:
            return []
        messages: list[dict[str, Any]] = []
        request_ids: list[str] = []
        for method, wants_answer, arguments in requests:
            request_id, message = self._request(method, arguments)
            if wants_answer:
                request_ids.append(request_id)
            else:
                del message["id"]
            messages.append(message)
        names = ", ".join(dict.fromkeys(method for method, _, _ in requests))
        answers = await self._exchange(request_ids, self._frame(messages), names, timeout)
        return [_result_or_error(answer) for answer in answers]

    def _resolve(self, response: dict[str, Any]) -> None:
        request_id = response.get("id")
        call = self._calls.get(request_id) if isinstance(request_id, str) else None
        if call is None:
            logger.debug("a response without a pending call on session %s", self._session_id)
        elif not call.done():
            call.set_result(self._answer(response))

    def _answer(self, response: dict[str, Any]) -> Answer:
        error = response.get("error")
        if error is None:
            return response
        if not isinstance(error, dict):
            return self._error(f"the answer has a malformed error: {peer_text(error, limit=100)}")
        said = error.get("message", "the answer gives no reason")
        message = peer_text(said, limit=MAX_ERROR_TEXT, is_quoted=False)
        code = error.get("code")
        if code == RpcErrorCode.METHOD_NOT_FOUND:
            return MethodNotFoundError(message, session_id=self._session_id)
        if code == RpcErrorCode.INVALID_PARAMS:
            return InvalidParamsError(message, session_id=self._session_id)
        data = error.get("data")
        return RpcError(
            message,
            error_code=code if type(code) is int else RpcErrorCode.INTERNAL_ERROR,
            session_id=self._session_id,
            details=data if isinstance(data, dict) else {} if data is None else {"data": data},
        )

    # Requests of the other side.

    async def _read(self) -> None:
        decoder = FrameDecoder(max_size=self._max_message_size)
        reason = "the other side ended the stream"
        abort = False
        try:
            while data := await read_chunk(self._stream, decoder.size):
                for payload in decoder.feed(data):
                    await self._receive(payload)
            if decoder.size:
                reason = "the stream ended inside a frame"
        except RpcError as error:
            logger.warning("session %s: %s", self._session_id, error.message)
            reason, abort = error.message, True
        except WebTransportError as error:
            reason = f"the stream failed: {error.message}"
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.error("RPC on session %s failed", self._session_id, exc_info=error)
            reason, abort = f"the stream failed: {error}", True
        if self._closing is None:
            self._begin_closing(reason, finish_answers=not abort, abort=abort)

    async def _receive(self, payload: bytes) -> None:
        try:
            message = decode_message(payload)
        except RpcError as error:
            await self._refuse(error.message, RpcErrorCode.PARSE_ERROR, is_answered=self._jsonrpc)
            return
        if is_response(message):
            self._resolve(message)
        elif is_request(message):
            await self._serve(message, len(payload))
        elif isinstance(message, list) and (self._jsonrpc or any(map(is_version_2, message))):
            await self._receive_batch(message, len(payload))
        else:
            await self._refuse(
                "the message is not a request",
                RpcErrorCode.INVALID_REQUEST,
                is_answered=self._jsonrpc or is_version_2(message),
            )

    async def _receive_batch(self, messages: list[Any], size: int) -> None:
        if not messages:
            await self._refuse("the batch is empty", RpcErrorCode.INVALID_REQUEST)
        elif len(messages) > self._max_batch_size:
            await self._refuse(
                f"the batch has more than {self._max_batch_size} messages",
                RpcErrorCode.INVALID_REQUEST,
            )
        else:
            requests = []
            for message in messages:
                if is_response(message):
                    self._resolve(message)
                else:
                    requests.append(message)
            if requests:
                await self._serve(requests, size)

    async def _refuse(self, text: str, code: RpcErrorCode, *, is_answered: bool = True) -> None:
        # 0.8 ignores what it cannot read, and so does a manager that speaks its format.
        self._refusals.warning("session %s: %s", self._session_id, text)
        if is_answered:
            await self._write(encode_frame(self._dispatcher.refusal(text, code=code)), wait=False)

    async def _serve(self, message: Any, size: int) -> None:
        """Answer a request, or the requests of a batch: now, when there is room, or not at all."""
        if len(self._serving) < self._max_pending_requests:
            self._start_answering(message)
        elif self._waiting_bytes + size <= self._max_message_size:
            self._waiting.append((message, size))
            self._waiting_bytes += size
        else:
            await self._refuse_for_want_of_room(message)

    def _start_answering(self, message: Any) -> None:
        is_batch = isinstance(message, list)
        answering = self._answer_batch(message) if is_batch else self._answer_one(message)
        task = asyncio.get_running_loop().create_task(answering)
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if self._waiting and not self._is_dropping:
            message, size = self._waiting.popleft()
            self._waiting_bytes -= size
            self._start_answering(message)

    async def _refuse_for_want_of_room(self, message: Any) -> None:
        self._refusals.warning(
            "session %s: max_pending_requests=%d are being answered, and what waits has"
            " max_message_size=%d bytes; more is refused",
            self._session_id,
            self._max_pending_requests,
            self._max_message_size,
        )
        is_batch = isinstance(message, list)
        answers = map(self._dispatcher.overload, message if is_batch else [message])
        refusals = [answer for answer in answers if answer is not None]
        if refusals:
            await self._write(encode_frame(refusals if is_batch else refusals[0]), wait=False)

    async def _answer_one(self, request: dict[str, Any]) -> None:
        answer = await self._answer_within_limit(request)
        if answer is not None:
            await self._reply(answer, request)

    async def _answer_batch(self, requests: list[Any]) -> None:
        answers = await asyncio.gather(*map(self._answer_within_limit, requests))
        replies = [
            (answer, request)
            for answer, request in zip(answers, requests, strict=True)
            if answer is not None
        ]
        if replies:
            await self._write(self._batch_frame(replies))

    def _batch_frame(self, replies: list[tuple[dict[str, Any], Any]]) -> bytes:
        try:
            return self._bounded_frame([answer for answer, _ in replies])
        except UNSENDABLE:
            pass
        answers = [self._sendable(answer, request) for answer, request in replies]
        try:
            return self._bounded_frame(answers)
        except UNSENDABLE as error:
            # Each fits, all together do not.
            failure = self._dispatcher.failure
            return encode_frame([failure(answer, request, error) for answer, request in replies])

    async def _answer_within_limit(self, request: Any) -> dict[str, Any] | None:
        async with self._limit:
            return await self._dispatcher.answer(request)

    def _sendable(self, answer: dict[str, Any], request: Any) -> dict[str, Any]:
        try:
            self._bounded_frame(answer)
        except UNSENDABLE as error:
            return self._dispatcher.failure(answer, request, error)
        return answer

    async def _reply(self, answer: dict[str, Any], request: Any) -> None:
        try:
            frame = self._bounded_frame(answer)
        except UNSENDABLE as error:
            frame = encode_frame(self._dispatcher.failure(answer, request, error))
        await self._write(frame)

    def _bounded_frame(self, message: Any) -> bytes:
        return encode_frame(message, max_size=self._max_message_size)

    async def _write(self, frame: bytes, *, wait: bool = True) -> None:
        """wait: until the stream has taken it; the reader does not, within the stream's buffer."""
        try:
            await self._stream.write(data=frame, wait_flush=wait)
        except WebTransportError as error:
            # Reading a stream that has ended ends too, and that closes the manager.
            logger.debug("an answer on session %s is lost: %s", self._session_id, error.message)

    # The end.

    def _error(self, text: str) -> RpcError:
        return RpcError(text, session_id=self._session_id)

    def _begin_closing(
        self,
        reason: str,
        *,
        keep: asyncio.Task[Any] | None = None,
        finish_answers: bool = False,
        abort: bool = False,
    ) -> None:
        self._closing = asyncio.get_running_loop().create_task(
            self._close(reason, keep, finish_answers, abort)
        )

    async def _close(
        self,
        reason: str,
        keep: asyncio.Task[Any] | None,
        finish_answers: bool,
        abort: bool,
    ) -> None:
        """``keep`` is a function of this manager that closes it: it must not wait for itself."""
        try:
            for call in self._calls.values():
                if not call.done():
                    call.set_result(self._error(reason))
            if finish_answers:
                await self._finish_answers()
            self._is_dropping = True
            tasks = [task for task in (*self._serving, self._reader) if task and task is not keep]
            for task in tasks:
                task.cancel()
            await asyncio.gather(
                *(wait_within(task, CLOSE_TIMEOUT, "a function of RPC") for task in tasks)
            )
            if abort:
                with suppress(WebTransportError):
                    await self._stream.abort(code=ErrorCodes.APP_INVALID_REQUEST)
            else:
                await finish(self._stream)
        finally:
            self._closed.set()

    async def _finish_answers(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while self._serving:
                    await asyncio.wait(self._serving, return_when=asyncio.FIRST_COMPLETED)
                    # Those that waited are begun when one is done.
                    await asyncio.sleep(0)


def _result(answer: Answer) -> Any:
    try:
        if isinstance(answer, RpcError):
            raise answer
        return answer.get("result")
    finally:
        # What is raised holds this frame, and so must not be held by it.
        del answer


def _result_or_error(answer: Answer) -> Any:
    return answer if isinstance(answer, RpcError) else answer.get("result")
