"""Applications on a server, under the import path of the 0.20 generation.

The classes are those of :mod:`pywebtransport.server`. A middleware or a handler may raise
:class:`MiddlewareRejected` to choose the status of the answer.
"""

from __future__ import annotations

from pywebtransport.exceptions import MiddlewareRejected
from pywebtransport.server import (
    MiddlewareManager,
    RequestRouter,
    ServerApp,
    SessionHandler,
    create_auth_middleware,
    create_cors_middleware,
    create_logging_middleware,
    create_rate_limit_middleware,
)
from pywebtransport.server.middleware import RateLimiter
from pywebtransport.types import AuthHandlerProtocol, MiddlewareProtocol

__all__ = [
    "AuthHandlerProtocol",
    "MiddlewareManager",
    "MiddlewareProtocol",
    "MiddlewareRejected",
    "RateLimiter",
    "RequestRouter",
    "ServerApp",
    "SessionHandler",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_logging_middleware",
    "create_rate_limit_middleware",
]
