"""Figures for Prometheus: a collector for a registry, and a port to scrape."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._words import address_text
from pywebtransport.exceptions import ServerError
from pywebtransport.telemetry.metrics import METRICS
from pywebtransport.types import Address

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from pywebtransport.server import WebTransportServer

__all__ = ["MetricsServer", "PrometheusCollector"]

logger = logging.getLogger("pywebtransport.telemetry")

REQUEST_TIMEOUT = 5.0
"""Seconds in which a scrape has to be asked for."""
MAX_REQUEST = 16 * 1024
"""Bytes of a scrape's request."""
MAX_SCRAPES = 16
"""Scrapes at one time."""
MISSING = (
    "Prometheus needs the package prometheus_client: "
    "pip install 'pywebtransport-native[prometheus]'"
)


class PrometheusCollector:
    """A server's figures for a registry of ``prometheus_client``: ``registry.register(...)``.

    Collect in the thread of the server's event loop, as :class:`MetricsServer` does.
    """

    def __init__(self, server: WebTransportServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Any]:
        """One family for each metric."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        snapshot = self._server.snapshot()
        for metric in METRICS:
            samples = list(metric.read(snapshot))
            labels = list(samples[0][0]) if samples else []
            kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=labels)
            for sample, value in samples:
                family.add_metric(list(sample.values()), value)
            yield family


class MetricsServer:
    """Serves ``/metrics`` over plain HTTP, for Prometheus to scrape; use it with ``async with``.

    ``registry``: one of ``prometheus_client``, its default one when left out, to which the server's
    figures are added for as long as this runs. Raises ServerError when the package is missing or
    the port cannot be had.
    """

    def __init__(
        self,
        server: WebTransportServer,
        *,
        port: int,
        host: str = "127.0.0.1",
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._server, self._address = server, (host, port)
        self._registry = registry
        self._listener: asyncio.Server | None = None
        self._collector = PrometheusCollector(server)
        self._scrapes: set[asyncio.Task[None]] = set()

    @property
    def local_address(self) -> Address | None:
        """Where it listens; None when it does not."""
        if self._listener is None:
            return None
        host, port = self._listener.sockets[0].getsockname()[:2]
        return host, port

    async def __aenter__(self) -> Self:
        try:
            from prometheus_client import REGISTRY
        except ImportError as error:
            raise ServerError(MISSING) from error
        if self._registry is None:
            self._registry = REGISTRY
        host, port = self._address
        try:
            self._listener = await asyncio.start_server(
                self._connected, host, port, limit=MAX_REQUEST
            )
        except OSError as error:
            raise ServerError(
                f"no metrics on {address_text(self._address)}: {error.strerror or error}"
            ) from error
        self._registry.register(self._collector)
        logger.info("metrics on http://%s/metrics", address_text(self.local_address))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        if self._listener is not None and self._registry is not None:
            self._registry.unregister(self._collector)
            self._listener.close()
            self._listener = None
        for task in self._scrapes:
            task.cancel()
        await asyncio.gather(*self._scrapes, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._scrapes) >= MAX_SCRAPES:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._scrapes.add(task)
        task.add_done_callback(self._scrapes.discard)
        # One that is cancelled before its first step has not closed it.
        task.add_done_callback(lambda _task: writer.close())

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _message(405, b"only GET\n")
        if path != b"/metrics":
            return _message(404, b"the figures are at /metrics\n")
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        assert self._registry is not None
        body = generate_latest(self._registry)
        return _message(200, body, CONTENT_TYPE_LATEST, has_body=method == b"GET")


def _message(status: int, body: bytes, kind: str = "text/plain", *, has_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status} {STATUSES[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")


STATUSES = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}
