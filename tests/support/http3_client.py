"""An HTTP/3 client over aioquic's own stack: requests, and what came in answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StopSendingReceived, StreamReset

__all__ = ["Fields", "Http3Client", "Response", "connected"]

Fields = list[tuple[bytes, bytes]]
PATIENCE = 10.0


@dataclass
class Response:
    """What has come on one request's stream."""

    stream_id: int
    sections: list[Fields] = field(default_factory=list)
    """Interim responses, the final one, trailers."""
    body: bytearray = field(default_factory=bytearray)
    is_ended: bool = False
    reset: int | None = None
    stopped: int | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def statuses(self) -> list[int]:
        fields = [field for section in self.sections for field in section]
        return [int(value) for name, value in fields if name == b":status"]

    @property
    def status(self) -> int:
        return self.statuses[-1]

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Of the final response."""
        return dict(next(fields for fields in self.sections if not is_interim(fields)))

    @property
    def trailers(self) -> Fields:
        last = self.sections[-1]
        return [] if any(name == b":status" for name, _ in last) else last

    async def until(self, condition: Any) -> Response:
        """Wait until ``condition(self)`` is true; fails when it can no more be."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()
        return self

    async def whole(self) -> Response:
        await self.until(lambda r: r.is_ended or r.reset is not None)
        assert self.reset is None, f"reset with {self.reset:#x}"
        return self

    async def until_reset(self) -> int:
        await self.until(lambda r: r.reset is not None)
        assert self.reset is not None
        return self.reset


def is_interim(fields: Fields) -> bool:
    return dict(fields).get(b":status", b"").startswith(b"1")


class Http3Client(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic, enable_webtransport=True)
        self.responses: dict[int, Response] = {}
        self.closed: ConnectionTerminated | None = None
        self.goaway = asyncio.Event()

    def request(
        self,
        method: str,
        path: str,
        headers: Fields | None = None,
        body: bytes | None = None,
        *,
        end: bool = True,
        authority: str = "localhost",
    ) -> Response:
        """Send a request, with its end unless ``end`` is False."""
        fields = [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            *(headers or []),
        ]
        return self.raw_request(fields, body, end=end)

    def raw_request(
        self, fields: Fields, body: bytes | None = None, *, end: bool = True
    ) -> Response:
        stream_id = self._quic.get_next_available_stream_id()
        response = self.responses[stream_id] = Response(stream_id)
        self.http.send_headers(stream_id, fields, end_stream=end and body is None)
        if body is not None:
            self.http.send_data(stream_id, body, end_stream=end)
        self.transmit()
        return response

    def send(self, response: Response, data: bytes, *, end: bool = False) -> None:
        """More of a request's body."""
        self.http.send_data(response.stream_id, data, end_stream=end)
        self.transmit()

    def trailers(self, response: Response, fields: Fields) -> None:
        self.http.send_headers(response.stream_id, fields, end_stream=True)
        self.transmit()

    def give_up(self, response: Response, code: int = 0x10C) -> None:
        """Reset the request and stop its response."""
        stream = self._quic._streams[response.stream_id]
        if not stream.sender.is_finished and stream.sender._buffer_fin is None:
            self._quic.reset_stream(response.stream_id, code)
        self._quic.stop_stream(response.stream_id, code)
        self.transmit()

    async def get(self, path: str, headers: Fields | None = None) -> Response:
        return await self.request("GET", path, headers).whole()

    async def post(self, path: str, body: bytes, headers: Fields | None = None) -> Response:
        return await self.request("POST", path, headers, body).whole()

    def quic_event_received(self, event: QuicEvent) -> None:
        response = self.responses.get(getattr(event, "stream_id", -1))
        if response is not None:
            if isinstance(event, StreamReset):
                response.reset = event.error_code
            elif isinstance(event, StopSendingReceived):
                response.stopped = event.error_code
            response.changed.set()
        if isinstance(event, ConnectionTerminated):
            self.closed = event
            for each in self.responses.values():
                each.changed.set()
        for heard in self.http.handle_event(event):
            self._heard(heard)

    def _heard(self, event: H3Event) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        response = self.responses[event.stream_id]
        if isinstance(event, HeadersReceived):
            response.sections.append(event.headers)
        else:
            response.body += event.data
        response.is_ended = response.is_ended or event.stream_ended
        response.changed.set()


@asynccontextmanager
async def connected(port: int, **settings: Any) -> AsyncIterator[Http3Client]:
    """A client whose handshake is complete."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=H3_ALPN,
        verify_mode=ssl.CERT_NONE,
        max_datagram_frame_size=65_535,
        server_name="localhost",
        **settings,
    )
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Http3Client
    ) as client:
        assert isinstance(client, Http3Client)
        yield client
