"""The texts of docs/reference/errors.md are those of the code, and of Chromium's console."""

from __future__ import annotations

import ast
import asyncio
import functools
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import ConsoleMessage, async_playwright

from pywebtransport import ServerApp, ServerConfig, WebTransportSession
from pywebtransport.utils import generate_self_signed_cert
from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.docs.snippets import ROOT
from tests.support.certificate import Certificate, make_certificate
from tests.support.laboratory import free_port

TEXT = (ROOT / "docs/reference/errors.md").read_text()
LIBRARY, CONSOLE = TEXT.split("## In the console of a browser")
HOLE = "\0"
"""Where a text of the code has something that differs."""
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def rows(text: str) -> list[str]:
    found = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    return [each for each in found if each != "text"]


def template(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(?:\.\d+)?[a-z]", HOLE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values
        )
    return None


@functools.cache
def texts_of_the_code() -> tuple[str, ...]:
    """String literals of the package, f-strings with holes, and those of the Rust crates."""
    found = []
    for path in (ROOT / "python/pywebtransport").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.expr) and (text := template(node)) is not None:
                found.append(text)
    for path in (ROOT / "rust").glob("*/src/**/*.rs"):
        for text in STRING.findall(path.read_text()):
            found.append(re.sub(r"\{[^}]*\}", HOLE, re.sub(r"\\\n\s*", "", text)))
    # What has lines is no text of an error: docstrings, and what stands between two literals.
    return tuple(text.replace("`", "") for text in found if "\n" not in text)


def is_in_the_code(text: str) -> bool:
    """Whether one literal, or an end of it, has the words of `text` in this order.

    A hole of the page may stand for words of the literal, too: values that are quoted there.
    """
    words = [re.escape(each.strip()) for each in text.split("…") if each.strip()]
    pattern = re.compile(".*?".join(words), re.DOTALL)
    return any(pattern.search(each) for each in texts_of_the_code())


@pytest.mark.parametrize("text", rows(LIBRARY))
def test_the_text_is_one_of_the_code(text: str) -> None:
    # Hints are appended to the texts they belong to.
    parts = text.split("; is the port") if "; is the port" in text else [text]
    assert is_in_the_code(parts[0])
    assert len(parts) == 1 or is_in_the_code(f"; is the port{parts[1]}")


def test_a_text_that_is_not_in_the_code_is_found() -> None:
    assert len(rows(LIBRARY)) > 60
    assert not is_in_the_code("the moon is … km away")


# ---------------------------------------------------------------- Chromium

TRY = """async ({url, hash}) => {
  const value = Uint8Array.from((hash || "").match(/../g) || [], (pair) => parseInt(pair, 16));
  const options = hash ? { serverCertificateHashes: [{ algorithm: "sha-256", value }] } : {};
  try {
    const wt = new WebTransport(url, options);
    wt.closed.catch(() => {});
    await wt.ready;
    return "ready";
  } catch (error) {
    return String(error);
  }
}"""


@asynccontextmanager
async def serving(pair: Certificate, **options: object) -> AsyncIterator[str]:
    config = ServerConfig(certfile=pair.certfile, keyfile=pair.keyfile).update(**options)
    async with ServerApp(config=config) as app:

        @app.route("/stay")
        async def stay(session: WebTransportSession) -> None:
            await session.wait_closed()

        await app.server.listen(host="127.0.0.1", port=free_port())
        assert app.server.local_address is not None
        yield f"https://127.0.0.1:{app.server.local_address[1]}"


@asynccontextmanager
async def website() -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.timeout(180)
async def test_chromium_says_what_the_table_says(tmp_path: Path) -> None:
    for folder in ("good", "other", "rsa"):
        (tmp_path / folder).mkdir()
    good, other = make_certificate(tmp_path / "good"), make_certificate(tmp_path / "other")
    rsa = Certificate(
        *generate_self_signed_cert(hostname="localhost", output_dir=str(tmp_path / "rsa")),
        "00" * 32,
    )
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    seen: dict[str, str] = {}
    with silent:
        async with (
            serving(good, allowed_origins=["*"]) as open_server,
            serving(good) as closed_server,
            serving(rsa, allowed_origins=["*"]) as rsa_server,
            website() as site,
            async_playwright() as playwright,
        ):
            port = open_server.rpartition(":")[2]
            browser = await playwright.chromium.launch(
                executable_path=find_chromium(), args=ARGUMENTS
            )

            async def attempt(name: str, url: str, hash: str, page_url: str = site) -> None:
                context = await browser.new_context()
                page = await context.new_page()
                said: list[str] = []

                def listen(message: ConsoleMessage) -> None:
                    said.append(message.text)

                page.on("console", listen)
                # What Playwright answers has no address of this machine: a page from elsewhere.
                for elsewhere in ("http://page.test/", "http://localhost/"):
                    await page.route(elsewhere, lambda route: route.fulfill(body=""))
                await page.goto(page_url)
                result = await page.evaluate(TRY, {"url": url, "hash": hash})
                seen[name] = " ".join([result, *said])
                await context.close()

            for case in (
                ("ready", f"{open_server}/stay", good.sha256),
                ("nobody listens", f"https://127.0.0.1:{free_port()}/", good.sha256),
                ("only IPv4", f"https://[::1]:{port}/stay", good.sha256),
                ("silence", f"https://127.0.0.1:{silent.getsockname()[1]}/", good.sha256),
                ("another hash", f"{open_server}/stay", other.sha256),
                ("no hash", f"{open_server}/stay", ""),
                ("RSA", f"{rsa_server}/stay", rsa.sha256),
                ("origin", f"{closed_server}/stay", good.sha256),
                ("path", f"{open_server}/nowhere", good.sha256),
                ("name", f"https://nosuch.invalid:{port}/stay", good.sha256),
                ("http", f"http://127.0.0.1:{port}/stay", good.sha256),
                ("insecure page", f"{open_server}/stay", good.sha256, "http://page.test/"),
                ("from elsewhere", f"{open_server}/stay", good.sha256, "http://localhost/"),
            ):
                await attempt(*case)
            await browser.close()

    assert seen.pop("ready") == "ready"
    texts = rows(CONSOLE)
    found = {name: [each for each in texts if each in said] for name, said in seen.items()}
    assert found == {
        "nobody listens": ["QUIC_PACKET_WRITE_ERROR"],
        "only IPv4": ["QUIC_PACKET_WRITE_ERROR"],
        "silence": ["QUIC_NETWORK_IDLE_TIMEOUT"],
        "another hash": ["QUIC_TLS_CERTIFICATE_UNKNOWN"],
        "no hash": ["QUIC_TLS_CERTIFICATE_UNKNOWN"],
        "RSA": ["QUIC_TLS_CERTIFICATE_UNKNOWN"],
        "origin": ["ERR_METHOD_NOT_SUPPORTED"],
        "path": ["ERR_METHOD_NOT_SUPPORTED"],
        "name": ["ERR_NAME_NOT_RESOLVED"],
        "http": ["The URL's scheme must be 'https'."],
        "insecure page": ["WebTransport is not defined"],
        "from elsewhere": ["ERR_BLOCKED_BY_LOCAL_NETWORK_ACCESS_CHECKS"],
    }
    assert {text for each in found.values() for text in each} == set(texts)
