"""A browser as an end: Chromium over its DevTools protocol, Firefox over WebDriver BiDi.

    browser.py chromium
    browser.py firefox

Both speak JSON over a WebSocket of theirs; browser.js does the operations, in a page for each
session, since Chromium slows a page's next handshake down after one that failed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import struct
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import end

SCRIPT = Path(__file__).with_suffix(".js").read_text()

LOADED = """new Promise((resolve) => {
  if (document.readyState === "complete") resolve(true);
  else addEventListener("load", () => resolve(true));
})"""


class WebSocket:
    """Requests with ids over a WebSocket (RFC 6455); what comes without an id is dropped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, url: str) -> WebSocket:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 24)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 101 " not in head.splitlines()[0]:
            raise ConnectionError(head)
        return cls(reader, writer)

    async def request(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        text = json.dumps({"id": number, "method": method, "params": parameters}).encode()
        mask = os.urandom(4)
        # One unfragmented text frame, masked as a client's must be.
        size = len(text)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size)
        if size >= 1 << 16:
            length = b"\xff" + struct.pack(">Q", size)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text))
        self._writer.write(b"\x81" + length + mask + masked)
        message = await answer
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']} {message.get('message', '')}")
        return dict(message["result"])

    def close(self) -> None:
        self._task.cancel()
        self._writer.close()

    async def _read(self) -> None:
        try:
            await self._read_messages()
        except (asyncio.IncompleteReadError, ConnectionError):
            for waiting in self._waiting.values():
                waiting.set_exception(ConnectionError("the browser has ended"))

    async def _read_messages(self) -> None:
        text = b""
        while True:
            first, size = await self._reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
            data = await self._reader.readexactly(size)
            if first & 0x0F > 2:
                continue  # a control frame
            text += data
            if first & 0x80:
                message, text = json.loads(text), b""
                if waiting := self._waiting.pop(message.get("id"), None):
                    waiting.set_result(message)


class Browser:
    """A browser in a profile of its own; `page` opens one, `evaluate` runs a script in it."""

    names: ClassVar[tuple[str, ...]]
    arguments: ClassVar[tuple[str, ...]]

    def __init__(self, profile: str) -> None:
        self.profile = profile
        self.process: Process

    async def start(self) -> None:
        named = os.environ.get(self.names[0].partition("-")[0].upper(), "")
        found = [path for name in (named, *self.names) if name and (path := shutil.which(name))]
        if not found:
            raise end.Cannot(f"no {self.names[0]} here")
        arguments = [each.format(profile=self.profile) for each in self.arguments]
        self.process = await asyncio.create_subprocess_exec(
            found[0], *arguments, stdout=DEVNULL, stderr=PIPE, stdin=DEVNULL
        )
        url = await self._listening(re.compile(rb"listening on (ws://\S+)"))
        self._draining = asyncio.create_task(self._drain())
        await self.attach(url)

    async def _listening(self, pattern: re.Pattern[bytes]) -> str:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            if found := pattern.search(line):
                return found[1].decode()
        raise ConnectionError("the browser ended before it listened")

    async def _drain(self) -> None:
        assert self.process.stderr is not None
        while await self.process.stderr.read(65536):
            pass

    async def attach(self, url: str) -> None:
        raise NotImplementedError

    async def page(self, url: str) -> Any:
        raise NotImplementedError

    async def evaluate(self, page: Any, expression: str) -> Any:
        raise NotImplementedError


class Chromium(Browser):
    names = ("chromium", "chromium-browser", "google-chrome")
    arguments = (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update"),
        *("--remote-debugging-port=0", "--user-data-dir={profile}", "about:blank"),
    )

    async def attach(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._socket = await WebSocket.connect(url)

    async def page(self, url: str) -> WebSocket:
        created = await self._socket.request("Target.createTarget", url="about:blank")
        page = await WebSocket.connect(f"ws://{self._address}/devtools/page/{created['targetId']}")
        await page.request("Page.navigate", url=url)
        await self.evaluate(page, LOADED)
        return page

    async def evaluate(self, page: WebSocket, expression: str) -> Any:
        result = await page.request(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")


class Firefox(Browser):
    names = ("firefox-esr", "firefox")
    arguments = ("--headless", "--profile", "{profile}", "--remote-debugging-port=0")

    async def attach(self, url: str) -> None:
        self._socket = await WebSocket.connect(f"{url}/session")
        await self._socket.request("session.new", capabilities={})

    async def page(self, url: str) -> str:
        created = await self._socket.request("browsingContext.create", type="tab")
        context = str(created["context"])
        await self._socket.request(
            "browsingContext.navigate", context=context, url=url, wait="complete"
        )
        return context

    async def evaluate(self, page: str, expression: str) -> Any:
        result = await self._socket.request(
            "script.evaluate",
            expression=expression,
            target={"context": page},
            awaitPromise=True,
        )
        if result["type"] != "success":
            raise RuntimeError(str(result))
        return result["result"].get("value")


class Program(end.End):
    def __init__(self) -> None:
        super().__init__()
        profile = tempfile.mkdtemp(prefix="browser-")
        self._browser: Browser = {"chromium": Chromium, "firefox": Firefox}[sys.argv[1]](profile)
        self._starting: asyncio.Task[None] | None = None
        self._origin = ""
        self._pages: dict[int, tuple[Any, int]] = {}
        self._streams_of: dict[int, tuple[Any, int]] = {}

    async def _start(self) -> None:
        """The browser, and an http://localhost page: a secure context with the script in it."""
        body = f"<!doctype html><script>{SCRIPT}</script>".encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head.encode() + body)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._origin = f"http://localhost:{server.sockets[0].getsockname()[1]}/"
        await self._browser.start()

    async def run(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            if op in ("listen", "accept"):
                raise end.Cannot("a page has no server")
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
            await asyncio.shield(self._starting)
            return await self._run(op, arguments)
        except end.Cannot as reason:
            return {"error": f"cannot: {reason}"}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    async def _run(self, op: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if op == "connect":
            page = await self._browser.page(self._origin)
        else:
            kind = "session" if "session" in arguments else "stream"
            page, inner = (self._pages if kind == "session" else self._streams_of)[arguments[kind]]
            arguments = {**arguments, kind: inner}
        text = await self._browser.evaluate(page, f"run({json.dumps(op)}, {json.dumps(arguments)})")
        answer: dict[str, Any] = json.loads(text)
        for kind, known in (("session", self._pages), ("stream", self._streams_of)):
            if number := answer.get("ok", {}).get(kind):
                answer["ok"][kind] = next(self._numbers)
                known[answer["ok"][kind]] = (page, number)
        return answer

    def shut_down(self) -> None:
        if self._starting is not None:
            self._browser.process.kill()
        shutil.rmtree(self._browser.profile, ignore_errors=True)


if __name__ == "__main__":
    end.main(Program)
