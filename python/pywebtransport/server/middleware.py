"""What looks at a request before its handler does.

A middleware is called with the session before it is accepted. True lets the request on; anything
else answers 403; raising ``MiddlewareRejected`` chooses the answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._words import peer_path
from pywebtransport.exceptions import MiddlewareRejected, ServerError
from pywebtransport.types import AuthHandlerProtocol, MiddlewareProtocol
from pywebtransport.utils import get_logger

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__ = [
    "MiddlewareManager",
    "MiddlewareRejected",
    "RateLimiter",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_logging_middleware",
    "create_rate_limit_middleware",
]

logger = get_logger(name=__name__)

MAX_TRACKED_ADDRESSES = 10_000


class MiddlewareManager:
    """A chain of middleware, in the order of registration."""

    def __init__(self) -> None:
        self._chain: list[MiddlewareProtocol] = []

    def add_middleware(self, *, middleware: MiddlewareProtocol) -> None:
        """Append one."""
        self._chain.append(middleware)

    def remove_middleware(self, *, middleware: MiddlewareProtocol) -> None:
        """Remove the first occurrence; an unknown one is ignored."""
        if middleware in self._chain:
            self._chain.remove(middleware)

    def get_middleware_count(self) -> int:
        """The length of the chain."""
        return len(self._chain)

    async def process_request(self, *, session: WebTransportSession) -> bool:
        """Ask each in turn; False at the first that does not say True, or fails.

        Raises:
            MiddlewareRejected: A middleware chose the answer.
        """
        for middleware in self._chain:
            try:
                if not await middleware(session=session):
                    return False
            except MiddlewareRejected:
                raise
            except Exception:
                logger.exception("middleware %r failed; the request is rejected", middleware)
                return False
        return True


class RateLimiter:
    """Middleware: a sliding window of requests per client address.

    A session whose peer has no known address passes. It must be entered, which
    ``ServerApp.add_middleware`` does.

    Args:
        max_requests: Requests of one address within the window.
        window_seconds: The window.
        cleanup_interval: Seconds between two searches for addresses that have become quiet.
        max_tracked_ips: Addresses that are remembered; the longest quiet ones are forgotten first.
    """

    def __init__(
        self,
        *,
        max_requests: int = 100,
        window_seconds: int = 60,
        cleanup_interval: int = 300,
        max_tracked_ips: int = MAX_TRACKED_ADDRESSES,
    ) -> None:
        self._max_requests = max_requests
        self._window = window_seconds
        self._cleanup_interval = cleanup_interval
        self._max_tracked = max_tracked_ips
        self._requests: OrderedDict[str, deque[float]] = OrderedDict()
        self._is_active = False
        self._cleaned_at = 0.0

    async def __aenter__(self) -> Self:
        self._is_active = True
        self._cleaned_at = time.monotonic()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        self._is_active = False
        self._requests.clear()

    async def __call__(self, *, session: WebTransportSession) -> bool:
        """Whether the peer of ``session`` may make another request now.

        Raises:
            ServerError: The limiter was not entered.
        """
        if not self._is_active:
            raise ServerError("RateLimiter has not been activated: use `async with`")
        address = session.remote_address
        if address is None:
            return True
        now = time.monotonic()
        if now - self._cleaned_at >= self._cleanup_interval:
            self._clean(now)
        host = address[0]
        requests = self._requests.pop(host, None)
        if requests is None:
            requests = deque()
            while len(self._requests) >= self._max_tracked:
                self._requests.popitem(last=False)
        self._requests[host] = requests
        while requests and requests[0] <= now - self._window:
            requests.popleft()
        if len(requests) >= self._max_requests:
            logger.warning("%s made more than %d requests", host, self._max_requests)
            return False
        requests.append(now)
        return True

    def _clean(self, now: float) -> None:
        self._cleaned_at = now
        for host, requests in list(self._requests.items()):
            if not requests or requests[-1] <= now - self._window:
                del self._requests[host]


def create_rate_limit_middleware(
    *,
    max_requests: int = 100,
    window_seconds: int = 60,
    cleanup_interval: int = 300,
    max_tracked_ips: int = MAX_TRACKED_ADDRESSES,
) -> RateLimiter:
    """Middleware that limits how many sessions one address may request; see RateLimiter."""
    return RateLimiter(
        max_requests=max_requests,
        window_seconds=window_seconds,
        cleanup_interval=cleanup_interval,
        max_tracked_ips=max_tracked_ips,
    )


def create_auth_middleware(*, auth_handler: AuthHandlerProtocol) -> MiddlewareProtocol:
    """Middleware that asks ``auth_handler(headers=...)``; an exception of it rejects."""

    async def authenticate(*, session: Any) -> bool:
        return bool(await auth_handler(headers=session.headers))

    return authenticate


def create_cors_middleware(*, allowed_origins: list[str]) -> MiddlewareProtocol:
    """Middleware that lets requests of these origins on; ``"*"``: of any.

    A request without an Origin, which is one that comes from no browser, is rejected.
    """
    allowed = frozenset(allowed_origins)

    async def check_origin(*, session: Any) -> bool:
        origin = session.headers.get("origin")
        if origin is not None and (origin in allowed or "*" in allowed):
            return True
        logger.warning("origin %r is not allowed", origin)
        return False

    return check_origin


def create_logging_middleware() -> MiddlewareProtocol:
    """Middleware that logs path and peer of each request."""

    async def log(*, session: Any) -> bool:
        logger.info(
            "session request: path=%s peer=%s", peer_path(session.path), session.remote_address
        )
        return True

    return log
