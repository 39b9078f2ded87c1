"""What the demo page talks to.

One session carries all of it. The first line of a stream says what it is for:

=======================  ===========================================================
``up``                   takes whatever comes, and answers with its count as lines
``down <bytes/s>``       sends until it is stopped; 0 is as fast as it can be
``room``                 a client of the room's Pub/Sub broker
=======================  ===========================================================

Datagrams come back as they are, but for the share that their first byte asks to be dropped, in
percent. On a stream that the server opens, figures come as lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pywebtransport import ServerApp, ServerConfig, __version__
from pywebtransport._development import DevelopmentCertificate
from pywebtransport._engine.select import get_engine
from pywebtransport.constants import ErrorCodes
from pywebtransport.demo.pages import Page, PageServer
from pywebtransport.exceptions import WebTransportError
from pywebtransport.pubsub import PubSubBroker
from pywebtransport.server.running import default_logging, run_until_signalled
from pywebtransport.session import WebTransportSession
from pywebtransport.stream import WebTransportReceiveStream, WebTransportStream

__all__ = ["Demo"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PATH = "/demo"
SETTINGS = "/settings.json"
"""Where a page asks for what it needs to connect."""
MAX_VISITORS = 64
"""Sessions at once; the next visitor is refused."""
MAX_ROOM_MESSAGE = 2048
"""Bytes of a message to the room; a larger one ends its sender's stream."""
MAX_ROOM_QUEUE = 256
"""Messages that wait for one visitor; the oldest make room for newer ones."""
IDLE_TIMEOUT, KEEPALIVE = 10.0, 3.0
"""Seconds after which a visitor who has vanished is given up; how often silence is asked."""

ROOM = "demo.*"
ROOM_TOPICS = frozenset({"demo.cursor", "demo.chat", "demo.people"})

BLOCK = os.urandom(1 << 18)
"""What streams carry; also the most that a slow one sends in one piece."""
PACE = 0.02
"""Seconds between the pieces of a stream that is slowed down."""
COUNT_INTERVAL = 0.05
"""Seconds between two counts of what has come up."""
FIGURES_INTERVAL = 1.0

CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self' https:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    # An isolated page has a clock of microseconds, and loopback round trips are short.
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Demo:
    """The page over TCP and WebTransport over UDP, on one port number.

    On a loopback address the page comes over ``http``, which browsers trust there. On any other it
    comes over ``https`` with the same self-signed certificate, which the browser warns about: away
    from loopback, WebTransport exists on pages of ``https`` only.

    Use it with ``async with``, or :meth:`run` it.

    Args:
        host: Where to listen.
        port: Of TCP and of UDP.
        engine: As in ``ServerConfig``.

    Raises:
        ServerError: The port is in use, or the address is none of this machine (on entering).
    """

    def __init__(
        self, *, host: str = "localhost", port: int = 4433, engine: str | None = None
    ) -> None:
        self.host, self.port = host, port
        self._engine = engine
        self._room = PubSubBroker(
            max_message_size=MAX_ROOM_MESSAGE,
            max_queue_size=MAX_ROOM_QUEUE,
            max_subscriptions=1,
            authorize=may_use_room,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            certificate = DevelopmentCertificate.obtain(Path(directory))
            config = ServerConfig(
                certfile=certificate.certfile,
                keyfile=certificate.keyfile,
                bind_host=self.host,
                bind_port=self.port,
                max_sessions=MAX_VISITORS,
                max_connections=2 * MAX_VISITORS,
                connection_idle_timeout=IDLE_TIMEOUT,
                connection_keepalive_timeout=KEEPALIVE,
                engine=self._engine,
            )
            self._engine_name = get_engine(config).name
            app = ServerApp(config=config)
            app.on_startup(self._room.start)
            app.on_shutdown(self._room.close)
            app.route(PATH)(self._serve_session)
            await stack.enter_async_context(app)
            await app.server.listen()
            self.app = app
            self._pages = {**static_pages(), SETTINGS: self._settings(certificate)}
            self._tls = None
            if self.host not in LOOPBACK:
                self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._tls.load_cert_chain(certificate.certfile, certificate.keyfile)
            pages = PageServer(
                self._pages,
                headers=PAGE_HEADERS,
                hostnames=frozenset({"localhost", self.host, socket.gethostname().lower()}),
                tls=self._tls,
            )
            await stack.enter_async_context(pages)
            await pages.listen(self.host, self.port)
            renewing = asyncio.create_task(self._keep_fresh(certificate))
            stack.callback(renewing.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """The address of the page; where every address of the machine listens, the LAN's."""
        if self.host in LOOPBACK:
            return f"http://{self.host if ':' not in self.host else f'[{self.host}]'}:{self.port}/"
        host = lan_address() if self.host in ("0.0.0.0", "::", "", "*") else self.host
        return f"https://{host if ':' not in host else f'[{host}]'}:{self.port}/"

    def run(self, announce: Callable[[Demo], None]) -> None:
        """Serve until SIGINT (Ctrl-C) or SIGTERM; ``announce`` is called once it listens.

        Raises:
            ServerError: As on entering.
        """

        async def main() -> None:
            async with self:
                announce(self)
                await self.app.server.serve_forever()

        with default_logging():
            run_until_signalled(main, hurry=lambda: None, renew=lambda: None, patience=1.0)

    async def _keep_fresh(self, certificate: DevelopmentCertificate) -> None:
        """A page that connects from then on asks for the settings again."""
        async for renewed in certificate.renewals():
            if self._tls is not None:
                self._tls.load_cert_chain(renewed.certfile, renewed.keyfile)
            await self.app.server.reload_certificate()
            self._pages[SETTINGS] = self._settings(renewed)

    def _settings(self, certificate: DevelopmentCertificate) -> Page:
        settings = {
            "path": PATH,
            "certificateHash": certificate.digest.hex(),
            "engine": self._engine_name,
            "version": __version__,
        }
        return Page("application/json", json.dumps(settings).encode())

    async def _serve_session(self, session: WebTransportSession) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(echo_datagrams(session)),
                tasks.create_task(self._tell_figures(session)),
            ]
            async for stream in session.incoming_streams():
                running = [task for task in running if not task.done()]
                running.append(tasks.create_task(self._serve_stream(session, stream)))
            for task in running:
                task.cancel()

    async def _serve_stream(
        self, session: WebTransportSession, stream: WebTransportStream | WebTransportReceiveStream
    ) -> None:
        with suppress(WebTransportError):
            if not isinstance(stream, WebTransportStream):
                await stream.abort(code=ErrorCodes.APP_INVALID_REQUEST)
                return
            match (await stream.readline(64)).split():
                case [b"up"]:
                    await take(stream)
                case [b"down", rate] if rate.isdigit():
                    await pour(stream, int(rate))
                case [b"room"]:
                    await self._room.handle_stream(stream, session=session)
                case _:
                    await stream.abort(code=ErrorCodes.APP_INVALID_REQUEST)

    async def _tell_figures(self, session: WebTransportSession) -> None:
        began = time.monotonic()
        with suppress(WebTransportError):
            stream = await session.create_unidirectional_stream()
            while True:
                figures: dict[str, Any] = asdict(session.stats())
                figures |= {
                    "session": session.session_id,
                    "uptime": time.monotonic() - began,
                    "visitors": len(self.app.server.session_manager),
                }
                await stream.write(json.dumps(figures) + "\n")
                await asyncio.sleep(FIGURES_INTERVAL)


def may_use_room(_session: WebTransportSession | None, action: str, topic: str) -> bool:
    """The broker's ``authorize``."""
    return topic == ROOM if action == "subscribe" else topic in ROOM_TOPICS


async def echo_datagrams(session: WebTransportSession) -> None:
    """Send each back, or not, as its first byte asks."""
    with suppress(WebTransportError):
        transport = await session.create_datagram_transport()
        async for data in transport:
            if data and random.random() * 100 >= data[0]:
                await transport.send(data)


async def take(stream: WebTransportStream) -> None:
    """Count what comes, and tell the count at most each COUNT_INTERVAL."""
    total, told = 0, 0.0
    while data := await stream.read(size=1 << 18):
        total += len(data)
        if (now := time.monotonic()) - told >= COUNT_INTERVAL:
            told = now
            await stream.write(f"{total}\n")


async def pour(stream: WebTransportStream, rate: int) -> None:
    """Send for as long as it is wanted."""
    if not rate:
        while True:
            await stream.write(BLOCK)
    then = time.monotonic()
    while True:
        await asyncio.sleep(PACE)
        now = time.monotonic()
        await stream.write(BLOCK[: int((now - then) * rate)])
        then = now


def static_pages() -> dict[str, Page]:
    """The files of this package by path; ``/`` is the page itself."""
    pages = {
        f"/{file.name}": Page(CONTENT_TYPES[file.name.rpartition(".")[2]], file.read_bytes())
        for file in (files(__package__) / "static").iterdir()
    }
    return {**pages, "/": pages["/index.html"]}


def lan_address() -> str:
    """The address by which the machine reaches others, or loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
