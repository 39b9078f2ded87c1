"""Reuse of connections, sessions and streams, bounded in number."""

from pywebtransport.pool.connection import ConnectionPool
from pywebtransport.pool.session import SessionPool
from pywebtransport.pool.stream import StreamPool

__all__ = ["ConnectionPool", "SessionPool", "StreamPool"]
