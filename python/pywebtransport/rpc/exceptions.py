"""What a call raises, and what a function raises to choose the answer.

RpcError
└─ InvalidParamsError   MethodNotFoundError   RpcTimeoutError

The code is that of JSON-RPC; a code of the remote application's own comes in a plain RpcError.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from pywebtransport.exceptions import WebTransportError
from pywebtransport.types import SessionId

__all__ = [
    "InvalidParamsError",
    "MethodNotFoundError",
    "RpcError",
    "RpcErrorCode",
    "RpcTimeoutError",
]


class RpcErrorCode(IntEnum):
    """The codes that JSON-RPC 2.0 defines (section 5.1)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    OVERLOADED = -32000
    """Ours, of those left to servers: too many requests are being answered; try again later."""


class RpcError(WebTransportError):
    """A call failed, here or on the other side.

    The message starts with the session's id when one is given. ``details`` is the ``data`` of a
    JSON-RPC 2.0 error.
    """

    _attributes = ("session_id",)

    def __init__(
        self,
        message: str,
        *,
        error_code: int = RpcErrorCode.INTERNAL_ERROR,
        session_id: SessionId | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        if session_id:
            message = f"[Session:{session_id}] {message}"
        super().__init__(message, error_code=error_code, details=details)
        self.session_id = session_id

    def to_dict(self) -> dict[str, Any]:
        """The error object as it goes over the wire."""
        return {"code": int(self.error_code), "message": self.message}


class InvalidParamsError(RpcError):
    """The parameters do not fit. Raised by a function, its text is the answer's as it stands."""

    def __init__(self, message: str, *, session_id: SessionId | None = None) -> None:
        super().__init__(message, error_code=RpcErrorCode.INVALID_PARAMS, session_id=session_id)


class MethodNotFoundError(RpcError):
    """The other side has no function of that name."""

    def __init__(self, message: str, *, session_id: SessionId | None = None) -> None:
        super().__init__(message, error_code=RpcErrorCode.METHOD_NOT_FOUND, session_id=session_id)


class RpcTimeoutError(RpcError):
    """No answer came in time; the other side may still be at work on it."""

    def __init__(self, message: str, *, session_id: SessionId | None = None) -> None:
        super().__init__(message, error_code=RpcErrorCode.INTERNAL_ERROR, session_id=session_id)
