"""The PyPI release web-transport-quinn 0.1 (drafts 02 and 07, bindings of the crate) as an end."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import end
import web_transport
from cryptography.hazmat.primitives import serialization


class Stream(end.Stream):
    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive = send, receive

    async def write(self, data: bytes) -> None:
        try:
            await self._send.write(data)
        except web_transport.StreamClosedByPeer as error:
            raise end.StreamEnd(error.code) from error

    async def finish(self) -> None:
        await self._send.finish()

    async def read(self) -> bytes:
        try:
            return bytes(await self._receive.read(end.CHUNK))
        except web_transport.StreamClosedByPeer as error:
            raise end.StreamEnd(error.code) from error

    async def reset(self, code: int) -> None:
        self._send.reset(code)

    async def stop(self, code: int) -> None:
        self._receive.stop(code)


class Session(end.Session):
    def __init__(self, session: Any) -> None:
        self._session = session
        # Of several that accept at once it wakes one only.
        self._accepting = {False: asyncio.Lock(), True: asyncio.Lock()}

    async def open(self, unidirectional: bool) -> Stream:
        if unidirectional:
            return Stream(await self._session.open_uni(), None)
        return Stream(*await self._session.open_bi())

    async def accept(self, unidirectional: bool) -> Stream:
        async with self._accepting[unidirectional]:
            if unidirectional:
                return Stream(None, await self._session.accept_uni())
            return Stream(*await self._session.accept_bi())

    async def send_datagram(self, data: bytes) -> None:
        self._session.send_datagram(data)

    async def receive_datagram(self) -> bytes:
        return bytes(await self._session.receive_datagram())

    async def close(self, code: int, reason: str) -> None:
        self._session.close(code, reason)

    async def closed(self) -> tuple[int | None, str | None]:
        await self._session.wait_closed()
        error = self._session.close_reason
        return getattr(error, "code", None), getattr(error, "reason", None)


def load(certfile: str, keyfile: str) -> tuple[bytes, bytes]:
    """Both as DER."""
    key = serialization.load_pem_private_key(Path(keyfile).read_bytes(), None)
    der, pkcs8 = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    return (
        ssl.PEM_cert_to_DER_cert(Path(certfile).read_text()),
        key.private_bytes(der, pkcs8, serialization.NoEncryption()),
    )


class Program(end.End):
    async def start_listening(self, certfile: str, keyfile: str, small: bool) -> int:
        certificate, key = load(certfile, keyfile)
        server = web_transport.Server(
            certificate_chain=[certificate], private_key=key, bind="127.0.0.1:0"
        )
        await server.__aenter__()
        self.spawn(self._serve(server))
        return int(server.local_addr[1])

    async def _serve(self, server: Any) -> None:
        async for request in server:
            path = urlsplit(request.url).path
            if path == "/close":
                session = await request.accept()
                session.close(end.CLOSE_CODE, end.CLOSE_REASON)
            elif path.startswith("/lab/"):
                self.arrived(path, Session(await request.accept()))
            else:
                await request.reject(404)

    async def start_session(self, url: str, protocols: list[str], small: bool) -> end.Session:
        client = await web_transport.Client(no_cert_verification=True).__aenter__()
        return Session(await client.connect(url))


if __name__ == "__main__":
    end.main(Program)
