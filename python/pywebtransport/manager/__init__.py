"""Registers of connections, sessions and streams, with limits, clean-up and statistics."""

from __future__ import annotations

from pywebtransport.manager.connection import ConnectionManager
from pywebtransport.manager.session import SessionManager
from pywebtransport.manager.stream import StreamManager, StreamType

__all__ = ["ConnectionManager", "SessionManager", "StreamManager", "StreamType"]
