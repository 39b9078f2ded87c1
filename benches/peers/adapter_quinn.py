"""The PyPI release web-transport-quinn: bindings of the crate of that name.

It has no way to ask for streams: quinn's 100 of each kind stay.
"""

from __future__ import annotations

import asyncio
import ssl
from importlib.metadata import version
from pathlib import Path
from typing import Any

import web_transport
from cryptography.hazmat.primitives import serialization


def load(cert: str, key: str) -> tuple[bytes, bytes]:
    """Both as DER."""
    private = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    der, pkcs8 = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    return (
        ssl.PEM_cert_to_DER_cert(Path(cert).read_text()),
        private.private_bytes(der, pkcs8, serialization.NoEncryption()),
    )


class Api:
    def __init__(self, name: str) -> None:
        self.version = version("web-transport-quinn")

    async def serve(self, port: int, cert: str, key: str, handler: Any) -> None:
        certificate, private = load(cert, key)
        tasks: set[asyncio.Task[None]] = set()

        async def on_request(request: Any) -> None:
            await handler(Session(await request.accept()))

        async with web_transport.Server(
            certificate_chain=[certificate],
            private_key=private,
            bind=f"127.0.0.1:{port}",
        ) as server:
            async for request in server:
                task = asyncio.create_task(on_request(request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    def client(self) -> Client:
        return Client()


class Client:
    def __init__(self) -> None:
        self.client = web_transport.Client(no_cert_verification=True)

    async def __aenter__(self) -> Client:
        await self.client.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.client.__aexit__(None, None, None)

    async def connect(self, port: int) -> Session:
        return Session(await self.client.connect(f"https://127.0.0.1:{port}/bench"))


class Session:
    def __init__(self, session: Any) -> None:
        self.session = session

    async def open_bidi(self) -> Stream:
        return Stream(*await self.session.open_bi())

    async def incoming(self) -> Any:
        while True:
            yield Stream(*await self.session.accept_bi())

    async def send_datagram(self, data: bytes) -> None:
        self.session.send_datagram(data)

    async def receive_datagram(self) -> bytes:
        return await self.session.receive_datagram()

    async def close(self) -> None:
        self.session.close()

    async def wait_closed(self) -> None:
        await self.session.wait_closed()


class Stream:
    def __init__(self, send: Any, receive: Any) -> None:
        self.send = send
        self.read = receive.read
        self.read_all = receive.read
        self.readexactly = receive.readexactly

    async def write(self, data: bytes, fin: bool = False) -> None:
        if data:
            await self.send.write(data)
        if fin:
            await self.send.finish()
