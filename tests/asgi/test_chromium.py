"""A page that Chromium loads over HTTP/3, with its sessions, from one FastAPI application."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI, Request
from playwright.async_api import Page, async_playwright
from starlette.responses import HTMLResponse, StreamingResponse

from pywebtransport import ServerConfig, WebTransportSession
from pywebtransport.asgi import AsgiServer, as_asgi
from tests.asgi.conftest import within
from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.support.certificate import Certificate
from tests.support.laboratory import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = "<!doctype html><title>over HTTP/3</title>"


class Site:
    def __init__(self) -> None:
        self.versions: list[str] = []
        self.left = asyncio.Event()

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def note(request: Request, call_next: Any) -> Any:
            self.versions.append(request.scope["http_version"])
            return await call_next(request)

        @app.get("/")
        async def home() -> HTMLResponse:
            return HTMLResponse(DOCUMENT)

        @app.post("/size")
        async def size(request: Request) -> dict[str, int]:
            return {"size": sum([len(part) async for part in request.stream()])}

        @app.get("/endless")
        async def endless() -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield bytes(1000)
                        await asyncio.sleep(0.01)
                finally:
                    self.left.set()

            return StreamingResponse(parts())

        async def echo(session: WebTransportSession) -> None:
            async for stream in session.incoming_bidirectional_streams():
                await stream.write_all(await stream.read_all())

        app.mount("/echo", as_asgi(echo))
        app.mount("/messages", self.messages)
        return app

    @staticmethod
    async def messages(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "webtransport.accept"})
        await send({"type": "webtransport.datagram.send", "data": b"welcome"})
        while (message := await receive())["type"] != "webtransport.disconnect":
            if message["type"] == "webtransport.stream.receive":
                message["type"] = "webtransport.stream.send"
                await send(message)


def key_hash(certificate: Certificate) -> str:
    public = x509.load_pem_x509_certificate(Path(certificate.certfile).read_bytes()).public_key()
    key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest_asyncio.fixture(loop_scope="module")
async def site(engine: str, certificate: Certificate) -> AsyncIterator[tuple[Site, Page]]:
    """A browser that trusts the certificate's key, and takes the port for one of HTTP/3."""
    port = free_port()
    config = ServerConfig(
        engine=engine,
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        bind_host="localhost",
        bind_port=port,
    )
    here = Site()
    arguments = [
        *ARGUMENTS,
        f"--origin-to-force-quic-on=localhost:{port}",
        f"--ignore-certificate-errors-spki-list={key_hash(certificate)}",
    ]
    async with AsgiServer(here.app(), config=config) as server, async_playwright() as playwright:
        await server.server.listen()
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        try:
            page = await browser.new_page()
            await page.goto(f"https://localhost:{port}/")
            yield here, page
        finally:
            await browser.close()


async def test_a_page_its_requests_and_its_sessions(site: tuple[Site, Page]) -> None:
    here, page = site
    assert await page.title() == "over HTTP/3"
    protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
    assert await page.evaluate(protocol) == "h3"

    size = await page.evaluate(
        "async () => (await fetch('/size', {method: 'POST', body: new Uint8Array(3e6)})).json()"
    )
    assert size == {"size": 3_000_000}
    status = await page.evaluate("async () => (await fetch('/none')).status")
    assert status == 404

    read = await page.evaluate(
        """async () => {
            const stop = new AbortController()
            const answer = await fetch('/endless', {signal: stop.signal})
            const {value} = await answer.body.getReader().read()
            stop.abort()
            return value.length > 0
        }"""
    )
    assert read
    await within(here.left.wait())
    assert set(here.versions) == {"3"}

    echoed = await page.evaluate(
        """async () => {
            const session = new WebTransport(`${location.origin}/echo`)
            await session.ready
            const stream = await session.createBidirectionalStream()
            const writer = stream.writable.getWriter()
            writer.write(new TextEncoder().encode('hello'))
            writer.close()
            const text = await new Response(stream.readable).text()
            session.close({closeCode: 7, reason: 'done'})
            return text
        }"""
    )
    assert echoed == "hello"

    both = await page.evaluate(
        """async () => {
            const session = new WebTransport(`${location.origin}/messages`)
            await session.ready
            const first = await session.datagrams.readable.getReader().read()
            const stream = await session.createBidirectionalStream()
            const writer = stream.writable.getWriter()
            writer.write(new TextEncoder().encode('as messages'))
            writer.close()
            const text = await new Response(stream.readable).text()
            session.close()
            return [new TextDecoder().decode(first.value), text]
        }"""
    )
    assert both == ["welcome", "as messages"]
