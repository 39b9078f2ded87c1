"""The seam between the documented API and the engines, in WebTransport terms.

The facade (client, server, connection, session, stream, datagram) is written against
:class:`EngineConnection` and implements :class:`ConnectionSink`. An engine implements the
former and calls the latter. Nothing else crosses.

The contract, once:

* One engine endpoint belongs to one running event loop; every call and every notification
  happens on that loop's thread. No method here blocks or awaits unless it is a coroutine.
* ``session_id`` is the id of the CONNECT stream, ``stream_id`` the QUIC stream id.
* Reads and writes are edge-triggered. After ``stream_read`` gave less than it was asked for, and
  not the end, and after ``open_stream``, exactly one ``stream_readable`` follows when there is
  something to read (data, end, or a reset). After ``stream_write`` accepted less than it was
  given, exactly one ``stream_writable`` follows.
  ``open_stream`` returning ``None`` is followed by ``streams_available``;
  ``receive_datagram`` returning ``None`` by ``datagrams_readable``.
* A sink method may call back into the engine, must return quickly and must not raise.
* QUIC and session credit go back to the peer when the application reads, not when bytes
  arrive: that is the back-pressure.
* After ``closed`` no further notification comes; every later call is a no-op or raises
  :class:`EngineClosed`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from pywebtransport.config import ClientConfig, ServerConfig
    from pywebtransport.types import Address

__all__ = [
    "FIRST_SESSION",
    "BoundSocket",
    "CloseInfo",
    "ConnectionSink",
    "Engine",
    "EngineClosed",
    "EngineConnection",
    "EngineListener",
    "EngineStats",
    "Handshakes",
    "RequestHead",
    "SessionRefused",
    "SessionRequest",
    "StreamFinished",
    "WorkerPlace",
]


FIRST_SESSION = 0
"""The first stream that a client opens in both directions (RFC 9000 §2.1)."""


class EngineClosed(Exception):
    """The QUIC connection is gone."""


class StreamFinished(Exception):
    """A write, finish or reset on a stream whose sending side has already ended."""


class SessionRefused(Exception):
    """The session is unknown, not established, or already ended."""


class SessionRequest(NamedTuple):
    """A request for a session: a peer's, which waits for its answer, or one of ours to be sent."""

    session_id: int
    authority: str
    path: str
    headers: dict[str, str]
    """Request fields, lower-case names, pseudo-header fields included; whose the request is."""
    protocols: Sequence[str] = ()
    """Application protocols the client offered, in its order of preference."""
    dialect: str = ""
    """``"02"``, ``"07"``, ``"13"`` or ``"15"``: the draft family both sides speak."""


class RequestHead(NamedTuple):
    """An ordinary HTTP request, up to its body."""

    stream_id: int
    method: str
    scheme: str
    authority: str
    path: str
    """With the query."""
    headers: list[tuple[bytes, bytes]]
    """Without pseudo-header fields, lower-case names, in order; cookies in one line."""
    expects_continue: bool
    """``expect: 100-continue``: the client may wait for status 100 before it sends the body."""


class CloseInfo(NamedTuple):
    """Why a QUIC connection ended."""

    code: int
    reason: str
    by: str
    """``"local"``, ``"remote"`` or ``"transport"`` (idle timeout, TLS failure, reset...)."""
    is_application: bool = True
    """True when ``code`` is an HTTP/3 code, False when it is a QUIC transport code."""


@dataclass(slots=True)
class EngineStats:
    """One snapshot of a connection; times in seconds, sizes in bytes."""

    rtt: float = 0.0
    cwnd: int = 0
    bytes_in_flight: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    datagrams_dropped: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    """``bytes_lost``, ``min_rtt``, ``rtt_variation`` where the engine tells, counters of the
    protocol core, and where each datagram is. Those that the application sent
    are ``datagrams_sent``, of which QUIC took ``datagrams_lost`` for lost, ``datagrams_waiting``,
    or ``datagrams_dropped_outgoing``; those that came are with the application or
    ``datagrams_dropped_incoming`` (its queue was full) or ``datagrams_dropped_early`` (they were
    of no session)."""


class ConnectionSink(Protocol):
    """What an engine tells the facade about one QUIC connection."""

    def session_requested(self, request: SessionRequest) -> None:
        """Server: a CONNECT arrived. Answer with accept_session or reject_session."""

    def session_established(
        self, session_id: int, protocol: str | None, headers: Mapping[str, str]
    ) -> None:
        """Client: a 2xx answer arrived."""

    def session_rejected(
        self, session_id: int, status: int, headers: Mapping[str, str], reason: str
    ) -> None:
        """Client: a non-2xx answer arrived; ``status`` 0 when the stream was reset instead, or the
        request could not be sent: then ``reason`` says why."""

    def session_draining(self, session_id: int) -> None:
        """DRAIN capsule or GOAWAY; the session stays usable."""

    def session_closed(
        self, session_id: int, code: int, reason: str, by: str, error: int | None
    ) -> None:
        """The session ended, exactly once; ``error`` is the HTTP/3 code of an end that was neither
        CLOSE nor FIN. Its streams have been told before, but for receiving sides that had come
        whole. These, and datagrams, can be read while this runs, and may be gone afterwards.
        """

    def request_received(
        self,
        stream_id: int,
        method: str,
        scheme: str,
        authority: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        expects_continue: bool,
    ) -> None:
        """Server: an ordinary request, as in ``RequestHead``. stream_read reads its body, respond,
        stream_write and finish_response answer it, and abort_request ends it in any state."""

    def request_trailers(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> None:
        """They come after a body, whose end is readable afterwards."""

    def request_aborted(self, stream_id: int, code: int) -> None:
        """The client reset or stopped the request, or broke a rule: it is over. An HTTP/3 code."""

    def streams_available(self, session_id: int, unidirectional: bool) -> None:
        """open_stream may succeed again."""

    def stream_opened(self, session_id: int, stream_id: int) -> None:
        """The peer opened a stream in an established session."""

    def stream_readable(self, stream_id: int) -> None:
        """stream_read will return something."""

    def stream_writable(self, stream_id: int) -> None:
        """stream_write will accept something."""

    def stream_reset(self, stream_id: int, code: int) -> None:
        """The peer reset its sending side, with this HTTP/3 code."""

    def stream_stopped(self, stream_id: int, code: int) -> None:
        """The peer asked us to stop sending, with this HTTP/3 code; the engine has answered with a
        reset."""

    def datagrams_readable(self, session_id: int) -> None:
        """receive_datagram will return something."""

    def datagrams_writable(self, session_id: int) -> None:
        """offer_datagram will take something."""

    def closed(self, info: CloseInfo) -> None:
        """The QUIC connection is gone; sessions and streams have been told before."""


class EngineConnection(Protocol):
    """One QUIC connection with its HTTP/3 and WebTransport state."""

    @property
    def is_client(self) -> bool: ...
    @property
    def local_address(self) -> Address | None:
        """Stays known after the end."""

    @property
    def remote_address(self) -> Address | None:
        """Where the peer is now (it may migrate), or was at the end."""

    def set_sink(self, sink: ConnectionSink) -> None:
        """Attach the facade; notifications that came before are delivered then."""

    # sessions
    def open_session(
        self,
        *,
        authority: str,
        path: str,
        headers: Mapping[str, str],
        protocols: Sequence[str] = (),
    ) -> int:
        """Client: request a session; session_established or session_rejected follows."""

    def accept_session(
        self, session_id: int, *, protocol: str | None = None, headers: Mapping[str, str] = {}
    ) -> None: ...
    def reject_session(
        self, session_id: int, *, status: int, headers: Mapping[str, str] = {}
    ) -> None: ...
    def close_session(self, session_id: int, *, code: int, reason: str) -> None:
        """CLOSE capsule and FIN; resets the session's streams. session_closed follows at once."""

    def drain_session(self, session_id: int) -> None: ...

    # requests
    def respond(
        self, stream_id: int, *, status: int, headers: Sequence[tuple[bytes, bytes]], fin: bool
    ) -> None:
        """An interim response or the head of the final one. StreamFinished: the request is over;
        ValueError: it cannot be sent."""

    def finish_response(
        self, stream_id: int, *, trailers: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        """The end of the body. Errors as of respond()."""

    def abort_request(self, stream_id: int, code: int) -> None:
        """Reset what is unsent and stop what is unread, with an HTTP/3 code; the request is over.
        A no-op when it is already."""

    # streams
    def open_stream(self, session_id: int, unidirectional: bool) -> int | None:
        """A new stream's id, or None while QUIC or session limits forbid one."""

    def stream_read(self, stream_id: int, max_size: int) -> tuple[bytes, bool]:
        """Up to ``max_size`` bytes (-1: all there is), and whether they are the last: then the end,
        or a reset, has been read with them."""

    def stream_write(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool) -> int:
        """Accepted bytes, from the front of ``data``; FIN is taken only with the last byte."""

    def stream_reset(self, stream_id: int, code: int) -> None:
        """RESET_STREAM with the application code mapped."""

    def stream_stop(self, stream_id: int, code: int) -> None:
        """STOP_SENDING with the application code mapped; unread data is dropped."""

    def set_stream_priority(self, stream_id: int, priority: int) -> None:
        """What waits on streams of a higher priority goes first; 0 until this says otherwise."""

    # datagrams
    def max_datagram_size(self, session_id: int) -> int:
        """The largest payload that fits now; 0 when the peer takes no datagrams."""

    def send_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> bool:
        """Queue one datagram. False: the outgoing queue was full and its oldest was dropped."""

    def offer_datagram(self, session_id: int, data: bytes | bytearray | memoryview) -> bool:
        """Queue one datagram if there is room. False: there is none, datagrams_writable follows."""

    def offer_datagrams(
        self, session_id: int, datagrams: list[bytes | bytearray | memoryview]
    ) -> int:
        """Queue several in order, up to the first that is too large or finds no room: how many that
        were. datagrams_writable follows if it was room. What is raised is about the first."""

    def receive_datagram(self, session_id: int) -> bytes | None: ...
    def receive_datagrams(self, session_id: int, max_count: int) -> list[bytes]: ...
    def datagrams_dropped(self, session_id: int) -> int:
        """How many received ones made room for newer ones; 0 once the end has been told."""

    # connection
    def session_flow(self, session_id: int) -> dict[str, int]:
        """Session flow control by the field names of ``WebTransportSessionInfo``; {} without."""

    def stats(self) -> EngineStats:
        """Figures as they are now, or were at the end."""

    def peer_certificates(self) -> list[bytes]:
        """What the peer showed, in DER, leaf first; EngineClosed at the end."""

    def export_keying_material(
        self, session_id: int, label: bytes, context: bytes, length: int
    ) -> bytes:
        """webtrans-http3-16 §4.9's exporter, or NotImplementedError naming the engine."""

    def send_goaway(self) -> None: ...
    def close(self, *, code: int, reason: str) -> None:
        """CONNECTION_CLOSE; ``closed`` follows on the sink within the configuration's
        ``close_timeout``, whatever the peer does. Idempotent."""

    async def wait_closed(self) -> None:
        """Until the peer can no longer need us (draining period excluded)."""


@dataclass(frozen=True)
class WorkerPlace:
    """A process's place among several that serve one port together.

    The file descriptors of ``inbox`` and ``outboxes`` are given away with it.
    """

    index: int
    """Counted from 0."""
    count: int
    """How many places there are."""
    secret: bytes
    """The same in all of them: what their reset, token and ticket keys are made from."""
    inbox: int
    """A Unix socket with packets that others were given and that belong here."""
    outboxes: tuple[int, ...]
    """For packets that were given to this process and belong to another, by place."""


@dataclass(frozen=True)
class BoundSocket:
    """A UDP socket to listen on that somebody else has bound; the listener closes it."""

    sock: socket.socket
    place: WorkerPlace | None = None


@dataclass(slots=True)
class Handshakes:
    """What a listener has done with clients that begin, since it began itself."""

    begun: int = 0
    """Connections that were made, whatever became of them."""
    retried: int = 0
    """Clients that were sent a Retry packet: they had to prove their address."""
    refused_full: int = 0
    """Refused since ``max_connections`` were there."""
    refused_network: int = 0
    """Refused since ``max_connections_per_address`` were there from the same network."""
    refused_leaving: int = 0
    """Refused since the listener closes."""

    def __add__(self, other: Handshakes) -> Handshakes:
        return Handshakes(
            *(getattr(self, name) + getattr(other, name) for name in Handshakes.__slots__)
        )


class EngineListener(Protocol):
    """A bound server socket."""

    @property
    def local_address(self) -> Address:
        """The first of ``local_addresses``."""

    @property
    def local_addresses(self) -> list[Address]:
        """One for each address of the host; all have the same port."""

    def handshakes(self) -> Handshakes:
        """The counts so far."""

    def reload_certificate(self, *, certfile: str, keyfile: str) -> None:
        """New connections use the new pair; running ones are untouched."""

    async def close(self) -> None:
        """Close every connection, flush, release the socket; when cancelled, only that, at once."""


class Engine(Protocol):
    """A way to carry WebTransport: ``native`` or ``aioquic``."""

    name: str

    async def listen(
        self,
        *,
        config: ServerConfig,
        host: str,
        port: int,
        on_connection: Callable[[EngineConnection], None],
        serves_requests: bool = False,
        reuse_port: bool = False,
        sockets: Sequence[BoundSocket] = (),
    ) -> EngineListener:
        """Bind, or take ``sockets``; ``on_connection`` is called for every completed handshake.

        ``reuse_port``: with SO_REUSEPORT, so that others may bind the same address.
        ``serves_requests``: sinks are told of ordinary requests, which else are answered with 404.

        OSError: the address cannot be bound. CertificateError: the pair cannot be used.
        """

    async def connect(
        self,
        *,
        config: ClientConfig,
        host: str,
        port: int,
        remote: Address | None = None,
        request: SessionRequest | None = None,
    ) -> EngineConnection:
        """A connection whose handshake is complete and whose peer speaks HTTP/3.

        ``host`` is verified and sent as SNI; ``remote`` is where packets go when not there.
        ``request`` is sent as soon as the protocol allows, as session FIRST_SESSION; ValueError:
        it cannot be sent.
        Raises ConnectionError, HandshakeError, CertificateError, TimeoutError (the package's).
        """
