"""Requests to answers: the registered functions and the rules of both formats. No I/O here.

A request with ``"jsonrpc": "2.0"`` is answered by the rules of JSON-RPC 2.0, any other by those
of PyWebTransport 0.8, which differ: there a wrong argument count or an RpcError of the function is
an internal error, an id of ``null`` makes a notification, and there are no named parameters.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from pywebtransport._sparse_log import SparseLog
from pywebtransport._waiting import ends_task
from pywebtransport.rpc.exceptions import (
    InvalidParamsError,
    MethodNotFoundError,
    RpcError,
    RpcErrorCode,
)
from pywebtransport.types import SessionId

__all__ = ["Dispatcher", "error_object", "is_version_2"]

logger = logging.getLogger(__name__)

VERSION = "2.0"


def is_version_2(message: Any) -> bool:
    """Whether the message says that it is JSON-RPC 2.0."""
    return isinstance(message, dict) and message.get("jsonrpc") == VERSION


def error_object(error: RpcError) -> dict[str, Any]:
    """The ``error`` member of a JSON-RPC 2.0 answer."""
    return error.to_dict() | ({"data": error.details} if error.details else {})


class Dispatcher:
    """The functions that the other side may call."""

    __slots__ = ("_expose_errors", "_failures", "_functions", "_session_id")

    def __init__(self, *, session_id: SessionId, expose_errors: bool) -> None:
        self._session_id: SessionId | None = session_id if expose_errors else None
        self._expose_errors = expose_errors
        self._functions: dict[str, tuple[Callable[..., Any], inspect.Signature | None]] = {}
        self._failures = SparseLog(logger)

    def register(self, func: Callable[..., Any], name: str | None) -> None:
        """A later registration of the same name wins."""
        name = getattr(func, "__name__", None) if name is None else name
        if not name or not isinstance(name, str):
            raise ValueError(f"a name is needed for {func!r}")
        try:
            signature = inspect.signature(func)
        except (ValueError, TypeError):  # a function without one, of a C extension
            signature = None
        self._functions[name] = func, signature

    async def answer(self, message: Any) -> dict[str, Any] | None:
        """Run a request; its response, or ``None`` for a notification."""
        if not isinstance(message, dict) or "method" not in message:
            return self.refusal("the message is not a request")
        if is_version_2(message):
            return await self._answer_version_2(message)
        request_id = message.get("id")
        outcome: dict[str, Any]
        try:
            params = message.get("params", [])
            if not isinstance(params, list):
                raise InvalidParamsError("Parameters must be a list.", session_id=self._session_id)
            name, function, signature = self._find(message["method"])
            try:
                self._check_arguments(signature, params, {})
            except InvalidParamsError as error:
                raise self._execution_error(name, error.__cause__ or error) from error
            outcome = {"result": await self._run(name, function, params, {})}
        except (InvalidParamsError, MethodNotFoundError, _ExecutionError) as error:
            outcome = {"error": error.to_dict()}
        except RpcError as error:
            outcome = {"error": self._execution_error(name, error).to_dict()}
        return None if request_id is None else {"id": request_id} | outcome

    async def _answer_version_2(self, message: dict[str, Any]) -> dict[str, Any] | None:
        request_id = message.get("id")
        params = message.get("params", [])
        if isinstance(request_id, bool) or not isinstance(
            request_id, (str, int, float, type(None))
        ):
            return self.refusal("the id must be a string, a number or null")
        if not isinstance(message["method"], str):
            return self.refusal("the method must be a string", request_id=request_id)
        if not isinstance(params, (list, dict)):
            return self.refusal("the params must be an array or an object", request_id=request_id)
        outcome: dict[str, Any]
        try:
            name, function, signature = self._find(message["method"])
            positional, named = (params, {}) if isinstance(params, list) else ([], params)
            self._check_arguments(signature, positional, named)
            outcome = {"result": await self._run(name, function, positional, named)}
        except RpcError as error:
            outcome = {"error": error_object(error)}
        return {"jsonrpc": VERSION, "id": request_id} | outcome if "id" in message else None

    def refusal(
        self, text: str, *, code: int = RpcErrorCode.INVALID_REQUEST, request_id: Any = None
    ) -> dict[str, Any]:
        """The JSON-RPC 2.0 answer to what is not a request."""
        error = RpcError(text, error_code=code, session_id=self._session_id)
        return {"jsonrpc": VERSION, "id": request_id, "error": error.to_dict()}

    def overload(self, request: Any) -> dict[str, Any] | None:
        """The refusal of a request for which there is no room now; None for a notification."""
        if not isinstance(request, dict):
            return self.refusal("the message is not a request")
        request_id, version = request.get("id"), {"jsonrpc": VERSION}
        if not is_version_2(request):
            version = {}
            if request_id is None:
                return None
        elif "id" not in request:
            return None
        text = "too many requests are being answered; try again later"
        error = RpcError(text, error_code=RpcErrorCode.OVERLOADED, session_id=self._session_id)
        return version | {"id": request_id, "error": error.to_dict()}

    def failure(self, answer: dict[str, Any], request: Any, cause: Exception) -> dict[str, Any]:
        """What is sent instead of an answer that cannot be: its result has no JSON form."""
        kept = {key: answer[key] for key in ("jsonrpc", "id") if key in answer}
        name = request["method"] if isinstance(request, dict) else ""
        return kept | {"error": self._execution_error(name, cause).to_dict()}

    def _find(self, name: Any) -> tuple[str, Callable[..., Any], inspect.Signature | None]:
        found = self._functions.get(name) if isinstance(name, str) else None
        if found is None:
            raise MethodNotFoundError(
                f"Method '{_shorten(name)}' not found.", session_id=self._session_id
            )
        return name, *found

    async def _run(
        self,
        name: str,
        function: Callable[..., Any],
        positional: list[Any],
        named: dict[str, Any],
    ) -> Any:
        try:
            result = function(*positional, **named)
            return await result if inspect.isawaitable(result) else result
        except RpcError:
            raise
        except asyncio.CancelledError as error:
            if ends_task(error):
                raise
            # Not this task was cancelled but something that the function waited for.
            raise self._execution_error(name, error) from error
        except Exception as error:
            text = "the function %r of an RPC failed"
            self._failures.log(logging.ERROR, text, name, exc_info=error)
            raise self._execution_error(name, error) from error

    def _check_arguments(
        self, signature: inspect.Signature | None, positional: list[Any], named: dict[str, Any]
    ) -> None:
        """JSON-RPC 2.0 §5.1: parameters that the function does not take are invalid."""
        if signature is None:
            return
        try:
            signature.bind(*positional, **named)
        except TypeError as error:
            raise InvalidParamsError(str(error), session_id=self._session_id) from error

    def _execution_error(self, name: Any, cause: BaseException) -> RpcError:
        text = f"Error executing '{_shorten(name)}'"
        if self._expose_errors:
            text += f": {str(cause) or type(cause).__name__}"
        return _ExecutionError(text, session_id=self._session_id)


class _ExecutionError(RpcError):
    """The function failed."""


def _shorten(name: Any) -> str:
    text = str(name)
    return text if len(text) <= 100 else f"{text[:97]}..."
