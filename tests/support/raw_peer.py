"""A peer over real UDP that sends exactly the bytes it is told, and remembers what comes.

QUIC is aioquic's own `QuicConnection`; nothing of the code under test takes part. The bytes of
HTTP/3 and WebTransport come from :mod:`tests.support.raw_http3`, or from the test's own hand::

    async with raw_client(port) as peer:                     # a client of the server under test
        peer.send(peer.open(unidirectional=True), control_stream(SETTINGS_OF["02"]))
        session = peer.open()
        peer.send(session, connect_frame(path="/chat"))
        assert (await peer.response(session))[":status"] == "200"
        peer.send(peer.open(), bidi_header(session) + b"hello", fin=True)

    async with RawServer(certificate) as server:             # a server for the client under test
        peer = await server.accept()
        peer.send(peer.open(unidirectional=True), control_stream(SERVER_SETTINGS))
        session, fields = await peer.request()
        peer.send(session, response_frame(200))

Verbs (`send`, `reset`, `stop`, `datagram`, `frames`, `close`) only queue: what one turn of the
event loop queues goes out together at its end, `flush()` sends it now. `await
peer.until(condition)` waits, bounded, for anything that may be asked of a peer's records:

* ``peer.streams[id]``: ``data``, ``fin``, ``reset`` (a :class:`Reset`), ``stopped`` (a code);
* ``peer.datagrams``: payloads of DATAGRAM frames; ``peer.closed``: a :class:`Closed` or None;
* ``peer.settings``, ``peer.fields(id)``, ``peer.capsules(id)``: what those bytes say so far.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeVar, cast

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import UINT_VAR_MAX_SIZE, encode_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import EPOCHS, QuicConnection, QuicConnectionState
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder

from tests.support import raw_http3 as h3
from tests.support.certificate import Certificate

PATIENCE = 10.0
"""Seconds until a peer that waits for something fails its test."""
RESET_STREAM_AT = 0x24
RESET_STREAM_AT_PARAMETER = 0x1D
CONNECTION_ID_SIZE = 8

T = TypeVar("T")


class Reset(NamedTuple):
    code: int
    final_size: int
    reliable_size: int | None = None
    """None: it was a plain RESET_STREAM."""


class Closed(NamedTuple):
    code: int
    reason: str
    is_application: bool
    """Whether the code is one of HTTP/3, rather than one of QUIC."""
    is_by_us: bool


@dataclass
class Stream:
    """What has come on one stream."""

    data: bytearray = field(default_factory=bytearray)
    fin: bool = False
    reset: Reset | None = None
    stopped: int | None = None
    """The code of the STOP_SENDING that came for our side."""

    @property
    def is_ended(self) -> bool:
        return self.fin or self.reset is not None


class RawQuic(QuicConnection):
    """aioquic's connection with the few doors that tests need."""

    def __init__(
        self,
        *,
        reset_stream_at: bool,
        transport_parameters: Iterable[tuple[int, bytes]],
        gives_credit: bool,
        max_streams_bidi: int,
        max_streams_uni: int,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._gives_credit = gives_credit
        self._parameters = list(transport_parameters)
        if reset_stream_at:
            self._parameters.append((RESET_STREAM_AT_PARAMETER, b""))
        for limit, value in (
            (self._local_max_streams_bidi, max_streams_bidi),
            (self._local_max_streams_uni, max_streams_uni),
        ):
            limit.value = limit.sent = value
        self.payloads: deque[bytes] = deque()
        """Packets to be sent as they are: the frames of each."""
        self.resets: dict[int, Reset] = {}
        self.peer_parameters: dict[int, bytes] = {}
        handlers = cast(dict[int, Any], self.__dict__["_QuicConnection__frame_handlers"])
        handlers[RESET_STREAM_AT] = (self._handle_reset_stream_at, EPOCHS("01"))

    def is_open(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def _serialize_transport_parameters(self) -> bytes:
        return super()._serialize_transport_parameters() + b"".join(
            encode_uint_var(number) + encode_uint_var(len(value)) + value
            for number, value in self._parameters
        )

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        buf = Buffer(data=data)
        while not buf.eof():
            number = buf.pull_uint_var()
            self.peer_parameters[number] = buf.pull_bytes(buf.pull_uint_var())

    def _handle_reset_stream_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id, code, final_size = (buf.pull_uint_var() for _ in range(3))
        self.resets.setdefault(stream_id, Reset(code, final_size))
        buf.seek(start)
        super()._handle_reset_stream_frame(context, frame_type, buf)

    def _handle_reset_stream_at(self, context: Any, frame_type: int, buf: Buffer) -> None:
        stream_id, code, final_size, reliable_size = (buf.pull_uint_var() for _ in range(4))
        self.resets[stream_id] = Reset(code, final_size, reliable_size)
        self._reset_if_complete(context, stream_id)

    def _handle_stream_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_stream_frame(context, frame_type, buf)
        self._reset_if_complete(context, stream_id)

    def _reset_if_complete(self, context: Any, stream_id: int) -> None:
        reset, stream = self.resets.get(stream_id), self._streams.get(stream_id)
        if reset is None or reset.reliable_size is None:
            return
        if reset.reliable_size and (
            stream is None or stream.receiver.starting_offset() < reset.reliable_size
        ):
            return
        plain = b"".join(map(encode_uint_var, (stream_id, reset.code, reset.final_size)))
        super()._handle_reset_stream_frame(context, 0x04, Buffer(data=plain))

    def _write_application(self, builder: QuicPacketBuilder, network_path: Any, now: float) -> None:
        crypto = self._cryptos[tls.Epoch.ONE_RTT]
        while self.payloads and crypto.send.is_valid():
            payload = self.payloads.popleft()
            read = h3.read_varint(payload)
            assert read is not None, "a payload begins with a frame's type"
            frame_type, size = read
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            # The builder writes the type, as a varint of the shortest form.
            buf = builder.start_frame(frame_type, capacity=len(payload) + UINT_VAR_MAX_SIZE)
            buf.push_bytes(payload[size:])
        super()._write_application(builder, network_path, now)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: Any) -> None:
        if self._gives_credit:
            super()._write_connection_limits(builder, space)

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: Any, stream: Any) -> None:
        if self._gives_credit:
            super()._write_stream_limits(builder, space, stream)


class RawPeer:
    """One end of one QUIC connection."""

    def __init__(self, quic: RawQuic, transmit: Callable[[bytes, Any], None]) -> None:
        self.quic = quic
        self.streams: dict[int, Stream] = defaultdict(Stream)
        self.datagrams: list[bytes] = []
        self.closed: Closed | None = None
        self.is_connected = False
        self.pings = 0
        """How many of our PINGs the peer has acknowledged."""
        self.is_mute = False
        """What this peer would send is lost, for as long as this is set; acknowledgements too."""
        self.socket: Any = None
        """A client's own."""
        self._transmit = transmit
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._flush_handle: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._requests_taken: set[int] = set()
        self.on_connection_id: Callable[[bytes, bool], None] = lambda _id, _is_new: None

    # what it is told to do

    def open(self, unidirectional: bool = False) -> int:
        """The id of a new stream; the peer learns of it with the first bytes."""
        stream_id = self.quic.get_next_available_stream_id(unidirectional)
        self.quic.send_stream_data(stream_id, b"")
        return stream_id

    def send(self, stream_id: int, data: bytes = b"", fin: bool = False) -> None:
        self.quic.send_stream_data(stream_id, data, fin)
        self._flush_soon()

    def reset(self, stream_id: int, code: int) -> None:
        """RESET_STREAM with an HTTP/3 code, as it is."""
        self.quic.reset_stream(stream_id, code)
        self._flush_soon()

    def stop(self, stream_id: int, code: int) -> None:
        """STOP_SENDING with an HTTP/3 code, as it is."""
        self.quic.stop_stream(stream_id, code)
        self._flush_soon()

    def datagram(self, payload: bytes) -> None:
        """A DATAGRAM frame; see :func:`raw_http3.datagram` for what belongs inside."""
        self.quic.send_datagram_frame(payload)
        self._flush_soon()

    def frames(self, payload: bytes) -> None:
        """One packet with exactly these QUIC frames, which aioquic knows nothing of.

        They are not sent again when lost. Answers about streams that aioquic does not know close
        the connection: `open` them first.
        """
        self.quic.payloads.append(payload)
        self._flush_soon()

    def close(self, code: int = 0x100, reason: str = "", is_application: bool = True) -> None:
        self.quic.close(
            error_code=code, frame_type=None if is_application else 0, reason_phrase=reason
        )
        self._flush_soon()

    def vanish(self) -> None:
        """Stop for good without a word, as a killed process does."""
        self.is_mute = True
        self._stop_timer()

    # what it has seen

    async def until(self, condition: Callable[[], T], seconds: float = PATIENCE) -> T:
        """The first true value of ``condition``, looked at whenever something has come."""
        async with asyncio.timeout(seconds):
            while not (result := condition()):
                self._changed.clear()
                await self._changed.wait()
            return result

    async def wait_closed(self, seconds: float = PATIENCE) -> Closed:
        closed = await self.until(lambda: self.closed, seconds)
        assert closed is not None
        return closed

    async def round_trip(self) -> None:
        """The peer has taken the packets sent so far, or the connection has ended."""
        acknowledged = self.pings
        for _ in range(2):
            # Two packets: one alone may be acknowledged late.
            self.quic.send_ping(acknowledged)
            self.flush()
        await self.until(lambda: self.pings > acknowledged or self.closed)

    def is_delivered(self, stream_id: int) -> bool:
        """Whether the peer has acknowledged every byte sent on a stream, or we have reset it."""
        stream = self.quic._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return True
        return stream.sender._buffer_start == stream.sender._buffer_stop

    def uni(self, stream_type: int) -> list[int]:
        """Ids of the peer's unidirectional streams of a type, in their order."""
        ours = not self.quic.configuration.is_client
        return [
            stream_id
            for stream_id, stream in sorted(self.streams.items())
            if stream_id & 2
            and bool(stream_id & 1) != ours
            and (first := h3.read_varint(bytes(stream.data))) is not None
            and first[0] == stream_type
        ]

    @property
    def control_frames(self) -> list[h3.Frame]:
        """What the peer has said on its control stream."""
        for stream_id in self.uni(h3.CONTROL):
            return h3.split_frames(bytes(self.streams[stream_id].data[1:]))
        return []

    @property
    def settings(self) -> dict[int, int] | None:
        """The peer's SETTINGS; None until they have come."""
        for frame in self.control_frames:
            return h3.read_settings(frame.payload)
        return None

    def fields(self, stream_id: int) -> list[tuple[str, str]] | None:
        """The last HEADERS of a stream."""
        sections = [
            frame.payload
            for frame in h3.split_frames(bytes(self.streams[stream_id].data))
            if frame.type == h3.HEADERS
        ]
        return h3.read_fields(sections[-1]) if sections else None

    def capsules(self, session_id: int, type_: int | None = None) -> list[h3.Frame]:
        """The whole capsules of a session so far; those of one type."""
        capsules = h3.split_capsules(bytes(self.streams[session_id].data))
        return [capsule for capsule in capsules if type_ in (None, capsule.type)]

    async def response(self, session_id: int) -> dict[str, str]:
        """Client: the answer to a request; AssertionError when it was reset instead."""
        stream = self.streams[session_id]
        await self.until(lambda: self.fields(session_id) or stream.reset or self.closed)
        fields = self.fields(session_id)
        assert fields is not None, f"no answer: {stream.reset}, {self.closed}"
        return dict(fields)

    async def request(self) -> tuple[int, dict[str, str]]:
        """Server: the next request that has not been taken."""

        def find() -> list[int]:
            return [
                stream_id
                for stream_id in sorted(self.streams)
                if not stream_id & 3
                and stream_id not in self._requests_taken
                and self.streams[stream_id].data[:1] == bytes([h3.HEADERS])
                and self.fields(stream_id) is not None
            ]

        stream_id = (await self.until(find))[0]
        self._requests_taken.add(stream_id)
        return stream_id, dict(self.fields(stream_id) or ())

    # the machinery

    def packet_received(self, data: bytes, address: Any) -> None:
        self.quic.receive_datagram(data, address, self._loop.time())
        self._take_events()
        self._flush_soon()

    def flush(self) -> None:
        """Send what is queued now rather than at the end of this turn of the loop."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        for data, address in self.quic.datagrams_to_send(self._loop.time()):
            if not self.is_mute:
                self._transmit(data, address)
        self._look_for_close()
        self._stop_timer()
        if (at := self.quic.get_timer()) is not None:
            self._timer = self._loop.call_at(at, self._on_timer)

    def _flush_soon(self) -> None:
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def _on_timer(self) -> None:
        self._timer = None
        self.quic.handle_timer(self._loop.time())
        self._take_events()
        self.flush()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_events(self) -> None:
        while (event := self.quic.next_event()) is not None:
            match event:
                case events.HandshakeCompleted():
                    self.is_connected = True
                case events.PingAcknowledged():
                    self.pings += 1
                case events.StreamDataReceived():
                    stream = self.streams[event.stream_id]
                    stream.data += event.data
                    stream.fin = stream.fin or event.end_stream
                case events.StreamReset():
                    self.streams[event.stream_id].reset = self.quic.resets[event.stream_id]
                case events.StopSendingReceived():
                    self.streams[event.stream_id].stopped = event.error_code
                case events.DatagramFrameReceived():
                    self.datagrams.append(event.data)
                case events.ConnectionIdIssued():
                    self.on_connection_id(event.connection_id, True)
                case events.ConnectionIdRetired():
                    self.on_connection_id(event.connection_id, False)
        self._look_for_close()
        self._changed.set()

    def _look_for_close(self) -> None:
        # aioquic tells of the end only when the draining period is over.
        event = self.quic._close_event
        if event is not None and self.closed is None:
            self.closed = Closed(
                event.error_code,
                event.reason_phrase,
                event.frame_type is None,
                self.quic._state is not QuicConnectionState.DRAINING,
            )
            self._changed.set()


def _quic(
    *,
    is_client: bool,
    certificate: Certificate | None = None,
    alpn: str = "h3",
    max_datagram_frame_size: int | None = 65536,
    max_data: int = 1 << 20,
    max_stream_data: int = 1 << 20,
    max_streams_bidi: int = 128,
    max_streams_uni: int = 128,
    idle_timeout: float = 60.0,
    gives_credit: bool = True,
    reset_stream_at: bool = False,
    transport_parameters: Iterable[tuple[int, bytes]] = (),
    **ids: Any,
) -> RawQuic:
    """A connection with these transport parameters.

    ``gives_credit`` False: the initial limits are all that the peer ever gets.
    ``transport_parameters``: more of them, as number and value.
    """
    configuration = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[alpn],
        max_datagram_frame_size=max_datagram_frame_size,
        max_data=max_data,
        max_stream_data=max_stream_data,
        idle_timeout=idle_timeout,
        verify_mode=ssl.CERT_NONE,
        server_name="localhost" if is_client else None,
        connection_id_length=CONNECTION_ID_SIZE,
    )
    if certificate is not None:
        configuration.load_cert_chain(certificate.certfile, certificate.keyfile)
    return RawQuic(
        configuration=configuration,
        reset_stream_at=reset_stream_at,
        transport_parameters=transport_parameters,
        gives_credit=gives_credit,
        max_streams_bidi=max_streams_bidi,
        max_streams_uni=max_streams_uni,
        **ids,
    )


@asynccontextmanager
async def raw_client(
    port: int, *, host: str = "127.0.0.1", handshake: bool = True, **options: Any
) -> AsyncIterator[RawPeer]:
    """A client of ``host:port`` whose handshake is complete; the options of :func:`_quic`.

    ``handshake`` False: it has only sent its first flight, and may never complete it.
    The end of the block closes the connection, unless that has happened.
    """
    loop = asyncio.get_running_loop()
    peer: RawPeer

    class Endpoint(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _address: Any) -> None:
            peer.packet_received(data, (host, port))

    transport, _ = await loop.create_datagram_endpoint(Endpoint, remote_addr=(host, port))
    peer = RawPeer(_quic(is_client=True, **options), lambda data, _to: transport.sendto(data))
    peer.socket = transport.get_extra_info("socket")
    peer.quic.connect((host, port), now=loop.time())
    peer.flush()
    try:
        if handshake:
            await peer.until(lambda: peer.is_connected or peer.closed)
        yield peer
    finally:
        peer.close()
        peer.flush()
        peer._stop_timer()
        transport.close()


class RawServer:
    """A listening socket; `accept()` gives its connections one by one.

    The options are those of :func:`_quic`, for every connection.
    """

    def __init__(
        self, certificate: Certificate, *, host: str = "127.0.0.1", port: int = 0, **options: Any
    ) -> None:
        self.peers: list[RawPeer] = []
        self._address = (host, port)
        self._options = {"certificate": certificate, **options}
        self._accepted: asyncio.Queue[RawPeer] = asyncio.Queue()
        self._by_id: dict[bytes, RawPeer] = {}
        self._socket: asyncio.DatagramTransport | None = None

    @property
    def port(self) -> int:
        assert self._socket is not None
        return int(self._socket.get_extra_info("sockname")[1])

    async def accept(self) -> RawPeer:
        """The next connection, its handshake complete."""
        async with asyncio.timeout(PATIENCE):
            peer = await self._accepted.get()
        await peer.until(lambda: peer.is_connected or peer.closed)
        return peer

    async def __aenter__(self) -> Self:
        server = self

        class Endpoint(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, address: Any) -> None:
                server._packet_received(data, address)

        loop = asyncio.get_running_loop()
        self._socket, _ = await loop.create_datagram_endpoint(Endpoint, local_addr=self._address)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._socket is not None
        for peer in self.peers:
            peer.close()
            peer.flush()
            peer._stop_timer()
        self._socket.close()

    def _packet_received(self, data: bytes, address: Any) -> None:
        header = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_SIZE)
        peer = self._by_id.get(header.destination_cid)
        if peer is None:
            if (
                header.packet_type is not QuicPacketType.INITIAL
                or len(data) < SMALLEST_MAX_DATAGRAM_SIZE
            ):
                return
            peer = self._create(header.destination_cid)
        peer.packet_received(data, address)

    def _create(self, original_id: bytes) -> RawPeer:
        assert self._socket is not None
        quic = _quic(
            is_client=False, original_destination_connection_id=original_id, **self._options
        )
        peer = RawPeer(quic, self._socket.sendto)

        def change_id(connection_id: bytes, is_new: bool) -> None:
            if is_new:
                self._by_id[connection_id] = peer
            else:
                self._by_id.pop(connection_id, None)

        peer.on_connection_id = change_id
        change_id(original_id, True)
        change_id(quic.host_cid, True)
        self.peers.append(peer)
        self._accepted.put_nowait(peer)
        return peer


SERVER_SETTINGS = {
    h3.ENABLE_CONNECT_PROTOCOL: 1,
    h3.H3_DATAGRAM: 1,
    h3.ENABLE_WEBTRANSPORT: 1,
    h3.WEBTRANSPORT_MAX_SESSIONS: 16,
    h3.WT_MAX_SESSIONS: 1,
    h3.WT_ENABLED: 1,
}
"""A server of every draft, without session flow control."""
