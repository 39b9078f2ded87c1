"""Servers made of bytes, each of one draft, against the client."""

from __future__ import annotations

import socket
import ssl

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport._engine.addresses import SocketAddress
from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate
from tests.support.raw_peer import SERVER_SETTINGS, RawServer

from .conftest import started

TOKENS = {"02": "webtransport", "07": "webtransport", "13": "webtransport", "15": "webtransport-h3"}


@pytest.mark.parametrize("draft", TOKENS)
async def test_a_server_of_one_draft(engine: str, certificate: Certificate, draft: str):
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with RawServer(certificate) as server, WebTransportClient(config=config) as client:
        async with started(client.connect(url=f"https://127.0.0.1:{server.port}/chat")) as connect:
            peer = await server.accept()
            settings = h3.SETTINGS_OF[draft] | {h3.ENABLE_CONNECT_PROTOCOL: 1}
            peer.send(peer.open(unidirectional=True), h3.control_stream(settings))
            session_id, fields = await peer.request()
            assert (fields[":path"], fields[":protocol"]) == ("/chat", TOKENS[draft])
            peer.send(session_id, h3.response_frame(200))
            session = await connect

        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"hello", end_stream=True)
        stream_id = await peer.until(lambda: next((i for i in peer.streams if i == 4), None))
        await peer.until(lambda: peer.streams[stream_id].fin)
        assert peer.streams[stream_id].data == h3.bidi_header(session_id) + b"hello"
        peer.send(session_id, h3.frame(h3.DATA, h3.close_capsule(7, "enough")), fin=True)
        await session.wait_closed()
        await peer.until(lambda: peer.streams[session_id].is_ended or peer.closed)


async def test_quic_frames_go_out_as_they_are(engine: str, certificate: Certificate):
    """Here an unknown frame, for which QUIC has one answer (RFC 9000 §12.4)."""
    config = ClientConfig(engine=engine, ca_certs=certificate.certfile)
    async with RawServer(certificate) as server, WebTransportClient(config=config) as client:
        async with started(client.connect(url=f"https://127.0.0.1:{server.port}/")) as connect:
            peer = await server.accept()
            peer.send(peer.open(unidirectional=True), h3.control_stream(SERVER_SETTINGS))
            session_id, _ = await peer.request()
            peer.send(session_id, h3.response_frame(200))
            await connect
        peer.frames(h3.varint(0x3FFF) + b"body")
        closed = await peer.wait_closed()
        assert (closed.code, closed.is_application, closed.is_by_us) == (0x07, False, False)


async def test_what_of_a_url_a_server_sees(
    engine: str, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
):
    """The name as IDNA, the rest percent-encoded, the fragment not at all."""
    names: list[str] = []

    async def lookup(host: str, port: int) -> list[SocketAddress]:
        names.append(host)
        return [SocketAddress(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr("pywebtransport._engine.addresses._lookup", lookup)
    config = ClientConfig(engine=engine, verify_mode=ssl.CERT_NONE)
    async with RawServer(certificate) as server, WebTransportClient(config=config) as client:
        url = f"https://bücher.example:{server.port}/grüße?wer=世界#hier"
        async with started(client.connect(url=url)) as connect:
            peer = await server.accept()
            peer.send(peer.open(unidirectional=True), h3.control_stream(SERVER_SETTINGS))
            session_id, fields = await peer.request()
            assert fields[":authority"] == f"xn--bcher-kva.example:{server.port}"
            assert fields[":path"] == "/gr%C3%BC%C3%9Fe?wer=%E4%B8%96%E7%95%8C"
            assert names == ["xn--bcher-kva.example"]
            peer.send(session_id, h3.response_frame(200))
            await connect
