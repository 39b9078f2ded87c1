"""Several servers that start and stop together."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from pywebtransport.config import ServerConfig
from pywebtransport.exceptions import ServerError
from pywebtransport.server.request import RequestHandler
from pywebtransport.server.server import WebTransportServer
from pywebtransport.utils import get_logger

__all__ = ["ServerCluster"]

logger = get_logger(name=__name__)


class ServerCluster:
    """One server for each configuration; use it with ``async with``.

    Every method raises ServerError before entering.

    Args:
        configs: One for each server; each needs an address of its own.
        request_handler: As in :class:`WebTransportServer`, for all of them.
    """

    def __init__(
        self, *, configs: list[ServerConfig], request_handler: RequestHandler | None = None
    ) -> None:
        self._configs = list(configs)
        self._request_handler = request_handler
        self._servers: list[WebTransportServer] = []
        self._is_active = False
        self._is_running = False
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._is_active = True
        try:
            await self.start_all()
        except BaseException:
            self._is_active = False
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await self.stop_all()
        finally:
            self._is_active = False

    @property
    def is_running(self) -> bool:
        """Whether the servers have been started and not stopped."""
        return self._is_running

    async def start_all(self) -> None:
        """Start a server for each configuration, at the same time. Running already: does nothing.

        Raises:
            ServerError: One did not start; the others have been closed again.
        """
        self._active()
        async with self._lock:
            if self._is_running:
                return
            results = await asyncio.gather(
                *(self._start(config) for config in self._configs), return_exceptions=True
            )
            started = [each for each in results if isinstance(each, WebTransportServer)]
            failures = [each for each in results if isinstance(each, BaseException)]
            if failures:
                await _stop(started)
                raise failures[0]
            self._servers = started
            self._is_running = True

    async def stop_all(self) -> None:
        """Stop every server at the same time.

        Raises:
            ExceptionGroup: What failed on the way; all of them are stopped.
        """
        self._active()
        async with self._lock:
            servers, self._servers = self._servers, []
            self._is_running = False
            failures = await _stop(servers)
            if failures:
                raise ExceptionGroup("servers did not stop cleanly", failures)

    async def add_server(self, *, config: ServerConfig) -> WebTransportServer | None:
        """Start one more server, or keep its configuration while the cluster does not run.

        None in the latter case, and when it did not start (logged).
        """
        self._active()
        async with self._lock:
            if not self._is_running:
                self._configs.append(config)
                return None
            try:
                server = await self._start(config)
            except ServerError:
                logger.exception("the server was not added")
                return None
            self._configs.append(config)
            self._servers.append(server)
            return server

    async def remove_server(self, *, host: str, port: int) -> bool:
        """Stop the server that listens on an address; False when there is none."""
        self._active()
        async with self._lock:
            for server in self._servers:
                address = server.local_address
                if address is not None and address[:2] == (host, port):
                    self._servers.remove(server)
                    if server.config in self._configs:
                        self._configs.remove(server.config)
                    await _stop([server])
                    return True
        return False

    async def get_cluster_stats(self) -> dict[str, Any]:
        """The sums over all servers; empty without servers."""
        self._active()
        diagnostics = await asyncio.gather(*(server.diagnostics() for server in self._servers))
        if not diagnostics:
            return {}
        return {
            "server_count": len(diagnostics),
            "total_connections_accepted": sum(d.stats.connections_accepted for d in diagnostics),
            "total_connections_rejected": sum(d.stats.connections_rejected for d in diagnostics),
            "total_connections_active": sum(sum(d.connection_states.values()) for d in diagnostics),
            "total_sessions_active": sum(sum(d.session_states.values()) for d in diagnostics),
        }

    async def get_server_count(self) -> int:
        """How many servers run."""
        self._active()
        return len(self._servers)

    async def get_servers(self) -> list[WebTransportServer]:
        """The servers that run."""
        self._active()
        return list(self._servers)

    def _active(self) -> None:
        if not self._is_active:
            raise ServerError("ServerCluster has not been activated: use `async with`")

    async def _start(self, config: ServerConfig) -> WebTransportServer:
        server = WebTransportServer(config=config, request_handler=self._request_handler)
        await server.__aenter__()
        try:
            await server.listen()
        except BaseException:
            await server.__aexit__(None, None, None)
            raise
        return server


async def _stop(servers: list[WebTransportServer]) -> list[Exception]:
    """Leave every server; what failed."""
    results = await asyncio.gather(
        *(server.__aexit__(None, None, None) for server in servers), return_exceptions=True
    )
    return [result for result in results if isinstance(result, Exception)]
