"""How much of messages that have not come whole is kept for one connection."""

from __future__ import annotations

__all__ = ["UnfinishedMessages"]


class UnfinishedMessages:
    """Bytes that were taken from streams and wait for the rest of their message.

    Taking them gives credit back to the peer, so that no window of QUIC bounds them. A reader that
    left them there instead could wait for ever: the streams that wait would hold the window that
    the others need.
    """

    __slots__ = ("_size", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._size = 0

    def change(self, before: int, after: int) -> bool:
        """Count ``after`` bytes of a message instead of ``before``; False: they are too many.

        One message alone never is: its reader has a limit for it.
        """
        others = self._size - before
        if after > before and others and others + after > self.limit:
            return False
        self._size = others + after
        return True
