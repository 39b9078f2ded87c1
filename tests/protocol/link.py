"""Two protocol handlers on two QUIC connections, joined in memory by a clock of their own."""

from __future__ import annotations

import asyncio
import importlib
import ssl
from typing import Any

from pywebtransport.events import Event
from pywebtransport.protocol import WebTransportProtocolHandler
from pywebtransport.types import EventType
from tests.support.certificate import Certificate

PACKAGES = {"aioquic": "aioquic", "qh3": "qh3", "native": "pywebtransport"}
CLIENT, SERVER = ("127.0.0.1", 1111), ("127.0.0.1", 4433)
HORIZON = 0.5
"""How far the clock goes for timers before nothing more is to be expected."""


def quic_connection(
    kind: str, certificate: Certificate, *, is_client: bool, first_packet: bytes = b""
) -> Any:
    package = PACKAGES[kind]
    configuration = importlib.import_module(f"{package}.quic.configuration").QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["h3"],
        max_datagram_frame_size=65535,
        **({"server_name": "localhost"} if is_client else {}),
    )
    if is_client:
        configuration.verify_mode = ssl.CERT_NONE
    else:
        configuration.load_cert_chain(certificate.certfile, certificate.keyfile)
    # A server wants to know the id that the client's first packet chose (RFC 9000 §17.2).
    original_id = first_packet[6 : 6 + first_packet[5]] if first_packet else None
    return importlib.import_module(f"{package}.quic.connection").QuicConnection(
        configuration=configuration, original_destination_connection_id=original_id
    )


class End:
    """One handler, its QUIC connection, and what it emitted."""

    def __init__(self, quic: Any, *, is_client: bool, connection: Any = None) -> None:
        self.quic = quic
        self.emitted: list[tuple[str, dict[str, Any]]] = []
        self.transmissions = 0
        self.handler = WebTransportProtocolHandler(
            quic_connection=quic,
            trigger_transmission=self._on_trigger,
            is_client=is_client,
            connection=connection,
        )
        self.handler.on_any(handler=self._on_event)

    def _on_trigger(self) -> None:
        self.transmissions += 1

    def _on_event(self, event: Event) -> None:
        assert isinstance(event.data, dict)
        self.emitted.append((event.type, event.data))

    def of(self, event_type: EventType) -> list[dict[str, Any]]:
        return [data for kind, data in self.emitted if kind == event_type]

    def last(self, event_type: EventType) -> dict[str, Any]:
        return self.of(event_type)[-1]


class Link:
    """A client and a server."""

    def __init__(self, client_kind: str, server_kind: str, certificate: Certificate) -> None:
        self.now = 1000.0
        self.client = End(quic_connection(client_kind, certificate, is_client=True), is_client=True)
        self.client.quic.connect(SERVER, self.now)
        first = [data for data, _ in self.client.quic.datagrams_to_send(self.now)]
        self.server = End(
            quic_connection(server_kind, certificate, is_client=False, first_packet=first[0]),
            is_client=False,
        )
        for data in first:
            self.server.quic.receive_datagram(data, CLIENT, self.now)

    async def settle(self) -> None:
        """Until both ends have nothing more to say."""
        limit = self.now + HORIZON
        while True:
            if await self._exchange():
                continue
            timers = [at for end in (self.client, self.server) if (at := end.quic.get_timer())]
            if not timers or min(timers) > limit:
                break
            self.now = max(self.now, min(timers))
            for end in (self.client, self.server):
                at = end.quic.get_timer()
                if at is not None and at <= self.now:
                    end.quic.handle_timer(self.now)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        await asyncio.sleep(0)  # events of the application's own calls come in a task

    async def _exchange(self) -> bool:
        moved = False
        for sender, receiver, address in (
            (self.client, self.server, CLIENT),
            (self.server, self.client, SERVER),
        ):
            while (event := sender.quic.next_event()) is not None:
                await sender.handler.handle_quic_event(event=event)
                moved = True
            for data, _ in sender.quic.datagrams_to_send(self.now):
                receiver.quic.receive_datagram(data, address, self.now)
                moved = True
        return moved

    async def session(self, path: str = "/") -> tuple[str, str, int]:
        """A connected session: the client's token, the server's, the stream's id."""
        token, stream_id = await self.client.handler.create_webtransport_session(path=path)
        await self.settle()
        server_token = self.server.last(EventType.SESSION_REQUEST)["session_id"]
        self.server.handler.accept_webtransport_session(
            stream_id=stream_id, session_id=server_token
        )
        await self.settle()
        return token, server_token, stream_id
