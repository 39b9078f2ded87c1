"""Loss recovery of the aioquic engine: aioquic's, with bursts for coarse timers and a count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery

__all__ = ["MAX_BURST", "Pacer", "Recovery"]

TIMER_PRECISION = 0.001
"""Seconds that event loops count in."""
MAX_BURST = 64
"""Packets in a row, on the fastest path: a few milliseconds in which the loop does nothing else."""


class Pacer(QuicPacketPacer):
    """Its bursts last as long as the event loop's timers are coarse (RFC 9002 §7.7).

    aioquic's are of 16 packets at most, and the shorter the larger the congestion window is.
    """

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(congestion_window, smoothed_rtt)
        self.packet_time = self._max_datagram_size * smoothed_rtt / congestion_window
        burst = min(TIMER_PRECISION, MAX_BURST * self.packet_time)
        self.bucket_max = max(self.bucket_max, burst)


class Recovery(QuicPacketRecovery):
    """Loss recovery that counts what it declares lost."""

    packets_lost = 0
    bytes_lost = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pacer = Pacer(max_datagram_size=options["max_datagram_size"])

    @property
    def min_rtt(self) -> float | None:
        """Seconds; None before the first round trip."""
        return self._rtt_min if self._rtt_initialized else None

    @property
    def rtt_variation(self) -> float | None:
        """Seconds; None before the first round trip."""
        return self._rtt_variance if self._rtt_initialized else None

    def _on_packets_lost(self, *, packets: Iterable[QuicSentPacket], **details: Any) -> None:
        lost = list(packets)
        self.packets_lost += len(lost)
        self.bytes_lost += sum(packet.sent_bytes for packet in lost)
        super()._on_packets_lost(packets=lost, **details)
