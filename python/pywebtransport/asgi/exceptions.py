"""What ``send`` of an ASGI application raises besides the library's own errors."""

from __future__ import annotations

from pywebtransport.exceptions import ConnectionError

__all__ = ["ClientDisconnected", "StreamEnded"]


class ClientDisconnected(ConnectionError):
    """The request or the session has ended: nothing can be sent any more.

    It is an OSError, as ASGI's HTTP message format 2.4 wants it.
    """


class StreamEnded(ConnectionError):
    """The session has no such stream, or one that has ended: its peer has reset or stopped it, or
    the application has. It is an OSError; the session goes on."""
