"""Files from memory over HTTP/1.1, for one page and what it loads: GET and HEAD, no keep-alive."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pywebtransport._engine.addresses import resolve_local
from pywebtransport.exceptions import ServerError

__all__ = ["Page", "PageServer"]

logger = logging.getLogger(__name__)

MAX_HEAD_SIZE = 8192
"""Bytes of a request, its fields included; a larger one is answered with 431."""
MAX_REQUESTS = 64
"""Connections at once; one more is closed."""
REQUEST_TIMEOUT = 10.0
"""Seconds for a request and its answer together."""

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
}


@dataclass(frozen=True)
class Page:
    """A file as a browser gets it."""

    content_type: str
    body: bytes


class PageServer:
    """Serves ``pages`` by path, to browsers that name this machine by an address or ``hostnames``.

    A page of another site whose name was made to point here (DNS rebinding) gets 421.

    Args:
        headers: Sent with every answer.
        tls: For ``https``; None for ``http``.
    """

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        headers: Mapping[str, str],
        hostnames: frozenset[str] = frozenset({"localhost"}),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._pages = pages
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._hostnames = hostnames
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._requests: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Bind every address of ``host``; with ``reuse_port``, beside other processes that do.

        Raises:
            ServerError: One of them is in use or is none of this machine.
        """
        try:
            for family, address in await resolve_local(host, port):
                server = await asyncio.start_server(
                    self._serve,
                    address[0],
                    port,
                    family=family,
                    limit=MAX_HEAD_SIZE,
                    ssl=self._tls,
                    reuse_port=reuse_port or None,
                )
                self._servers.append(server)
        except OSError as error:
            await self.close()
            raise ServerError(
                f"cannot serve the page on TCP {host}:{port}: {error.strerror}",
                bind_address=(host, port),
            ) from error

    async def close(self) -> None:
        """Free the port, and drop the requests that are under way."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for task in self._requests:
            task.cancel()
        if self._requests:
            await asyncio.wait(self._requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._requests) >= MAX_REQUESTS:
            writer.transport.abort()
            return
        self._requests.add(task)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            logger.debug("a request for the page came to nothing: %r", error)
        finally:
            self._requests.discard(task)
            with contextlib.suppress(RuntimeError):
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return self._refusal(431)
        request, *lines = head.decode("latin-1").split("\r\n")
        words = request.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return self._refusal(400)
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return self._refusal(405)
        hosts = [
            value.strip()
            for name, _, value in (line.partition(":") for line in lines)
            if name.lower() == "host"
        ]
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return self._refusal(421)
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            return self._refusal(404)
        head_only = method == "HEAD"
        return self._head(200, page) + (b"" if head_only else page.body)

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.lower() in self._hostnames:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _refusal(self, status: int) -> bytes:
        page = Page("text/plain; charset=utf-8", f"{status} {REASONS[status]}\n".encode())
        return self._head(status, page) + page.body

    def _head(self, status: int, page: Page) -> bytes:
        return (
            f"HTTP/1.1 {status} {REASONS[status]}\r\n"
            f"Content-Type: {page.content_type}\r\nContent-Length: {len(page.body)}\r\n"
            f"{self._headers}Connection: close\r\n\r\n"
        ).encode()
