"""Asking an HTTP/3 proxy for a way to a server.

A CONNECT request without ``:protocol`` on a QUIC connection of its own. When the proxy agrees, that
connection is dropped and the packets for the server are sent to the proxy's address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived, StreamReset

from pywebtransport._engine.addresses import plain_address
from pywebtransport._engine.rules import client_verify_mode
from pywebtransport._native import (
    CodecError,
    frame_encode,
    frame_parse_many,
    section_decode,
    section_encode,
    settings_encode,
)
from pywebtransport._words import peer_text, redacted
from pywebtransport.config import ClientConfig, ProxyConfig
from pywebtransport.constants import (
    ALPN_H3,
    H3_FRAME_TYPE_HEADERS,
    H3_FRAME_TYPE_SETTINGS,
    H3_STREAM_TYPE_CONTROL,
    USER_AGENT_HEADER,
)
from pywebtransport.exceptions import ConfigurationError, HandshakeError
from pywebtransport.types import Address

__all__ = ["perform_proxy_handshake"]

MAX_ANSWER = 65536
"""Bytes of the proxy's answer that are looked at."""
OK = 200


async def perform_proxy_handshake(
    *, config: ClientConfig, target_host: str, target_port: int
) -> Address:
    """The address to which packets for the target go.

    Args:
        config: Its ``proxy`` names the proxy; the proxy's certificate is verified as a server's is.
        target_host: As the proxy is to resolve it.
        target_port: 1..65535.

    Raises:
        ConfigurationError: There is no proxy, or its URL has no host and port.
        HandshakeError: The proxy did not answer with 200.
        asyncio.TimeoutError: It did not answer within ``proxy.connect_timeout``.
    """
    proxy = config.proxy
    if proxy is None:
        raise ConfigurationError("no proxy is configured", config_key="proxy", config_value=None)
    host, port = _parse(proxy)
    name = f"[{target_host}]" if ":" in target_host else target_host
    fields = {
        ":method": "CONNECT",
        ":authority": f"{name}:{target_port}",
        USER_AGENT_HEADER: config.user_agent,
        **{key.lower(): value for key, value in proxy.headers.items()},
    }
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[ALPN_H3],
        server_name=host,
        verify_mode=client_verify_mode(config),
    )
    if config.ca_certs:
        configuration.load_verify_locations(config.ca_certs)
    try:
        async with (
            asyncio.timeout(proxy.connect_timeout),
            connect(
                host, port, configuration=configuration, create_protocol=ProxyProtocol
            ) as protocol,
        ):
            assert isinstance(protocol, ProxyProtocol)
            status = await protocol.request(fields)
            address = protocol.peer_address
    except TimeoutError as error:
        raise TimeoutError(
            f"the proxy {host}:{port} did not answer within {proxy.connect_timeout} s"
        ) from error
    except (OSError, CodecError) as error:
        raise HandshakeError(
            f"the proxy {host}:{port} cannot be used: {error}", handshake_stage="proxy"
        ) from error
    if status != OK:
        raise HandshakeError(f"Proxy returned status {status}", handshake_stage="proxy")
    return address


class ProxyProtocol(QuicConnectionProtocol):
    """One HTTP/3 request on one connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stream_id = -1
        self._answer = bytearray()
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def peer_address(self) -> Address:
        """Of the proxy."""
        return plain_address(self._quic._network_paths[0].addr)

    async def request(self, fields: Mapping[str, str]) -> int:
        """Send a request; the status of the answer."""
        control = self._quic.get_next_available_stream_id(is_unidirectional=True)
        settings = frame_encode(H3_FRAME_TYPE_SETTINGS, settings_encode({}))
        self._quic.send_stream_data(control, bytes((H3_STREAM_TYPE_CONTROL,)) + settings)
        self._stream_id = self._quic.get_next_available_stream_id()
        section = section_encode([(key.encode(), value.encode()) for key, value in fields.items()])
        self._quic.send_stream_data(self._stream_id, frame_encode(H3_FRAME_TYPE_HEADERS, section))
        self.transmit()
        return await self._status

    def quic_event_received(self, event: QuicEvent) -> None:
        """Called by aioquic."""
        if isinstance(event, StreamDataReceived) and event.stream_id == self._stream_id:
            self._answer += event.data
            self._look(is_end=event.end_stream)
        elif isinstance(event, StreamReset) and event.stream_id == self._stream_id:
            self._fail(f"it reset the request with code {event.error_code:#x}")
        elif isinstance(event, ConnectionTerminated):
            self._fail(
                peer_text(event.reason_phrase)
                if event.reason_phrase
                else f"it closed with code {event.error_code:#x}"
            )

    def _look(self, *, is_end: bool) -> None:
        if self._status.done():
            return
        try:
            for kind, payload in frame_parse_many(bytes(self._answer)):
                if kind == H3_FRAME_TYPE_HEADERS:
                    status = dict(section_decode(payload)).get(b":status", b"")
                    self._status.set_result(int(status))
                    return
        except (CodecError, ValueError) as error:
            self._fail(f"its answer is malformed: {error}")
            return
        if is_end or len(self._answer) > MAX_ANSWER:
            self._fail("it gave no answer")

    def _fail(self, reason: str) -> None:
        if not self._status.done():
            self._status.set_exception(OSError(reason))


def _parse(proxy: ProxyConfig) -> Address:
    try:
        parts = urlsplit(proxy.url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigurationError(
            f"the proxy's URL needs a host and a port, it is {redacted(proxy.url)!r}",
            config_key="proxy.url",
            config_value=redacted(proxy.url),
        )
    return host, port
