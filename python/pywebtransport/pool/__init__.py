"""Reuse of connections, sessions and streams, bounded in number."""

from pywebtransport.pool.pools import ConnectionPool, SessionPool, StreamPool

__all__ = ["ConnectionPool", "SessionPool", "StreamPool"]
