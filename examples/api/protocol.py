"""The protocol without I/O, on a QUIC connection of your choice, over a wire in memory."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from examples.certificate import make_certificate
from pywebtransport.events import Event
from pywebtransport.protocol import WebTransportProtocolHandler
from pywebtransport.quic import QuicConfiguration, QuicConnection
from pywebtransport.types import EventType

CLIENT, SERVER = ("127.0.0.1", 1111), ("127.0.0.1", 4433)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        near = QuicConfiguration(cafile=pair.certfile, max_datagram_frame_size=65_535)
        far = QuicConfiguration(is_client=False, max_datagram_frame_size=65_535)
        far.load_cert_chain(pair.certfile, pair.keyfile)
        client, server = QuicConnection(configuration=near), QuicConnection(configuration=far)
        client_side = WebTransportProtocolHandler(quic_connection=client, is_client=True)
        server_side = WebTransportProtocolHandler(quic_connection=server, is_client=False)

    async def accept(event: Event) -> None:
        assert event.data is not None
        server_side.accept_webtransport_session(
            stream_id=event.data["control_stream_id"], session_id=event.data["session_id"]
        )

    server_side.on(event_type=EventType.SESSION_REQUEST, handler=accept)
    ready = asyncio.create_task(client_side.wait_for(event_type=EventType.SESSION_READY, timeout=5))
    client.connect(SERVER, 0.0)
    await client_side.create_webtransport_session(path="/")
    for step in range(40):
        now = step / 100
        for quic, handler in ((client, client_side), (server, server_side)):
            while (quic_event := quic.next_event()) is not None:
                await handler.handle_quic_event(event=quic_event)
        for packet, _ in client.datagrams_to_send(now):
            server.receive_datagram(packet, CLIENT, now)
        for packet, _ in server.datagrams_to_send(now):
            client.receive_datagram(packet, SERVER, now)
        await asyncio.sleep(0)
    print((await ready).type)
    await client_side.close()
    await server_side.close()


if __name__ == "__main__":
    asyncio.run(main())
