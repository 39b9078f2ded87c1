"""QUIC without I/O: two connections and a wire in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

from examples.certificate import make_certificate
from pywebtransport.quic import QuicConfiguration, QuicConnection, events

CLIENT, SERVER = ("127.0.0.1", 1111), ("127.0.0.1", 4433)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = make_certificate(Path(folder))
        configuration = QuicConfiguration(is_client=False)
        configuration.load_cert_chain(pair.certfile, pair.keyfile)
        server = QuicConnection(configuration=configuration)
        client = QuicConnection(configuration=QuicConfiguration(cafile=pair.certfile))

    client.connect(SERVER, now=0.0)
    for step in range(20):
        now = step / 100
        while (event := client.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                stream_id = client.get_next_available_stream_id()
                client.send_stream_data(stream_id, b"hello", end_stream=True)
        while (event := server.next_event()) is not None:
            print(event)
        for packet, _ in client.datagrams_to_send(now):
            server.receive_datagram(packet, CLIENT, now)
        for packet, _ in server.datagrams_to_send(now):
            client.receive_datagram(packet, SERVER, now)


if __name__ == "__main__":
    main()
