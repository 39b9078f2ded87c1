"""A page, its fetches and its sessions from one server over HTTP/3, in Chromium."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Page, async_playwright

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import RequestError
from pywebtransport.server import HttpRequest
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate, make_certificate

from .conftest import ARGUMENTS, find_chromium

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTE = 1 << 20
PATIENCE = 20.0
PAGE = b"<!doctype html><title>over HTTP/3</title><link rel=icon href=data:,>"

ECHO = """async (size) => {
  const sent = new Uint8Array(size).map((_, at) => at * 31);
  const response = await fetch("/echo?x=1", {method: "POST", body: sent, headers: {"x-a": "b"}});
  const received = new Uint8Array(await response.arrayBuffer());
  return {
    status: response.status,
    method: response.headers.get("x-method"),
    equal: received.length === size && received.every((byte, at) => byte === sent[at]),
  };
}"""
HEAD = """async () => {
  const response = await fetch("/size", {method: "HEAD"});
  return [response.status, response.headers.get("content-length"), (await response.text()).length];
}"""
MANY = """async (count) => {
  const one = async (at) => (await (await fetch("/echo", {method: "POST", body: `${at}`})).text());
  return Promise.all([...Array(count).keys()].map(one));
}"""
DOWNLOAD = """async () => {
  const reader = (await fetch("/endless")).body.getReader();
  let size = 0;
  while (size < 3000000) {
    size += (await reader.read()).value.length;
  }
  await reader.cancel();
  return size;
}"""
SESSION = """async (hash) => {
  const value = Uint8Array.from(hash.match(/../g), (pair) => parseInt(pair, 16));
  const session = new WebTransport(location.origin + "/wt", {
    serverCertificateHashes: [{algorithm: "sha-256", value}],
  });
  await session.ready;
  const stream = await session.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  await writer.write(new TextEncoder().encode("ping"));
  const {value: data} = await stream.readable.getReader().read();
  session.close();
  return new TextDecoder().decode(data);
}"""


class Site:
    """What the page asks of."""

    def __init__(self, engine: str, certificate: Certificate) -> None:
        self.given_up: asyncio.Queue[int] = asyncio.Queue()
        config = ServerConfig(
            engine=engine,
            certfile=certificate.certfile,
            keyfile=certificate.keyfile,
            bind_host="127.0.0.1",
            bind_port=0,
        )
        self.app = ServerApp(config=config, request_handler=self.answer)
        self.app.route(path="/wt")(self.serve)

    async def answer(self, request: HttpRequest) -> None:
        match request.path.partition("?")[0]:
            case "/":
                await request.respond(200, {"content-type": "text/html"})
                await request.write(PAGE)
            case "/echo":
                await request.respond(200, {"x-method": request.method})
                async for chunk in request:
                    await request.write(chunk)
            case "/size":
                await request.respond(200, {"content-length": "1000"})
                await request.write(bytes(1000))
            case "/endless":
                await request.respond(200)
                try:
                    while True:
                        await request.write(bytes(65_536))
                except RequestError as error:
                    self.given_up.put_nowait(error.error_code)
            case _:
                await request.respond(404, end=True)

    async def serve(self, session: WebTransportSession) -> None:
        async for stream in session.incoming_streams():
            await stream.write(data=await stream.read())


def key_hash(certfile: str) -> str:
    """SHA-256 of the public key, as Chromium wants it."""
    pem = x509.load_pem_x509_certificate(Path(certfile).read_bytes())
    key = pem.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@asynccontextmanager
async def chromium(port: int, certificate: Certificate) -> AsyncIterator[Page]:
    """It speaks HTTP/3 with this port at once, and trusts this certificate."""
    arguments = [
        *ARGUMENTS,
        f"--origin-to-force-quic-on=127.0.0.1:{port}",
        f"--ignore-certificate-errors-spki-list={key_hash(certificate.certfile)}",
    ]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        page = await browser.new_page()
        await page.goto(f"https://127.0.0.1:{port}/")
        yield page
        await browser.close()


@pytest.mark.timeout(120)
async def test_a_page_its_fetches_and_a_session(engine: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    site = Site(engine, certificate)
    async with site.app:
        await site.app.server.listen()
        assert site.app.server.local_address is not None
        async with chromium(site.app.server.local_address[1], certificate) as page:
            assert await page.title() == "over HTTP/3"
            protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
            assert await page.evaluate(protocol) == "h3"
            for size in (0, 1, 2 * MEGABYTE):
                echoed = await page.evaluate(ECHO, size)
                assert echoed == {"status": 200, "method": "POST", "equal": True}
            assert await page.evaluate(HEAD) == [200, "1000", 0]
            assert await page.evaluate(MANY, 40) == [str(at) for at in range(40)]
            assert await page.evaluate("async () => (await fetch('/none')).status") == 404
            assert await page.evaluate(DOWNLOAD) >= 3_000_000
            async with asyncio.timeout(PATIENCE):
                assert await site.given_up.get() == 0x10C
            assert await page.evaluate(SESSION, certificate.sha256) == "ping"
            echoed = await page.evaluate(ECHO, 1000)
            assert echoed["equal"]
