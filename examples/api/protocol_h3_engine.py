"""HTTP/3 frames by hand: a request for a session, its answer, a stream, over a wire in memory."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from examples.certificate import make_certificate
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.protocol.events import HeadersReceived
from pywebtransport.protocol.h3_engine import WebTransportH3Engine
from pywebtransport.quic import QuicConfiguration, QuicConnection
from pywebtransport.quic.events import HandshakeCompleted

CLIENT, SERVER = ("127.0.0.1", 1111), ("127.0.0.1", 4433)
REQUEST = {
    ":method": "CONNECT",
    ":scheme": "https",
    ":authority": "localhost",
    ":path": "/",
    ":protocol": "webtransport",
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        near = QuicConfiguration(cafile=pair.certfile, max_datagram_frame_size=65_535)
        far = QuicConfiguration(is_client=False, max_datagram_frame_size=65_535)
        far.load_cert_chain(pair.certfile, pair.keyfile)
        client: Any = QuicConnection(configuration=near)
        server: Any = QuicConnection(configuration=far)
    engines: dict[Any, WebTransportH3Engine] = {}
    client.connect(SERVER, 0.0)
    for step in range(40):
        now = step / 100
        for quic, config in ((client, ClientConfig()), (server, ServerConfig())):
            while (event := quic.next_event()) is not None:
                if isinstance(event, HandshakeCompleted):
                    engine = engines[quic] = WebTransportH3Engine(quic, config=config)
                    if quic is client:
                        engine.send_headers(stream_id=0, headers=REQUEST)
                if quic not in engines:
                    continue
                for told in await engines[quic].handle_event(event=event):
                    print("client" if quic is client else "server", "sees", told)
                    if isinstance(told, HeadersReceived):
                        greet(engines[quic])
        for packet, _ in client.datagrams_to_send(now):
            server.receive_datagram(packet, CLIENT, now)
        for packet, _ in server.datagrams_to_send(now):
            client.receive_datagram(packet, SERVER, now)


def greet(engine: WebTransportH3Engine) -> None:
    """The server accepts the session; the client, told of that, opens a stream in it."""
    if engine.is_client:
        stream_id = engine.create_webtransport_stream(control_stream_id=0)
        engine.send_data(stream_id=stream_id, data=b"hello", end_stream=True)
    else:
        engine.send_headers(stream_id=0, headers={":status": "200"})


if __name__ == "__main__":
    asyncio.run(main())
