"""Connections whose packets a server of ``aioquic.asyncio`` brings.

That server makes a plain QuicConnection for each client; the engine needs its own, with the same
ids. The socket stays the server's.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent

from pywebtransport._engine.aioquic import create_quic, inbound_limits
from pywebtransport._engine.aioquic_connection import AioquicConnection
from pywebtransport._engine.aioquic_endpoint import Endpoint
from pywebtransport._engine.aioquic_quic import Quic
from pywebtransport._engine.base import CloseInfo
from pywebtransport._engine.driver import core_config
from pywebtransport._engine.rules import HANDSHAKE_TIMEOUT

if TYPE_CHECKING:
    from pywebtransport.config import ServerConfig

__all__ = ["CarriedConnection", "ObservedQuic"]


class ObservedQuic(Quic):
    """Shows each event to somebody before the engine takes it."""

    on_event: Callable[[QuicEvent], None]

    def next_event(self) -> QuicEvent | None:
        event = super().next_event()
        if event is not None:
            self.on_event(event)
        return event

    def come_apart(self) -> None:
        """Not while aioquic's protocol has it too."""


class _BorrowedEndpoint(Endpoint):
    """A socket that is not the engine's to close."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        super().__init__(transport.get_extra_info("socket"))
        self._transport = transport

    def send(self, data: bytes, address: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            super().send(data, address)

    def close(self) -> None:
        self._transport = None


class CarriedConnection(AioquicConnection):
    """``EngineConnection`` in the place of a QuicConnection that aioquic's server has made."""

    def __init__(
        self,
        *,
        plain: QuicConnection,
        config: ServerConfig,
        serves_requests: bool,
        transport: asyncio.DatagramTransport,
        on_event: Callable[[QuicEvent], None],
        on_handshake: Callable[[AioquicConnection], None],
        on_gone: Callable[[AioquicConnection], None],
        on_connection_id: Callable[[AioquicConnection, bytes, bool], None],
    ) -> None:
        configuration = copy.copy(plain.configuration)
        configuration.alpn_protocols = configuration.alpn_protocols or config.alpn_protocols
        configuration.max_datagram_frame_size = config.max_datagram_size
        self.quic = cast(
            ObservedQuic,
            create_quic(
                config,
                configuration,
                plain.original_destination_connection_id,
                plain._retry_source_connection_id,
                kind=ObservedQuic,
            ),
        )
        self.quic.on_event = on_event
        super().__init__(
            quic=self.quic,
            core_config=core_config(config, is_client=False, serves_requests=serves_requests),
            limits=inbound_limits(config, HANDSHAKE_TIMEOUT),
            endpoint=_BorrowedEndpoint(transport),
            on_handshake=on_handshake,
            on_gone=on_gone,
            on_connection_id=on_connection_id,
        )

    def flush(self) -> None:
        """Send what there is to send, now."""
        self._flush()

    def lose(self, reason: str) -> None:
        """The socket is gone."""
        self._end(CloseInfo(0, reason, "transport", is_application=False))
        self.leave()
