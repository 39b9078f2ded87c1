"""The access log: a line as text, whose fields a structured log gets one by one."""

from __future__ import annotations

import logging
from typing import Any

from pywebtransport._words import address_text, peer_text, without_query
from pywebtransport.server.request import HttpRequest
from pywebtransport.session.base import SessionBase
from pywebtransport.utils import format_duration

__all__ = [
    "EVENT",
    "FIELDS",
    "log_rejected",
    "log_request",
    "log_session_closed",
    "log_session_open",
]

# One line when a session opens and one when it closes go to this logger.
logger = logging.getLogger("pywebtransport.server")

EVENT, FIELDS = "event", "fields"
"""What a record of this log has beside its text: a name, and values by name."""
WORDS_OF_PEERS = ("cause", "method", "path", "reason")


def log_session_open(session: SessionBase) -> None:
    _log("session open", session=session._session_id, **_of(session))


def log_rejected(session: SessionBase) -> None:
    """``cause``: what refused it, and where that is a word of the peer, the word."""
    _log(
        "session rejected",
        session=session._session_id,
        **_of(session),
        status=session._status or "none",
        cause=session._refusal or "the client left",
    )


def log_session_closed(session: SessionBase) -> None:
    stats = session._stats
    _log(
        "session closed",
        seconds=stats.uptime,
        session=session._session_id,
        **_of(session),
        code=session._close_code,
        reason=session._close_reason,
        by=session._closed_by,
        streams=stats.streams_created,
    )


def log_request(request: HttpRequest, seconds: float) -> None:
    _log(
        "request",
        seconds=seconds,
        method=request.method,
        path=without_query(request.path),
        peer=address_text(request.client),
        status=request.status or "none, the client left",
        received=request.bytes_received,
        sent=request.bytes_sent,
    )


def _of(session: SessionBase) -> dict[str, Any]:
    return {
        "path": without_query(session._path or "/"),
        "peer": address_text(session._connection.remote_address),
    }


def _log(event: str, *, seconds: float | None = None, session: str = "", **fields: Any) -> None:
    """``event: name=value ... after a duration session=id``."""
    if not logger.isEnabledFor(logging.INFO):
        return
    words = [f"{name}={_shown(name, value)}" for name, value in fields.items()]
    if seconds is not None:
        words.append(f"after {format_duration(seconds=seconds)}")
        fields["seconds"] = round(seconds, 6)
    if session:
        words.append(f"session={session}")
        fields["session"] = session
    logger.info("%s: %s", event, " ".join(words), extra={EVENT: event, FIELDS: fields})


def _shown(name: str, value: Any) -> Any:
    """Words of a peer must not look like ours."""
    return peer_text(value, is_quoted=name != "method") if name in WORDS_OF_PEERS else value
