"""What looks at a request before its handler does.

A middleware is called with the session before it is accepted. True lets the request on; anything
else answers 403; raising ``MiddlewareRejected`` chooses the answer.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict, deque
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._sparse_log import SparseLog
from pywebtransport._waiting import ends_task
from pywebtransport._words import address_text, peer_path, peer_text
from pywebtransport.exceptions import MiddlewareRejected, ServerError
from pywebtransport.server.arguments import check_middleware
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
TOO_MANY_REQUESTS = 429


class MiddlewareManager:
    """A chain of middleware, in the order of registration."""

    def __init__(self) -> None:
        self._chain: list[MiddlewareProtocol] = []

    def add_middleware(self, *, middleware: MiddlewareProtocol) -> None:
        """Append one.

        Raises:
            TypeError: It is no coroutine function of ``session``.
        """
        check_middleware(middleware)
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
            except BaseException as error:
                if ends_task(error):
                    raise
                logger.exception("middleware %r failed; the request is rejected", middleware)
                return False
        return True


class RateLimiter:
    """Middleware: a sliding window of requests per client; one too many is answered with 429.

    The answer says in Retry-After, in seconds, when the next request is welcome. A client is an
    IPv4 address, or an IPv6 network of 64 bits, which is what one customer has. A session whose
    peer has no known address passes. It must be entered, which ``ServerApp.add_middleware`` does.

    Handshakes are not counted here; ``ServerConfig.max_connections_per_address`` bounds those.

    Args:
        max_requests: Requests of one client within the window.
        window_seconds: The window.
        cleanup_interval: Seconds between two searches for clients that have become quiet.
        max_tracked_ips: Clients that are remembered. The longest quiet ones are forgotten first,
            those that were refused within the window not at all: while nobody else is left, new
            clients pass uncounted.
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
        """When each client asked; the longest quiet one comes first."""
        self._refused: dict[str, deque[float]] = {}
        """The same for those that were refused and may not be forgotten yet."""
        self._is_active = False
        self._cleaned_at = 0.0
        self._refusals = SparseLog(logger)

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
        self._refused.clear()

    async def __call__(self, *, session: WebTransportSession) -> bool:
        """True: the peer of ``session`` may make another request now.

        Raises:
            MiddlewareRejected: It may not; status 429 with Retry-After.
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
        client = _client_of(address[0])
        requests = self._requests_of(client, now)
        if requests is None:
            return True
        while requests and requests[0] <= now - self._window:
            requests.popleft()
        if len(requests) < self._max_requests:
            requests.append(now)
            self._requests[client] = requests
            return True
        self._refused[client] = requests
        wait = math.ceil(requests[0] + self._window - now) if requests else self._window
        self._refusals.warning(
            "%s made more than %d requests within %d s",
            client,
            self._max_requests,
            self._window,
        )
        raise MiddlewareRejected(
            status_code=TOO_MANY_REQUESTS, headers={"retry-after": str(max(1, wait))}
        )

    def _requests_of(self, client: str, now: float) -> deque[float] | None:
        """Taken out of where they are; None when there is no room for another client."""
        requests = self._refused.pop(client, None) or self._requests.pop(client, None)
        if requests is not None:
            return requests
        if len(self._requests) + len(self._refused) >= self._max_tracked:
            if not self._requests:
                self._clean(now)
            if not self._requests:
                return None
            self._requests.popitem(last=False)
        return deque()

    def _clean(self, now: float) -> None:
        self._cleaned_at = now
        quiet_since = now - self._window
        for client, requests in list(self._refused.items()):
            # The last request that was let on; until then the refusals counted from it.
            if not requests or requests[-1] <= quiet_since:
                del self._refused[client]
        for client, requests in list(self._requests.items()):
            if not requests or requests[-1] <= quiet_since:
                del self._requests[client]


def _client_of(host: str) -> str:
    """Whose requests are counted together."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def create_rate_limit_middleware(
    *,
    max_requests: int = 100,
    window_seconds: int = 60,
    cleanup_interval: int = 300,
    max_tracked_ips: int = MAX_TRACKED_ADDRESSES,
) -> RateLimiter:
    """Middleware that limits how many sessions one client may request; see RateLimiter."""
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
    """Middleware that lets only browsers on, from pages of these origins.

    It compares the Origin field as it stands, and answers 403 to everything else: a request without
    an Origin, which comes from no browser, is rejected whatever the list says. ``"*"`` stands for
    every origin, ``"null"`` included. ``ServerConfig.allowed_origins`` is what protects pages'
    users without shutting programs out; this works on top of it. There is nothing of CORS in it:
    WebTransport has no preflight, and a browser reads no answer but the status.
    """
    allowed = frozenset(allowed_origins)
    refusals = SparseLog(logger)

    async def check_origin(*, session: Any) -> bool:
        origin = session.headers.get("origin")
        if origin is not None and (origin in allowed or "*" in allowed):
            return True
        shown = "none" if origin is None else peer_text(origin)
        refusals.warning("a request is rejected for its origin: %s", shown)
        return False

    return check_origin


def create_logging_middleware() -> MiddlewareProtocol:
    """Middleware that logs path and peer of each request."""

    async def log(*, session: Any) -> bool:
        logger.info(
            "session request: path=%s peer=%s",
            peer_path(session.path),
            address_text(session.remote_address),
        )
        return True

    return log
