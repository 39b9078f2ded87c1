"""A register of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywebtransport.constants import DEFAULT_MAX_SESSIONS, DEFAULT_SESSION_CLEANUP_INTERVAL
from pywebtransport.exceptions import SessionError
from pywebtransport.manager.base import ResourceManager
from pywebtransport.types import SessionId, SessionState

if TYPE_CHECKING:
    from pywebtransport.session import WebTransportSession

__all__ = ["SessionManager"]


class SessionManager(ResourceManager[SessionId, "WebTransportSession"]):
    """Sessions that are open, up to a limit; one that has ended is forgotten.

    Closing a session here leaves its connection open.
    """

    _closed_states = frozenset({SessionState.CLOSED})
    _error = SessionError
    _plural = "sessions"

    def __init__(
        self,
        *,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL,
    ) -> None:
        super().__init__(limit=max_sessions, cleanup_interval=session_cleanup_interval)

    async def add_session(self, *, session: WebTransportSession) -> SessionId:
        """Take a session in; its id. One that is known stays as it is.

        Raises SessionError before entering and at the limit.
        """
        return self._add(session)

    def _add(self, session: WebTransportSession) -> SessionId:
        session_id = session.session_id
        self._take(session_id, session)
        return session_id

    async def add_resource(self, *, resource: WebTransportSession) -> None:
        """As :meth:`add_session`."""
        await self.add_session(session=resource)

    async def get_sessions_by_state(self, *, state: SessionState) -> list[WebTransportSession]:
        """The sessions that are in this state now."""
        return [session for session in (self._members or {}).values() if session.state == state]

    async def remove_session(self, *, session_id: SessionId) -> WebTransportSession | None:
        """Forget a session without closing it; None when it is unknown."""
        return self._remove(session_id)

    def _id_of(self, member: WebTransportSession) -> SessionId:
        return member.session_id

    async def _close(self, member: WebTransportSession) -> None:
        await member.close(close_connection=False)
