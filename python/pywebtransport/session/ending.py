"""How a session ended, said in an exception."""

from __future__ import annotations

from typing import TypeVar

from pywebtransport.exceptions import DatagramError, SessionClosedError, WebTransportError
from pywebtransport.types import SessionId, SessionState

__all__ = ["datagrams_ended", "of_the_end"]

AnyError = TypeVar("AnyError", bound=WebTransportError)


def datagrams_ended(
    kind: type[DatagramError], text: str, session_id: SessionId, code: int, reason: str, by: str
) -> DatagramError:
    return of_the_end(kind(text, error_code=code), session_id, reason, by)


def of_the_end(error: AnyError, session_id: SessionId, reason: str, by: str) -> AnyError:
    if isinstance(error, SessionClosedError):
        error.session_id = session_id
        error.session_state = SessionState.CLOSED
        error.close_reason = reason
        error.closed_by = by
    return error
