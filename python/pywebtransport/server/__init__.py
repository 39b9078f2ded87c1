"""Servers: applications with routes, the server below them, middleware."""

from __future__ import annotations

from pywebtransport.server.app import ServerApp
from pywebtransport.server.cluster import ServerCluster
from pywebtransport.server.ledger import ServerSnapshot
from pywebtransport.server.middleware import (
    MiddlewareManager,
    create_auth_middleware,
    create_cors_middleware,
    create_logging_middleware,
    create_rate_limit_middleware,
)
from pywebtransport.server.request import HttpRequest, RequestHandler
from pywebtransport.server.router import RequestRouter, SessionHandler
from pywebtransport.server.server import ServerDiagnostics, ServerStats, WebTransportServer
from pywebtransport.server.workers import Worker, current_worker

__all__ = [
    "HttpRequest",
    "MiddlewareManager",
    "RequestHandler",
    "RequestRouter",
    "ServerApp",
    "ServerCluster",
    "ServerDiagnostics",
    "ServerSnapshot",
    "ServerStats",
    "SessionHandler",
    "WebTransportServer",
    "Worker",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_logging_middleware",
    "create_rate_limit_middleware",
    "current_worker",
]
