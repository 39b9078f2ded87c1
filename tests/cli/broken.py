"""Servers that are wrong in one way each, for the doctor; and certificates that are."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import MiddlewareRejected
from pywebtransport.session import WebTransportSession
from tests.support.certificate import Certificate
from tests.support.raw_http3 import control_stream, response_frame
from tests.support.raw_peer import RawServer

V1 = bytes([0, 0, 0, 1])
"""QUIC's version on the wire."""


def certificate(
    directory: Path,
    *,
    names: tuple[str, ...] = ("localhost", "127.0.0.1"),
    start: float = -1,
    end: float = 9,
    is_rsa: bool = False,
    signed_by: str | None = None,
    subject: str = "server",
) -> Certificate:
    """``start`` and ``end`` in days from now; ``signed_by`` an authority that nobody knows."""
    key: Any = rsa.generate_private_key(65537, 2048) if is_rsa else _elliptic()
    own_name = _name(subject)
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(_name(signed_by) if signed_by else own_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=start))
        .not_valid_after(now + timedelta(days=end))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .sign(_elliptic() if signed_by else key, hashes.SHA256())
    )
    directory.mkdir(parents=True, exist_ok=True)
    certfile, keyfile = directory / "server.crt", directory / "server.key"
    certfile.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Certificate(str(certfile), str(keyfile), built.fingerprint(hashes.SHA256()).hex())


def _elliptic() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@asynccontextmanager
async def site(certificate: Certificate, **options: Any) -> AsyncIterator[str]:
    """A server of this package, whole; its URL. Its paths: /ok, /STATUS, and /slow."""
    config = ServerConfig(
        certfile=certificate.certfile,
        keyfile=certificate.keyfile,
        bind_host="127.0.0.1",
        bind_port=0,
        graceful_timeout=0,
        close_timeout=1.0,
        **options,
    )
    app = ServerApp(config=config)

    async def answer(*, session: WebTransportSession) -> bool:
        path = session.path.strip("/")
        if path == "slow":
            await asyncio.sleep(60)
        elif path.isdecimal():
            headers = {"retry-after": "17"} if path == "429" else {"location": "/elsewhere"}
            raise MiddlewareRejected(status_code=int(path), headers=headers)
        return True

    app.add_middleware(answer)

    @app.route("/ok")
    async def stay(session: WebTransportSession) -> None:
        await session.wait_closed()

    @app.route("/brief")
    async def leave(session: WebTransportSession) -> None:
        await session.close(code=7, reason="that was all")

    async with app:
        await app.server.listen()
        address = app.server.local_address
        assert address is not None
        yield f"https://127.0.0.1:{address[1]}"


class _Server(RawServer):
    """It negotiates a version, or says nothing to one it does not know, as some load balancers."""

    def __init__(
        self, certificate: Certificate, *, negotiates: bool = True, **options: Any
    ) -> None:
        super().__init__(certificate, **options)
        self._negotiates = negotiates

    def _packet_received(self, data: bytes, address: Any) -> None:
        if data[0] & 0x80 == 0 or data[1:5] == V1:
            super()._packet_received(data, address)
        elif self._negotiates and self._socket is not None:
            self._socket.sendto(negotiation(data), address)


def negotiation(data: bytes) -> bytes:
    """The answer to a packet of an unknown version (RFC 8999 §6): version 1 is spoken."""
    size = data[5]
    theirs, ours = data[6 : 6 + size], data[7 + size : 7 + size + data[6 + size]]
    return b"\x80" + bytes(4) + bytes([len(ours)]) + ours + bytes([size]) + theirs + V1


@asynccontextmanager
async def raw_site(
    certificate: Certificate,
    settings: Mapping[int, int] | None,
    *,
    opening: bytes | None = None,
    sessions: int = 8,
    **options: Any,
) -> AsyncIterator[str]:
    """A server made by hand: these settings, or these bytes instead; its URL.

    It refuses a request beyond so many sessions on a connection by a reset.
    """
    async with _Server(certificate, **options) as server:
        served: list[asyncio.Task[None]] = []

        async def accept() -> None:
            while True:
                peer = await server.accept()
                served.append(asyncio.create_task(serve(peer)))

        async def serve(peer: Any) -> None:
            if settings is not None or opening is not None:
                first = control_stream(settings or {}) if opening is None else opening
                peer.send(peer.open(unidirectional=True), first)
            count = 0
            with suppress(TimeoutError):
                while True:
                    request, _ = await peer.request()
                    count += 1
                    if count <= sessions:
                        peer.send(request, response_frame())
                    else:
                        peer.reset(request, 0x10B)

        accepting = asyncio.create_task(accept())
        try:
            yield f"https://127.0.0.1:{server.port}"
        finally:
            for task in (accepting, *served):
                task.cancel()
            await asyncio.gather(accepting, *served, return_exceptions=True)


@asynccontextmanager
async def silence(*, tcp: bool = False) -> AsyncIterator[str]:
    """A UDP socket that never answers; with a TCP server on the same port or not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server = None
        if tcp:
            server = await asyncio.start_server(
                lambda _r, writer: writer.close(), "127.0.0.1", port
            )
        try:
            yield f"https://127.0.0.1:{port}"
        finally:
            if server is not None:
                server.close()


@asynccontextmanager
async def half_a_server() -> AsyncIterator[str]:
    """It negotiates versions, and loses everything else."""
    async with another_service(
        lambda data: negotiation(data) if data[0] & 0x80 and data[1:5] != V1 else b""
    ) as url:
        yield url


@asynccontextmanager
async def another_service(
    answer: Callable[[bytes], bytes] = lambda _: b"ERR what?\n",
) -> AsyncIterator[str]:
    """It answers every packet, but not in QUIC."""

    class Answer(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            if reply := answer(data):
                self.transport.sendto(reply, addr)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Answer, local_addr=("127.0.0.1", 0))
    try:
        yield f"https://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
